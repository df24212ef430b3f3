"""A libvirt network a subnet: DHCP gives each guest its assigned address, and NAT on the node takes it to the world."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import IPv4Address
from typing import Final, Protocol

import structlog

from agent.domainxml.element import format_document, parse_document
from agent.errors import (
    AgentError,
    CapabilityMissing,
    HypervisorUnavailable,
    NetworkConflict,
    RequestInvalid,
    SubnetNotFound,
)
from agent.hypervisor.network import Networks, NetworkState
from agent.network.base import NetworkSource, Port, Subnet
from agent.network.dhcp_release import ReleaseRequest, send_release
from agent.network.element import (
    Network,
    build_network,
    describe_host,
    describe_hosts,
    identify_network,
    name_network,
)
from agent.network.journal import PortJournal
from agent.network.leftover import remove_leftover_bridge

SendRelease = Callable[[ReleaseRequest, str], None]
RemoveLeftover = Callable[[str], Awaitable[bool]]

_LARGEST_PREFIX: Final = 30


class PacketFilter(Protocol):
    """The node's rules for the networks of guests."""

    async def apply(self, subnets: Iterable[Subnet]) -> None:
        """The rules are those of these networks."""

    async def is_intact(self) -> bool:
        """Whether the rules are those that were last applied: somebody else may have flushed them."""
        ...


log = structlog.get_logger(__name__)


