"""What a way of connecting guests offers to the rest of the agent."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Protocol


@dataclass(frozen=True)
class NetworkSource:
    """Where a domain's network interface is plugged in."""

    # Name of the libvirt network.
    name: str


@dataclass(frozen=True)
class Subnet:
    """A range of addresses, which is one virtual network on the node."""

    subnet_id: str
    cidr: IPv4Network
    # Address of the node in the subnet.
    gateway_ip: IPv4Address
    # Name servers given by DHCP; empty: the gateway forwards.
    dns_ips: tuple[IPv4Address, ...] = ()


@dataclass(frozen=True)
class Port:
    """A guest's place in a subnet; MAC and IP are assigned by the coordinator."""

    port_id: str
    subnet: Subnet
    mac_address: str
    ip_address: IPv4Address
    hostname: str


class NetworkBackend(Protocol):
    """Keeps ports by id; `ensure_…` may be repeated at any time, also after a crash in its middle."""

    async def ensure_port(self, port: Port) -> Port:
        """The subnet's network is active, and DHCP gives the port's MAC address its IP address."""
        ...

    async def ensure_port_removed(self, port_id: str) -> None:
        """No trace of the port is left; the network goes with its last port. Absence is success."""
        ...

    async def list_ports(self) -> list[Port]:
        """All ports of the node."""
        ...

    async def describe_subnet(self, subnet_id: str) -> NetworkSource:
        """The network of a subnet that has ports. Raises SubnetNotFound."""
        ...
