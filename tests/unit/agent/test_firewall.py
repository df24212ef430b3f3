"""The rules for guests' networks: as a text, and with real packets through a real kernel."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from agent.errors import CapabilityMissing, NetworkFailed
from agent.network import firewall
from agent.network.base import Subnet
from agent.network.firewall import Firewall, build_rules
from tests.stopwatch import Stopwatch
from tests.unit.agent.network_builder import NETWORK, a_subnet
from tests.unit.agent.network_namespace import NetworkNamespace, network_namespaces

RULES = Path(__file__).parents[2] / "data/agent/firewall.rules"
OTHER = Subnet("snet-000000000000other002", IPv4Network("10.81.0.0/24"), IPv4Address("10.81.0.1"))
OTHER_NETWORK = "nw-0000other002"
GUEST, NEIGHBOUR, WORLD = "10.80.0.2", "10.81.0.2", "192.0.2.2"
QUIET_SECONDS = 0.1  # for packets that shall not arrive


def test_the_rules_are_those_of_the_golden_file() -> None:
    assert build_rules([OTHER, a_subnet()]) == RULES.read_text()


def test_the_order_of_subnets_changes_nothing() -> None:
    assert build_rules([OTHER, a_subnet()]) == build_rules([a_subnet(), OTHER])


@pytest.fixture
def router() -> Iterator[NetworkNamespace]:
    """A node's network, without anything in it."""
    with network_namespaces(1) as (router,):
        yield router


def apply(router: NetworkNamespace, *subnets: Subnet) -> None:
    router.run_async(lambda: Firewall().apply(subnets))


def rules_of(router: NetworkNamespace) -> str:
    """All rules, without the counters of chains."""
    lines = router.execute("iptables-save").splitlines()
    return "\n".join(line.partition(" [")[0] for line in lines if not line.startswith("#"))


class TestApplication:
    """The rules in the kernel."""

    def test_rules_are_there_once_however_often_they_are_applied(self, router: NetworkNamespace) -> None:
        apply(router, a_subnet(), OTHER)
        before = rules_of(router)
        apply(router, a_subnet(), OTHER)
        assert rules_of(router) == before
        assert before.count("-j NODEWRIGHT_") == 4
        assert before.count("-j MASQUERADE") == 2

    def test_rules_of_other_people_stay_behind_ours(self, router: NetworkNamespace) -> None:
        theirs = ("-P FORWARD DROP", "-A FORWARD -s 10.99.0.0/24 -j ACCEPT")
        for rule in theirs:
            router.execute("iptables", *rule.split())
        apply(router, a_subnet())
        listed = router.execute("iptables", "-S", "FORWARD").splitlines()
        assert listed == [theirs[0], "-A FORWARD -j NODEWRIGHT_FORWARD", theirs[1]]

    def test_what_somebody_flushed_is_there_again(self, router: NetworkNamespace) -> None:
        apply(router, a_subnet())
        before = rules_of(router)
        for table in ("filter", "nat"):
            router.execute("iptables", "-t", table, "-F")
        apply(router, a_subnet())
        assert rules_of(router) == before

    @pytest.mark.parametrize(
        "change",
        [
            "-F",
            "-t nat -F",
            "-F NODEWRIGHT_INPUT",
            "-D FORWARD -j NODEWRIGHT_FORWARD",
            "-D NODEWRIGHT_FORWARD 1",
            "-I NODEWRIGHT_FORWARD -j DROP",
            "-t nat -D POSTROUTING -j NODEWRIGHT_NAT",
        ],
    )
    def test_what_somebody_changed_is_noticed(self, router: NetworkNamespace, change: str) -> None:
        firewall = Firewall()

        async def is_intact_after(*subnets: Subnet) -> bool:
            if subnets:
                await firewall.apply(subnets)
            return await firewall.is_intact()

        assert router.run_async(lambda: is_intact_after(a_subnet(), OTHER))
        router.execute("iptables", *change.split())
        assert not router.run_async(is_intact_after)
        assert router.run_async(lambda: is_intact_after(a_subnet(), OTHER))
        router.execute("iptables", "-A", "INPUT", "-s", "10.99.0.0/24", "-j", "DROP")
        assert router.run_async(is_intact_after)

    def test_networks_that_share_their_addresses_are_no_change(self, router: NetworkNamespace) -> None:
        twin = Subnet(OTHER.subnet_id, a_subnet().cidr, a_subnet().gateway_ip)
        firewall = Firewall()
        router.run_async(lambda: firewall.apply([a_subnet(), twin]))
        assert router.run_async(firewall.is_intact)

    async def test_nobody_knows_what_was_never_applied(self) -> None:
        assert not await Firewall().is_intact()

    def test_the_rules_go_with_the_networks(self, router: NetworkNamespace) -> None:
        apply(router, a_subnet(), OTHER)
        apply(router, OTHER)
        assert "10.80.0.0/24" not in rules_of(router)
        assert "10.81.0.0/24" in rules_of(router)
        apply(router)
        assert "10.81.0.0/24" not in rules_of(router)
        assert OTHER_NETWORK not in rules_of(router)


