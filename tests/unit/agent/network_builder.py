"""Subnets and ports, and a libvirt whose networks run nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any
from unittest.mock import patch

import libvirt

from agent.domainxml.element import parse_document
from agent.hypervisor.connection import Connection
from agent.network.base import Port, Subnet
from agent.network.element import Network
from agent.network.firewall import build_rules

SUBNET_ID = "snet-2j328au50t3tjwa9zp12"
NETWORK = "nw-0t3tjwa9zp12"
_read_xml = libvirt.virNetwork.XMLDesc


def a_subnet(**changes: Any) -> Subnet:
    """10.80.0.0/24."""
    subnet = Subnet(SUBNET_ID, IPv4Network("10.80.0.0/24"), IPv4Address("10.80.0.1"))
    return replace(subnet, **changes)


def a_port(number: int = 1, **changes: Any) -> Port:
    """The port of a guest "web-NUMBER" in `a_subnet`."""
    port = Port(
        port_id=f"port-{number}",
        subnet=a_subnet(),
        mac_address=f"52:54:00:00:00:{number:02x}",
        ip_address=IPv4Address("10.80.0.10") + number,
        hostname=f"web-{number}",
    )
    return replace(port, **changes)


@asynccontextmanager
async def a_libvirt(directory: Path) -> AsyncIterator[Connection]:
    """libvirt's test driver with a node that has nothing."""
    node = directory / "node.xml"
    node.write_text("<node/>")
    connection = Connection(f"test://{node}", worker_count=2, guest_agent_worker_count=1)
    await connection.open()
    # The driver does not know VIR_NETWORK_XML_INACTIVE.
    with patch.object(libvirt.virNetwork, "XMLDesc", lambda network, _flags=0: _read_xml(network)):
        try:
            yield connection
        finally:
            await connection.close()


async def read_networks(connection: Connection) -> dict[str, Network]:
    """The definitions of the networks that are up; AssertionError when one is not, or would not be after a boot."""

    def read(handle: libvirt.virConnect) -> dict[str, Network]:
        found = {}
        for network in handle.listAllNetworks():
            assert (network.isActive(), network.isPersistent(), network.autostart()) == (1, 1, 1), network.name()
            found[network.name()] = parse_document(Network, network.XMLDesc())
        return found

    return await connection.call(read)


class RecordingFilter:
    """Instead of the kernel's packet filter: the rules that it would have."""

    def __init__(self) -> None:
        self.rules = ""
        self.changes = 0
        self._applied = ""

    async def apply(self, subnets: Iterable[Subnet]) -> None:
        """See agent.network.nat.PacketFilter."""
        await asyncio.sleep(0)
        self.rules = self._applied = build_rules(subnets)
        self.changes += 1

    async def is_intact(self) -> bool:
        """See agent.network.nat.PacketFilter."""
        return self.rules == self._applied
