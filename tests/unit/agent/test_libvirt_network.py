"""Calls to libvirt about networks: what its failures become."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import libvirt
import pytest

from agent.errors import DomainDefinitionInvalid, HypervisorFailed, NetworkConflict, NetworkNotFound
from agent.hypervisor.connection import Connection
from agent.hypervisor.network import Networks
from tests.unit.agent.network_builder import a_libvirt

XML = "<network><name>nw-a</name><ip address='10.9.0.1' prefix='24'><dhcp/></ip></network>"
HOST = "<host mac='52:54:00:00:00:01' ip='10.9.0.2'/>"


@pytest.fixture
async def connection(tmp_path: Path) -> AsyncIterator[Connection]:
    async with a_libvirt(tmp_path) as connection:
        yield connection


@pytest.fixture
def networks(connection: Connection) -> Networks:
    return Networks(connection)


async def test_a_network_is_defined_started_and_removed(networks: Networks, connection: Connection) -> None:
    assert await networks.find("nw-a") is None
    await networks.define(XML)
    state = await networks.find("nw-a")
    assert state is not None
    assert (state.name, state.active) == ("nw-a", False)
    assert await connection.call(lambda handle: handle.networkLookupByName("nw-a").autostart()) == 1
    for _ in range(2):
        await networks.ensure_active("nw-a")
    state = await networks.find("nw-a")
    assert state is not None
    assert state.active
    for _ in range(2):
        await networks.remove("nw-a")
    assert await networks.find("nw-a") is None


async def test_hosts_of_dhcp_may_change_while_the_network_is_down(networks: Networks) -> None:
    await networks.define(XML)
    await networks.add_dhcp_host("nw-a", HOST)
    state = await networks.find("nw-a")
    assert state is not None
    assert "10.9.0.2" in state.xml
    await networks.remove_dhcp_host("nw-a", HOST)
    state = await networks.find("nw-a")
    assert state is not None
    assert "10.9.0.2" not in state.xml


async def test_a_network_that_is_not_there_is_told(networks: Networks) -> None:
    with pytest.raises(NetworkNotFound, match="nw-a"):
        await networks.ensure_active("nw-a")
    with pytest.raises(NetworkNotFound, match="nw-a"):
        await networks.add_dhcp_host("nw-a", HOST)
    assert await networks.list_leases("nw-a") == []


async def test_where_the_driver_cannot_tell_there_are_no_leases(networks: Networks) -> None:
    await networks.define(XML)
    await networks.ensure_active("nw-a")
    assert await networks.list_leases("nw-a") == []


async def test_leases_are_those_of_libvirt(networks: Networks, monkeypatch: pytest.MonkeyPatch) -> None:
    leases = [
        {"mac": "52:54:00:00:00:01", "ipaddr": "10.9.0.2", "clientid": "ff:00:01"},
        {"mac": "52:54:00:00:00:02", "ipaddr": "10.9.0.3", "clientid": None},
    ]
    await networks.define(XML)
    monkeypatch.setattr(libvirt.virNetwork, "DHCPLeases", lambda _network: leases)
    found = await networks.list_leases("nw-a")
    assert [(lease.mac_address, lease.ip_address, lease.client_id) for lease in found] == [
        ("52:54:00:00:00:01", "10.9.0.2", "ff:00:01"),
        ("52:54:00:00:00:02", "10.9.0.3", ""),
    ]


async def test_a_name_that_is_taken_is_a_conflict(networks: Networks) -> None:
    await networks.define(XML.replace("<ip", "<uuid>11111111-2222-3333-4444-555555555555</uuid><ip"))
    with pytest.raises(NetworkConflict, match="already exists"):
        await networks.define(XML.replace("<ip", "<uuid>66666666-2222-3333-4444-555555555555</uuid><ip"))


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("internal error: Network is already in use by interface eth0", NetworkConflict),
        ("internal error: dnsmasq failed", HypervisorFailed),
    ],
)
async def test_a_network_that_cannot_be_started_is_told(
    networks: Networks, monkeypatch: pytest.MonkeyPatch, message: str, kind: type[Exception]
) -> None:
    def fail(_network: object) -> None:
        error = libvirt.libvirtError("")
        error.err = (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_NETWORK, message, 0, "", None, None, 0, 0)
        raise error

    await networks.define(XML)
    monkeypatch.setattr(libvirt.virNetwork, "create", fail)
    with pytest.raises(kind, match=message.partition(": ")[2]):
        await networks.ensure_active("nw-a")


async def test_what_is_no_network_is_refused(networks: Networks) -> None:
    with pytest.raises(DomainDefinitionInvalid):
        await networks.define("<network")
