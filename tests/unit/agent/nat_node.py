"""A node with NAT networks: libvirt's test driver, a real journal, and no kernel behind the packet filter."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import libvirt

from agent.hypervisor.connection import Connection
from agent.hypervisor.network import DhcpLease, Networks
from agent.network.dhcp_release import ReleaseRequest
from agent.network.journal import PortJournal
from agent.network.nat import NatBackend
from tests.unit.agent.network_builder import NETWORK, RecordingFilter, a_subnet, read_networks

OTHER_SUBNET = a_subnet(
    subnet_id="snet-000000000000other002", cidr=IPv4Network("10.81.0.0/24"), gateway_ip=IPv4Address("10.81.0.1")
)
OTHER_NETWORK = "nw-0000other002"


class LeasingNetworks(Networks):
    """Networks whose DHCP server tells leases, which the test driver cannot."""

    leases: tuple[DhcpLease, ...] = ()

    async def list_leases(self, name: str) -> list[DhcpLease]:
        """The leases of the test."""
        assert (await self.find(name)) is not None
        return list(self.leases)


class NatNode:
    """A node with a real libvirt and a real journal."""

    def __init__(self, connection: Connection, directory: Path) -> None:
        self.connection = connection
        self.directory = directory / "ports"
        self.networks: Any = LeasingNetworks(connection)
        self.filter: Any = RecordingFilter()
        self.released: list[tuple[ReleaseRequest, str]] = []
        self.release_failure: OSError | None = None
        self.restart()

    def restart(self) -> None:
        """The agent ends and begins; libvirt goes on."""
        self.backend = NatBackend(self.networks, PortJournal(self.directory), self.filter, send_release=self.release)
        self.backend.prepare()

    def release(self, request: ReleaseRequest, bridge: str) -> None:
        """Instead of a packet to the DHCP server."""
        if self.release_failure is not None:
            raise self.release_failure
        self.released.append((request, bridge))

    async def hosts(self, network: str = NETWORK) -> list[tuple[str, str, str | None]]:
        """MAC, IP and name of everybody whom DHCP serves."""
        found = (await read_networks(self.connection))[network].hosts
        return [(host.mac, host.ip, host.name) for host in found]

    async def state(self) -> tuple[object, ...]:
        """All that a port leaves on a node."""
        files = {path.name: path.read_bytes() for path in self.directory.iterdir()}
        return await read_networks(self.connection), files, self.filter.rules, await self.backend.list_ports()

    async def touch(self, method: str, *arguments: Any, network: str = NETWORK) -> None:
        """A person calls libvirt."""

        def run(handle: libvirt.virConnect) -> None:
            getattr(handle.networkLookupByName(network), method)(*arguments)

        await self.connection.call(run)

    async def define(self, xml: str) -> None:
        """A person defines a network."""
        await self.connection.call(lambda handle: handle.networkDefineXML(xml).name())