@dataclass(frozen=True)
class Wiring:
    """A node between the world and the guests of two networks; the node's own firewall lets nothing in or through."""

    node: NetworkNamespace
    guest: NetworkNamespace
    neighbour: NetworkNamespace
    world: NetworkNamespace


@pytest.fixture
def wiring() -> Iterator[Wiring]:
    with network_namespaces(4) as (node, guest, neighbour, world):
        for bridge, subnet, machine, address in (
            (NETWORK, a_subnet(), guest, GUEST),
            (OTHER_NETWORK, OTHER, neighbour, NEIGHBOUR),
        ):
            node.ip("link", "add", bridge, "type", "bridge")
            node.bring_up(bridge, f"{subnet.gateway_ip}/24")
            node.connect(f"tap-{address}", "", machine, "eth0", f"{address}/24")
            node.ip("link", "set", f"tap-{address}", "master", bridge)
            machine.ip("route", "add", "default", "via", str(subnet.gateway_ip))
        node.connect("uplink", "192.0.2.1/24", world, "eth0", f"{WORLD}/24")
        world.ip("route", "add", "10.80.0.0/15", "via", "192.0.2.1")
        node.set_kernel("ipv4/ip_forward", "1")
        apply(node, a_subnet(), OTHER)
        for chain in ("INPUT", "FORWARD"):
            node.execute("iptables", "-P", chain, "DROP")
        yield Wiring(node, guest, neighbour, world)


def listen(place: NetworkNamespace) -> socket.socket:
    return place.run(lambda: socket.create_server(("0.0.0.0", 0)))


def connect(place: NetworkNamespace, address: str, port: int) -> socket.socket:
    return place.run(lambda: socket.create_connection((address, port), timeout=5))


class TestPackets:
    """What guests and strangers can do."""

    def test_guests_reach_the_world_under_the_nodes_address(self, wiring: Wiring) -> None:
        with closing(listen(wiring.world)) as server:
            with closing(connect(wiring.guest, WORLD, server.getsockname()[1])) as client:
                accepted, (source, _) = server.accept()
                with accepted:
                    accepted.sendall(b"welcome")
                    assert client.recv(16) == b"welcome"
            assert source == "192.0.2.1"

    def test_the_world_does_not_reach_guests(self, wiring: Wiring) -> None:
        with closing(listen(wiring.guest)) as server, pytest.raises(ConnectionRefusedError):
            connect(wiring.world, GUEST, server.getsockname()[1])

    def test_guests_of_another_network_do_not_reach_guests(self, wiring: Wiring) -> None:
        with closing(listen(wiring.guest)) as server, pytest.raises(ConnectionRefusedError):
            connect(wiring.neighbour, GUEST, server.getsockname()[1])

    def test_nobody_leaves_a_network_under_a_strangers_address(self, wiring: Wiring) -> None:
        wiring.guest.ip("address", "add", "10.80.1.9/32", "dev", "eth0")
        wiring.node.ip("route", "add", "10.80.1.9/32", "dev", NETWORK)
        with closing(listen(wiring.world)) as server:
            where = (WORLD, server.getsockname()[1])
            with pytest.raises(ConnectionRefusedError):
                wiring.guest.run(lambda: socket.create_connection(where, 5, source_address=("10.80.1.9", 0)))

    @pytest.mark.parametrize(("port", "arrives"), [(53, True), (67, True), (5353, False)])
    def test_guests_reach_the_name_server_and_dhcp_of_the_node_alone(
        self, wiring: Wiring, port: int, arrives: bool
    ) -> None:
        with closing(datagrams(wiring.node, port)) as server, closing(datagrams(wiring.guest, 0)) as client:
            client.sendto(b"question", ("10.80.0.1", port))
            assert receives(server, expected=arrives) == arrives

    def test_guests_ask_the_name_server_over_tcp_too(self, wiring: Wiring) -> None:
        with closing(wiring.node.run(lambda: socket.create_server(("10.80.0.1", 53)))) as server:
            connect(wiring.guest, "10.80.0.1", 53).close()
            server.accept()[0].close()

    @pytest.mark.parametrize(("port", "arrives"), [(68, True), (5353, False)])
    def test_the_node_answers_dhcp_whatever_its_firewall_says(self, wiring: Wiring, port: int, arrives: bool) -> None:
        wiring.node.execute("iptables", "-P", "OUTPUT", "DROP")
        with closing(datagrams(wiring.guest, port)) as client, closing(datagrams(wiring.node, 0)) as server:
            with contextlib.nullcontext() if arrives else pytest.raises(PermissionError):
                server.sendto(b"offer", (GUEST, port))
            assert receives(client, expected=arrives) == arrives

    def test_without_rules_nothing_passes(self, wiring: Wiring) -> None:
        """The other tests would be worth nothing if the packets went another way."""
        apply(wiring.node)
        with closing(datagrams(wiring.world, 0)) as server, closing(datagrams(wiring.guest, 0)) as client:
            client.sendto(b"hello", (WORLD, server.getsockname()[1]))
            assert not receives(server, expected=False)


