"""Which of the node's addresses serves what: management, migrations and volumes, guests.

A role is configured as the name of an interface or as a network, of which the node has an address; nothing is kept, for
addresses come and go.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_network
from typing import Final

import psutil

from agent.config import AgentConfig, split_address
from agent.errors import NetworkRoleMissing
from agent.identity import Membership

MANAGE: Final = "manage"
ROLES: Final = (MANAGE, "storage", "business")

AddressReader = Callable[[], Mapping[str, list[str]]]


def read_addresses() -> dict[str, list[str]]:
    """The addresses of each interface, those of a link alone left out."""
    families = (socket.AF_INET, socket.AF_INET6)
    return {
        name: [item.address for item in items if item.family in families and "%" not in item.address]
        for name, items in psutil.net_if_addrs().items()
    }


class NetworkRoles:
    """The node's address in each network."""

    def __init__(
        self,
        wanted: Mapping[str, str],
        read_default: Callable[[], str],
        *,
        read: AddressReader = read_addresses,
    ) -> None:
        """`wanted` by role: an interface or a network; empty: as "manage", and of that what `read_default` answers."""
        self._wanted = wanted
        self._read_default = read_default
        self._read = read

    def address(self, role: str) -> str:
        """The node's address in this network. Raises NetworkRoleMissing."""
        if role not in ROLES:
            raise NetworkRoleMissing(f"network_role: {role} is none of {', '.join(ROLES)}")
        wanted = self._wanted.get(role) or self._wanted.get(MANAGE)
        if not wanted:
            return self._default()
        interfaces = self._read()
        if wanted in interfaces:
            found = interfaces[wanted]
        else:
            found = [address for items in interfaces.values() for address in items if _is_within(address, wanted)]
        if found:
            return found[0]
        raise NetworkRoleMissing(f"{role}_network: this node has no address in {wanted}")

    def addresses(self) -> dict[str, str]:
        """The address of every role that has one."""
        found = {}
        for role in ROLES:
            try:
                found[role] = self.address(role)
            except NetworkRoleMissing:
                continue
        return found

    def _default(self) -> str:
        try:
            return self._read_default()
        except OSError as error:
            raise NetworkRoleMissing(f"manage_network: no way to the coordinator ({error})") from error


def find_own_address(config: AgentConfig, membership: Membership) -> str:
    """The address that the agent listens on, else that of the way to the coordinator. Raises OSError."""
    listen_host, _ = split_address("listen", config.listen)
    if listen_host not in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return listen_host
    address, *_ = (config.coordinator_address or membership.coordinator_address).split(",")
    return _address_towards(*split_address("coordinator_address", address))


def _address_towards(host: str, port: int) -> str:
    """The address of this node on its way to another; nothing is sent to find it. Raises OSError."""
    family, _, _, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(target)
        own: str = probe.getsockname()[0]
    return own


def _is_within(address: str, network: str) -> bool:
    try:
        return ip_address(address) in ip_network(network, strict=False)
    except ValueError:
        return False