class NatBackend:
    """Ports on libvirt networks behind NAT. One change at a time: they are quick, and they share networks."""

    def __init__(
        self,
        networks: Networks,
        journal: PortJournal,
        packet_filter: PacketFilter,
        *,
        send_release: SendRelease = send_release,
        remove_leftover: RemoveLeftover = remove_leftover_bridge,
    ) -> None:
        self._networks = networks
        self._journal = journal
        self._filter = packet_filter
        self._send_release = send_release
        self._remove_leftover = remove_leftover
        self._changes = asyncio.Lock()
        # Whose rules the filter was given; None: nobody knows.
        self._filtered: frozenset[Subnet] | None = None

    def prepare(self) -> None:
        """The ports of the last run are known."""
        self._journal.prepare()

    async def ensure_port(self, port: Port) -> Port:
        """See NetworkBackend. Raises RequestInvalid, NetworkConflict."""
        _check(port)
        async with self._changes:
            self._refuse_taken(port)
            former = self._journal.find(port.port_id)
            if former is not None and _address(former) != _address(port):
                await self._remove(former)
            await asyncio.to_thread(self._journal.put, port)
            await self._ensure_network(port.subnet, port)
            return port

    async def ensure_port_removed(self, port_id: str) -> None:
        """See NetworkBackend."""
        async with self._changes:
            port = self._journal.find(port_id)
            if port is not None:
                await self._remove(port)
            with contextlib.suppress(CapabilityMissing):  # without a filter there are no rules to take back
                await self._ensure_filter()

    async def list_ports(self) -> list[Port]:
        """See NetworkBackend."""
        return self._journal.ports()

    async def describe_subnet(self, subnet_id: str) -> NetworkSource:
        """See NetworkBackend."""
        if not self._journal.ports_of(subnet_id):
            raise SubnetNotFound(f"no port of subnet {subnet_id} is on this node")
        return NetworkSource(name_network(subnet_id))

    async def restore(self) -> None:
        """Every network that a port needs is up and knows its ports; what cannot be is logged.

        Raises HypervisorUnavailable.
        """
        async with self._changes:
            self._filtered = None
            try:
                await self._ensure_filter()
            except AgentError as error:
                log.warning("network.filter_not_restored", reason=error.message)
            for port in self._journal.ports():
                try:
                    await self._ensure_network(port.subnet, port)
                except HypervisorUnavailable:
                    raise
                except AgentError as error:
                    log.warning("network.not_restored", port_id=port.port_id, reason=error.message)

    async def ensure_filter(self) -> None:
        """The rules of the networks that there are were not flushed, or are back; what cannot be is logged."""
        async with self._changes:
            if not self._journal.subnets():
                return
            try:
                await self._ensure_filter()
            except AgentError as error:
                log.warning("network.filter_not_restored", reason=error.message)

    async def _ensure_network(self, subnet: Subnet, port: Port) -> None:
        name = name_network(subnet.subnet_id)
        state = await self._find_own(subnet.subnet_id)
        if state is None:
            hosts = describe_hosts(self._journal.ports_of(subnet.subnet_id))
            await self._networks.define(format_document(build_network(subnet, hosts)))
        else:
            await self._ensure_definition(state, subnet)
            await self._ensure_host(state, port)
        if state is not None and state.active:
            await self._ensure_filter()
            return
        self._filtered = None
        outcomes = await asyncio.gather(self._activate(name), self._ensure_filter(), return_exceptions=True)
        for failure in filter(None, outcomes):
            raise failure

    async def _activate(self, name: str) -> None:
        try:
            await self._networks.ensure_active(name)
        except NetworkConflict:
            if not await self._remove_leftover(name):
                raise
            await self._networks.ensure_active(name)

    async def _ensure_filter(self) -> None:
        """The rules are those of the networks that have ports. What failed once is made up for by the next call."""
        subnets = self._journal.subnets()
        if self._filtered == frozenset(subnets):
            if await self._filter.is_intact():
                return
            log.warning("network.filter_flushed", networks=len(subnets))
        self._filtered = None
        await self._filter.apply(subnets)
        self._filtered = frozenset(subnets)

    async def _ensure_definition(self, state: NetworkState, subnet: Subnet) -> None:
        """Another gateway, prefix or name server counts from the network's next start: guests keep their link."""
        present = parse_document(Network, state.xml)
        wanted = build_network(subnet, present.hosts)
        if _settings(present) != _settings(wanted):
            await self._networks.define(format_document(wanted))

    async def _ensure_host(self, state: NetworkState, port: Port) -> None:
        mac_address, ip_address = port.mac_address, str(port.ip_address)
        present = parse_document(Network, state.xml).hosts
        # The port's own, or left by a crash: nobody else in the journal has these addresses.
        former = [host for host in present if host.mac == mac_address or host.ip == ip_address]
        wanted = describe_host(port, (host for host in present if host not in former))
        if former == [wanted]:
            return
        for host in former:
            await self._networks.remove_dhcp_host(state.name, format_document(host))
        await self._networks.add_dhcp_host(state.name, format_document(wanted))

    async def _remove(self, port: Port) -> None:
        subnet_id = port.subnet.subnet_id
        try:
            state = await self._find_own(subnet_id)
        except NetworkConflict:  # a stranger's network has nothing of ours
            state = None
        if state is not None:
            others = [other for other in self._journal.ports_of(subnet_id) if other.port_id != port.port_id]
            if others:
                await self._remove_host(state, port)
                await self._release_lease(state, port)
            else:
                await self._networks.remove(state.name)
        await asyncio.to_thread(self._journal.remove, port.port_id)

    async def _remove_host(self, state: NetworkState, port: Port) -> None:
        for host in parse_document(Network, state.xml).hosts:
            if (host.mac, host.ip) == (port.mac_address, str(port.ip_address)):
                await self._networks.remove_dhcp_host(state.name, format_document(host))

    async def _release_lease(self, state: NetworkState, port: Port) -> None:
        for lease in await self._networks.list_leases(state.name):
            if lease.ip_address != str(port.ip_address):
                continue
            request = ReleaseRequest(
                lease.mac_address, IPv4Address(lease.ip_address), port.subnet.gateway_ip, lease.client_id
            )
            try:
                await asyncio.to_thread(self._send_release, request, state.name)
            except OSError as error:  # the lease ends by itself, later
                log.warning("network.lease_not_released", port_id=port.port_id, reason=str(error))

    async def _find_own(self, subnet_id: str) -> NetworkState | None:
        name = name_network(subnet_id)
        state = await self._networks.find(name)
        if state is not None and state.uuid != identify_network(subnet_id):
            raise NetworkConflict(f"the network {name} was not made for subnet {subnet_id}")
        return state

    def _refuse_taken(self, port: Port) -> None:
        for other in self._journal.ports_of(port.subnet.subnet_id):
            if other.port_id == port.port_id:
                continue
            if other.mac_address == port.mac_address or other.ip_address == port.ip_address:
                raise NetworkConflict(f"port {other.port_id} has {other.mac_address} and {other.ip_address}")


def _address(port: Port) -> tuple[str, str, IPv4Address]:
    return port.subnet.subnet_id, port.mac_address, port.ip_address


def _settings(network: Network) -> tuple[object, ...]:
    """What a definition says, but for its DHCP hosts."""
    ip = dataclasses.replace(network.ip, dhcp=None) if network.ip else None
    return network.forward and network.forward.mode, ip, network.dnsmasq


def _check(port: Port) -> None:
    cidr, gateway_ip = port.subnet.cidr, port.subnet.gateway_ip
    if cidr.prefixlen > _LARGEST_PREFIX:
        raise RequestInvalid(f"cidr: {cidr} has no room for guests")
    for name, address in (("gateway_ip", gateway_ip), ("ip_address", port.ip_address)):
        if address not in cidr or address in (cidr.network_address, cidr.broadcast_address):
            raise RequestInvalid(f"{name}: {address} is no host address of {cidr}")
    if port.ip_address == gateway_ip:
        raise RequestInvalid(f"ip_address: {port.ip_address} is the gateway's")
