"""Ports on NAT networks, on libvirt's test driver."""

from __future__ import annotations

from collections.abc import AsyncIterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from agent.errors import NetworkConflict, RequestInvalid, SubnetNotFound
from agent.hypervisor.network import DhcpLease, Networks
from agent.network.base import NetworkSource
from agent.network.dhcp_release import ReleaseRequest
from agent.network.firewall import build_rules
from tests.unit.agent.nat_node import OTHER_NETWORK, OTHER_SUBNET, NatNode
from tests.unit.agent.network_builder import NETWORK, SUBNET_ID, a_libvirt, a_port, a_subnet, read_networks

FOREIGN_XML = f"<network><name>{NETWORK}</name><ip address='10.1.0.1' prefix='24'/></network>"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[NatNode]:
    async with a_libvirt(tmp_path) as connection:
        yield NatNode(connection, tmp_path)


async def test_the_first_port_brings_its_network(node: NatNode) -> None:
    assert await node.backend.ensure_port(a_port()) == a_port()
    networks = await read_networks(node.connection)
    assert list(networks) == [NETWORK]
    network = networks[NETWORK]
    assert network.forward is not None
    assert network.ip is not None
    assert network.bridge is not None
    assert (network.forward.mode, network.bridge.name) == ("open", NETWORK)
    assert (network.ip.address, network.ip.prefix) == ("10.80.0.1", 24)
    assert await node.hosts() == [("52:54:00:00:00:01", "10.80.0.11", "web-1")]
    assert node.filter.rules == build_rules([a_subnet()])
    assert await node.backend.describe_subnet(SUBNET_ID) == NetworkSource(NETWORK)


async def test_more_ports_disturb_neither_the_network_nor_the_filter(node: NatNode) -> None:
    for number in (1, 2, 3):
        await node.backend.ensure_port(a_port(number))
    assert [ip for _, ip, _ in await node.hosts()] == ["10.80.0.11", "10.80.0.12", "10.80.0.13"]
    assert node.filter.changes == 1
    assert await node.backend.list_ports() == [a_port(1), a_port(2), a_port(3)]


async def test_subnets_have_networks_of_their_own(node: NatNode) -> None:
    other = a_port(2, subnet=OTHER_SUBNET, ip_address=IPv4Address("10.81.0.9"))
    for port in (a_port(), other):
        await node.backend.ensure_port(port)
    assert await node.hosts() == [("52:54:00:00:00:01", "10.80.0.11", "web-1")]
    assert await node.hosts(OTHER_NETWORK) == [("52:54:00:00:00:02", "10.81.0.9", "web-2")]
    assert node.filter.rules == build_rules([a_subnet(), OTHER_SUBNET])


async def test_a_port_that_is_there_is_left_as_it_is(node: NatNode) -> None:
    for number in (1, 2):
        await node.backend.ensure_port(a_port(number))
    before = await node.state()
    node.networks = _Refusing(node.networks, "define", "add_dhcp_host", "remove_dhcp_host")
    node.restart()
    await node.backend.ensure_port(a_port(1))
    assert await node.state() == before


async def test_the_network_goes_with_its_last_port(node: NatNode) -> None:
    for number in (1, 2):
        await node.backend.ensure_port(a_port(number))
    await node.backend.ensure_port_removed("port-1")
    assert await node.hosts() == [("52:54:00:00:00:02", "10.80.0.12", "web-2")]
    assert node.filter.changes == 1
    await node.backend.ensure_port_removed("port-2")
    assert await node.state() == ({}, {}, build_rules([]), [])


async def test_absence_is_success(node: NatNode) -> None:
    await node.backend.ensure_port_removed("port-1")
    await node.backend.ensure_port(a_port())
    await node.touch("destroy")
    await node.touch("undefine")
    await node.backend.ensure_port_removed("port-1")
    assert await node.state() == ({}, {}, build_rules([]), [])


async def test_a_subnet_without_ports_is_not_on_the_node(node: NatNode) -> None:
    with pytest.raises(SubnetNotFound, match=SUBNET_ID):
        await node.backend.describe_subnet(SUBNET_ID)


