"""libvirt's network elements, and the network of a subnet built from them.

Source: https://libvirt.org/formatnetwork.html.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Final
from uuid import UUID, uuid5

from agent.domainxml.element import Element, attribute, child, children, text_child
from agent.network.base import Port, Subnet

# A network of ours has a UUID that follows from its subnet: so it is told from a stranger's network of the same name.
_NETWORK_UUIDS: Final = UUID("6f1a9a0c-4f0c-5c1e-9a52-2d1b1f6d9c3e")
_NAME_PREFIX: Final = "nw-"
# The kernel allows 15 characters in the name of a bridge.
_NAME_DIGITS: Final = 12


@dataclass(frozen=True)
class Forward(Element, tag="forward"):
    """How packets leave the network."""

    mode: str = attribute("mode")


@dataclass(frozen=True)
class Bridge(Element, tag="bridge"):
    """The bridge that guests are plugged into."""

    name: str = attribute("name")
    # Nothing but guests is plugged in, so there are no loops; with it each guest would be heard of 4 s late.
    stp: str = attribute("stp", default="off")
    delay: str = attribute("delay", default="0")


@dataclass(frozen=True)
class DhcpHost(Element, tag="host"):
    """A fixed address for a network card."""

    mac: str = attribute("mac")
    name: str | None = attribute("name", default=None)
    ip: str = attribute("ip", default="")


@dataclass(frozen=True)
class Dhcp(Element, tag="dhcp"):
    """The DHCP server: it has no range, so it serves these hosts and nobody else."""

    hosts: tuple[DhcpHost, ...] = children(DhcpHost)


@dataclass(frozen=True)
class IpAddress(Element, tag="ip"):
    """The node's address in the network, and DHCP there."""

    family: str = attribute("family", default="ipv4")
    address: str = attribute("address", default="")
    prefix: int | None = attribute("prefix", int, default=None)
    dhcp: Dhcp | None = child(Dhcp, default=None)


_DNSMASQ_NAMESPACE: Final = "http://libvirt.org/schemas/network/dnsmasq/1.0"


@dataclass(frozen=True)
class DnsmasqOption(Element, tag="option", namespace=_DNSMASQ_NAMESPACE):
    """A line of dnsmasq's configuration that libvirt has no word for."""

    PREFIX: ClassVar[str] = "dnsmasq"
    value: str = attribute("value")


@dataclass(frozen=True)
class DnsmasqOptions(Element, tag="options", namespace=_DNSMASQ_NAMESPACE):
    """Lines of dnsmasq's configuration."""

    PREFIX: ClassVar[str] = "dnsmasq"
    options: tuple[DnsmasqOption, ...] = children(DnsmasqOption)


@dataclass(frozen=True)
class Network(Element, tag="network"):
    """A virtual network."""

    name: str = text_child("name")
    uuid: str = text_child("uuid")
    forward: Forward | None = child(Forward, default=None)
    bridge: Bridge | None = child(Bridge, default=None)
    ip: IpAddress | None = child(IpAddress, default=None)
    dnsmasq: DnsmasqOptions | None = child(DnsmasqOptions, default=None)

    @property
    def hosts(self) -> tuple[DhcpHost, ...]:
        """The hosts that DHCP serves."""
        return self.ip.dhcp.hosts if self.ip and self.ip.dhcp else ()


def name_network(subnet_id: str) -> str:
    """The name of a subnet's network, and of its bridge: readable, at most 15 characters."""
    tail = subnet_id.rpartition("-")[2]
    if len(tail) >= _NAME_DIGITS and tail.isascii() and tail.isalnum():
        return _NAME_PREFIX + tail[-_NAME_DIGITS:].lower()
    return _NAME_PREFIX + hashlib.sha256(subnet_id.encode()).hexdigest()[:_NAME_DIGITS]


def identify_network(subnet_id: str) -> str:
    """The UUID of a subnet's network."""
    return str(uuid5(_NETWORK_UUIDS, subnet_id))


def describe_host(port: Port, others: Iterable[DhcpHost]) -> DhcpHost:
    """The DHCP entry of a port beside others: libvirt takes a host name only once, so the second goes without."""
    taken = {host.name.lower() for host in others if host.name}
    name = port.hostname if port.hostname and port.hostname.lower() not in taken else None
    return DhcpHost(mac=port.mac_address, name=name, ip=str(port.ip_address))


def describe_hosts(ports: Iterable[Port]) -> tuple[DhcpHost, ...]:
    """The DHCP entries of all ports of a subnet."""
    hosts: list[DhcpHost] = []
    for port in ports:
        hosts.append(describe_host(port, hosts))
    return tuple(hosts)


def build_network(subnet: Subnet, hosts: tuple[DhcpHost, ...]) -> Network:
    """The network of a subnet: libvirt makes bridge, DHCP and DNS, and leaves the packet filter to us."""
    name = name_network(subnet.subnet_id)
    dhcp = Dhcp(hosts)
    return Network(
        name=name,
        uuid=identify_network(subnet.subnet_id),
        forward=Forward(mode="open"),
        bridge=Bridge(name=name),
        ip=IpAddress(address=str(subnet.gateway_ip), prefix=subnet.cidr.prefixlen, dhcp=dhcp),
        dnsmasq=_name_servers(subnet),
    )


def _name_servers(subnet: Subnet) -> DnsmasqOptions | None:
    if not subnet.dns_ips:
        return None
    addresses = ",".join(str(address) for address in subnet.dns_ips)
    return DnsmasqOptions((DnsmasqOption(f"dhcp-option=option:dns-server,{addresses}"),))