def datagrams(place: NetworkNamespace, port: int) -> socket.socket:
    """A UDP socket on this port."""

    def open_socket() -> socket.socket:
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.bind(("0.0.0.0", port))
        return opened

    return place.run(open_socket)


def receives(server: socket.socket, *, expected: bool) -> bool:
    """Whether a packet arrives: for one that is expected there is more patience."""
    server.settimeout(60 if expected else QUIET_SECONDS)
    try:
        server.recv(64)
    except TimeoutError:
        return False
    return True


class TestFailure:
    """The programs that change rules may be absent, refuse, or hang."""

    @pytest.fixture
    def install(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
        """Puts a program where alone programs are found."""
        monkeypatch.setenv("PATH", str(tmp_path))

        def write(name: str, script: str) -> None:
            path = tmp_path / name
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)

        return write

    @pytest.mark.usefixtures("install")
    async def test_a_program_that_is_not_installed_is_named(self) -> None:
        with pytest.raises(CapabilityMissing, match="iptables-restore is not installed"):
            await Firewall().apply([a_subnet()])

    async def test_a_rule_that_is_refused_is_told_in_the_programs_words(
        self, install: Callable[[str, str], None]
    ) -> None:
        install("iptables-restore", "echo 'line 2 failed' >&2; exit 1")
        with pytest.raises(NetworkFailed, match=r"^iptables-restore -w 5 --noflush: line 2 failed$"):
            await Firewall().apply([a_subnet()])

    async def test_a_chain_that_cannot_be_entered_is_told(self, install: Callable[[str, str], None]) -> None:
        install("iptables-restore", "exit 0")
        install("iptables", "echo 'no chain' >&2; exit 1")
        with pytest.raises(NetworkFailed, match=r"iptables -w 5 -t \w+ -I \w+ -j NODEWRIGHT_\w+: no chain"):
            await Firewall().apply([a_subnet()])

    async def test_rules_that_are_gone_at_once_are_not_taken_for_applied(
        self, install: Callable[[str, str], None]
    ) -> None:
        for name in ("iptables-restore", "iptables", "iptables-save"):
            install(name, "exit 0")
        firewall = Firewall()
        with pytest.raises(NetworkFailed, match="another program"):
            await firewall.apply([a_subnet()])
        assert not await firewall.is_intact()

    async def test_a_program_that_hangs_is_ended(
        self, install: Callable[[str, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(firewall, "_TIMEOUT_SECONDS", 0.1)
        install("iptables-restore", f"echo $$ > {tmp_path}/pid; exec /bin/sleep 60")
        with Stopwatch() as watch, pytest.raises(NetworkFailed, match="did not end"):
            await Firewall().apply([a_subnet()])
        assert watch.seconds < 5
        assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()

    async def test_who_is_cancelled_leaves_no_program(
        self, install: Callable[[str, str], None], tmp_path: Path
    ) -> None:
        pid = tmp_path / "pid"
        install("iptables-restore", f"echo $$ > {pid}.new; /bin/mv {pid}.new {pid}; exec /bin/sleep 60")
        applying = asyncio.create_task(Firewall().apply([a_subnet()]))
        async with asyncio.timeout(60):
            while not pid.exists():
                await asyncio.sleep(0.01)
        applying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await applying
        assert not Path("/proc", pid.read_text().strip()).exists()