async def test_a_port_may_change_its_address(node: NatNode) -> None:
    for number in (1, 2):
        await node.backend.ensure_port(a_port(number))
    moved = a_port(1, ip_address=IPv4Address("10.80.0.99"))
    await node.backend.ensure_port(moved)
    assert sorted(ip for _, ip, _ in await node.hosts()) == ["10.80.0.12", "10.80.0.99"]
    node.restart()
    assert await node.backend.list_ports() == [moved, a_port(2)]


async def test_a_port_may_change_its_card_and_its_name(node: NatNode) -> None:
    await node.backend.ensure_port(a_port())
    for changes in ({"mac_address": "52:54:00:00:00:aa"}, {"mac_address": "52:54:00:00:00:aa", "hostname": "db"}):
        port = a_port(1, **changes)
        await node.backend.ensure_port(port)
        assert await node.hosts() == [(port.mac_address, "10.80.0.11", port.hostname)]


async def test_a_port_may_move_to_another_subnet(node: NatNode) -> None:
    await node.backend.ensure_port(a_port())
    await node.backend.ensure_port(a_port(1, subnet=OTHER_SUBNET, ip_address=IPv4Address("10.81.0.9")))
    assert list(await read_networks(node.connection)) == [OTHER_NETWORK]
    assert node.filter.rules == build_rules([OTHER_SUBNET])


async def test_of_two_guests_with_one_name_the_second_goes_without(node: NatNode) -> None:
    await node.backend.ensure_port(a_port(1, hostname="web"))
    await node.backend.ensure_port(a_port(2, hostname="WEB"))
    assert [name for _, _, name in await node.hosts()] == ["web", None]
    await node.backend.ensure_port_removed("port-1")
    await node.backend.ensure_port(a_port(2, hostname="WEB"))
    assert [name for _, _, name in await node.hosts()] == ["WEB"]


async def test_a_guest_without_a_name_has_its_address_all_the_same(node: NatNode) -> None:
    await node.backend.ensure_port(a_port(1, hostname=""))
    assert await node.hosts() == [("52:54:00:00:00:01", "10.80.0.11", None)]


@pytest.mark.parametrize(
    "changes", [{"mac_address": "52:54:00:00:00:01"}, {"ip_address": IPv4Address("10.80.0.11")}], ids=["mac", "ip"]
)
async def test_the_address_of_another_port_is_refused(node: NatNode, changes: dict[str, Any]) -> None:
    await node.backend.ensure_port(a_port(1))
    before = await node.state()
    with pytest.raises(NetworkConflict, match="port-1"):
        await node.backend.ensure_port(a_port(2, **changes))
    assert await node.state() == before


async def test_subnets_may_use_the_same_addresses_for_their_cards(node: NatNode) -> None:
    await node.backend.ensure_port(a_port(1))
    same_card = a_port(2, subnet=OTHER_SUBNET, ip_address=IPv4Address("10.81.0.9"), mac_address="52:54:00:00:00:01")
    assert await node.backend.ensure_port(same_card) == same_card


@pytest.mark.parametrize(
    ("field", "subnet", "ip_address"),
    [
        ("cidr", {"cidr": IPv4Network("10.80.0.0/31"), "gateway_ip": IPv4Address("10.80.0.0")}, "10.80.0.1"),
        ("gateway_ip", {"gateway_ip": IPv4Address("10.81.0.1")}, "10.80.0.11"),
        ("gateway_ip", {"gateway_ip": IPv4Address("10.80.0.0")}, "10.80.0.11"),
        ("gateway_ip", {"gateway_ip": IPv4Address("10.80.0.255")}, "10.80.0.11"),
        ("ip_address", {}, "10.80.1.1"),
        ("ip_address", {}, "10.80.0.0"),
        ("ip_address", {}, "10.80.0.255"),
        ("ip_address", {}, "10.80.0.1"),
    ],
)
async def test_addresses_that_cannot_work_are_refused(
    node: NatNode, field: str, subnet: dict[str, Any], ip_address: str
) -> None:
    with pytest.raises(RequestInvalid, match=f"^{field}:"):
        await node.backend.ensure_port(a_port(subnet=a_subnet(**subnet), ip_address=IPv4Address(ip_address)))
    assert await node.state() == ({}, {}, "", [])


