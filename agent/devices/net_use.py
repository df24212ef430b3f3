"""What the host itself does with network interfaces."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from agent.facts.sysfs import Sysfs

_NETS = "class/net"


@dataclass(frozen=True)
class NetUse:
    """What the node knows of its networks."""

    # Addresses with prefix length, by interface.
    addresses: Mapping[str, Sequence[str]] = field(default_factory=dict)
    # Networks of the node ("manage", "storage") by the address, without prefix length, that it has in them.
    roles: Mapping[str, str] = field(default_factory=dict)


def describe_host_use(use: NetUse, name: str, uppers: Sequence[str]) -> str:
    """What the host does with an interface and those above it; empty: nothing.

    A link-local address alone is no use: every one has it.
    """
    users = [name, *uppers]
    addresses = [address for user in users for address in use.addresses.get(user, ()) if not _is_link_local(address)]
    for address in addresses:
        if role := use.roles.get(address.partition("/")[0]):
            return f"carries the host's network {role} ({address})"
    if addresses:
        return f"has the host's address {addresses[0]}"
    return f"is part of {users[1]}" if len(users) > 1 else ""


def find_uppers(sysfs: Sysfs, name: str) -> Iterator[str]:
    """Bonds, bridges, VLANs and others above it. Source: Documentation/ABI/testing/sysfs-class-net, "upper_<>"."""
    for entry in sysfs.names(f"{_NETS}/{name}"):
        if entry.startswith("upper_"):
            upper = entry.removeprefix("upper_")
            yield upper
            yield from find_uppers(sysfs, upper)


def _is_link_local(address: str) -> bool:
    return ipaddress.ip_interface(address).is_link_local