async def test_the_smallest_subnet_has_room_for_one_guest(node: NatNode) -> None:
    subnet = a_subnet(cidr=IPv4Network("10.80.0.0/30"))
    await node.backend.ensure_port(a_port(subnet=subnet, ip_address=IPv4Address("10.80.0.2")))
    assert await node.hosts() == [("52:54:00:00:00:01", "10.80.0.2", "web-1")]


async def test_a_network_starts_with_its_new_gateway(node: NatNode) -> None:
    for number in (1, 2):
        await node.backend.ensure_port(a_port(number))
    moved = a_subnet(gateway_ip=IPv4Address("10.80.0.254"))
    await node.touch("destroy")  # of a network that is up the test driver tells the old definition alone
    await node.backend.ensure_port(a_port(2, subnet=moved))
    network = (await read_networks(node.connection))[NETWORK]
    assert network.ip is not None
    assert network.ip.address == "10.80.0.254"
    assert len(network.hosts) == 2


class TestStrangers:
    """Networks that Nodewright did not make."""

    async def test_a_network_of_somebody_else_is_left_alone(self, node: NatNode) -> None:
        await node.define(FOREIGN_XML)
        with pytest.raises(NetworkConflict, match="not made for subnet"):
            await node.backend.ensure_port(a_port())
        found = await node.networks.find(NETWORK)
        assert "10.1.0.1" in found.xml
        assert not found.active

    async def test_a_port_that_could_not_be_made_can_be_taken_back(self, node: NatNode) -> None:
        await node.define(FOREIGN_XML)
        with pytest.raises(NetworkConflict):
            await node.backend.ensure_port(a_port())
        await node.backend.ensure_port_removed("port-1")
        assert await node.backend.list_ports() == []
        assert "10.1.0.1" in (await node.networks.find(NETWORK)).xml
        await node.touch("undefine")
        await node.backend.ensure_port(a_port())
        assert await node.hosts() == [("52:54:00:00:00:01", "10.80.0.11", "web-1")]


class TestLease:
    """dnsmasq keeps the leases of guests that are gone."""

    LEASE = DhcpLease("52:54:00:00:00:01", "10.80.0.11", "ff:00:01")
    OTHERS_LEASE = DhcpLease("52:54:00:00:00:02", "10.80.0.12", "")

    async def test_an_address_is_given_back_with_its_port(self, node: NatNode) -> None:
        for number in (1, 2):
            await node.backend.ensure_port(a_port(number))
        node.networks.leases = (self.OTHERS_LEASE, self.LEASE)
        await node.backend.ensure_port_removed("port-1")
        request = ReleaseRequest(
            "52:54:00:00:00:01", IPv4Address("10.80.0.11"), IPv4Address("10.80.0.1"), client_id="ff:00:01"
        )
        assert node.released == [(request, NETWORK)]

    async def test_a_lease_that_cannot_be_given_back_ends_by_itself(self, node: NatNode) -> None:
        for number in (1, 2):
            await node.backend.ensure_port(a_port(number))
        node.networks.leases = (self.LEASE,)
        node.release_failure = PermissionError("no raw sockets here")
        with capture_logs() as logs:
            await node.backend.ensure_port_removed("port-1")
        assert [entry["event"] for entry in logs] == ["network.lease_not_released"]
        assert await node.backend.list_ports() == [a_port(2)]


class _Refusing:
    """Networks that must not be changed in some ways."""

    def __init__(self, networks: Networks, *methods: str) -> None:
        self._networks = networks
        self._methods = methods

    def __getattr__(self, name: str) -> Any:
        assert name not in self._methods, f"{name} is not needed"
        return getattr(self._networks, name)
