"""Networks of guests after restarts, failures of the packet filter, and crashes of the agent at every step."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from agent.errors import (
    AgentError,
    CapabilityMissing,
    HypervisorFailed,
    HypervisorUnavailable,
    NetworkConflict,
    NetworkFailed,
)
from agent.network.base import Port, Subnet
from agent.network.firewall import build_rules
from tests.unit.agent.nat_node import OTHER_NETWORK, OTHER_SUBNET, NatNode
from tests.unit.agent.network_builder import NETWORK, RecordingFilter, a_libvirt, a_port, a_subnet, read_networks

Change = Callable[[NatNode], Awaitable[None]]


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[NatNode]:
    async with a_libvirt(tmp_path) as connection:
        yield NatNode(connection, tmp_path)


class TestReturn:
    """After a restart of the agent, of libvirt, or of the node."""

    async def test_everything_is_as_it_was(self, node: NatNode) -> None:
        for number in (1, 2):
            await node.backend.ensure_port(a_port(number))
        before = await node.state()
        node.restart()
        node.filter.rules = ""
        await node.backend.restore()
        assert await node.state() == before

    async def test_what_a_person_stopped_runs_again(self, node: NatNode) -> None:
        for number in (1, 2):
            await node.backend.ensure_port(a_port(number))
        before = await node.state()
        await node.touch("destroy")
        node.filter.rules = ""
        await node.backend.ensure_port(a_port(1))
        assert await node.state() == before

    async def test_what_a_person_removed_is_made_again(self, node: NatNode) -> None:
        for number in (1, 2):
            await node.backend.ensure_port(a_port(number))
        before = await node.state()
        await node.touch("destroy")
        await node.touch("undefine")
        await node.backend.restore()
        assert await node.state() == before

    async def test_an_entry_that_a_person_took_from_dhcp_is_there_again(self, node: NatNode) -> None:
        for number in (1, 2):
            await node.backend.ensure_port(a_port(number))
        entry = "<host mac='52:54:00:00:00:01' ip='10.80.0.11'/>"
        await node.networks.remove_dhcp_host(NETWORK, entry)
        await node.backend.restore()
        assert sorted(await node.hosts()) == [
            ("52:54:00:00:00:01", "10.80.0.11", "web-1"),
            ("52:54:00:00:00:02", "10.80.0.12", "web-2"),
        ]

    async def test_without_libvirt_nothing_is_restored_and_that_is_told(self, node: NatNode) -> None:
        await node.backend.ensure_port(a_port())
        await node.connection.close()
        with pytest.raises(HypervisorUnavailable):
            await node.backend.restore()

    @pytest.mark.parametrize("entry", ["52:54:00:00:00:77 10.80.0.12", "52:54:00:00:00:02 10.80.0.77"])
    async def test_an_entry_of_nobody_makes_room_for_a_port(self, node: NatNode, entry: str) -> None:
        await node.backend.ensure_port(a_port(1))
        mac_address, ip_address = entry.split()
        await node.networks.add_dhcp_host(NETWORK, f"<host mac='{mac_address}' ip='{ip_address}'/>")
        await node.backend.ensure_port(a_port(2))
        assert [(mac, ip) for mac, ip, _ in await node.hosts()] == [
            ("52:54:00:00:00:01", "10.80.0.11"),
            ("52:54:00:00:00:02", "10.80.0.12"),
        ]

    @pytest.mark.parametrize("failure", [NetworkConflict("taken"), HypervisorFailed("cannot create the bridge")])
    async def test_one_network_that_cannot_be_started_does_not_keep_the_others_down(
        self, node: NatNode, failure: AgentError
    ) -> None:
        await node.backend.ensure_port(a_port(1))
        await node.backend.ensure_port(a_port(2, subnet=OTHER_SUBNET, ip_address=IPv4Address("10.81.0.9")))
        for name in (NETWORK, OTHER_NETWORK):
            await node.touch("destroy", network=name)
        start = node.networks.ensure_active

        async def refuse(name: str) -> None:
            if name == NETWORK:
                raise failure
            await start(name)

        node.networks.ensure_active = refuse
        with capture_logs() as logs:
            await node.backend.restore()
        assert (await node.networks.find(OTHER_NETWORK)).active
        assert [(entry["event"], entry["port_id"]) for entry in logs] == [("network.not_restored", "port-1")]


class TestFilter:
    """iptables may fail, for example when somebody else has its lock for long."""

    @pytest.fixture
    def node(self, node: NatNode) -> NatNode:
        node.filter = _FailingFilter()
        node.restart()
        return node

    async def test_rules_that_failed_for_a_new_network_are_made_up_for(self, node: NatNode) -> None:
        node.filter.failures = 1
        with pytest.raises(NetworkFailed):
            await node.backend.ensure_port(a_port())
        await node.backend.ensure_port(a_port())
        assert node.filter.rules == build_rules([a_subnet()])

    async def test_rules_that_failed_for_a_removed_network_are_made_up_for(self, node: NatNode) -> None:
        await node.backend.ensure_port(a_port())
        node.filter.failures = 1
        with pytest.raises(NetworkFailed):
            await node.backend.ensure_port_removed("port-1")
        await node.backend.ensure_port_removed("port-1")
        assert node.filter.rules == build_rules([])

    async def test_rules_of_which_nobody_knows_whether_they_are_there_are_made_again(self, node: NatNode) -> None:
        await node.backend.ensure_port(a_port())
        node.filter.failures, node.filter.fails_late = 1, True
        with pytest.raises(NetworkFailed):
            await node.backend.ensure_port(a_port(2, subnet=OTHER_SUBNET, ip_address=IPv4Address("10.81.0.9")))
        await node.backend.ensure_port_removed("port-2")
        assert node.filter.rules == build_rules([a_subnet()])

    async def test_a_node_without_a_filter_can_take_everything_back(self, node: NatNode) -> None:
        node.filter.failures, node.filter.failure = 9, CapabilityMissing("iptables-restore is not installed")
        with pytest.raises(CapabilityMissing):
            await node.backend.ensure_port(a_port())
        for _ in range(2):
            await node.backend.ensure_port_removed("port-1")
        assert (await node.state())[:2] == ({}, {})

    async def test_networks_return_without_their_rules_which_follow_later(self, node: NatNode) -> None:
        await node.backend.ensure_port(a_port())
        await node.touch("destroy")
        node.filter.rules, node.filter.failures = "", 2
        node.restart()
        await node.backend.restore()
        assert (await node.networks.find(NETWORK)).active
        assert node.filter.rules == ""
        await node.backend.ensure_port(a_port())
        assert node.filter.rules == build_rules([a_subnet()])

    async def test_rules_that_a_person_flushed_return_with_the_next_port_and_that_is_told(self, node: NatNode) -> None:
        await node.backend.ensure_port(a_port(1))
        for change in (
            lambda: node.backend.ensure_port(a_port(1)),
            lambda: node.backend.ensure_port(a_port(2)),
            lambda: node.backend.ensure_port_removed("port-1"),
            node.backend.ensure_filter,
        ):
            node.filter.rules = ""
            with capture_logs() as logs:
                await change()
            assert node.filter.rules == build_rules([a_subnet()])
            assert [entry["event"] for entry in logs] == ["network.filter_flushed"]

    async def test_rules_that_cannot_be_put_back_are_told_and_tried_again(self, node: NatNode) -> None:
        await node.backend.ensure_port(a_port())
        node.filter.rules, node.filter.failures = "", 1
        with capture_logs() as logs:
            await node.backend.ensure_filter()
        assert [entry["event"] for entry in logs] == ["network.filter_flushed", "network.filter_not_restored"]
        await node.backend.ensure_filter()
        assert node.filter.rules == build_rules([a_subnet()])

    async def test_a_node_without_networks_has_no_rules_to_look_after(self, node: NatNode) -> None:
        await node.backend.ensure_port(a_port())
        await node.backend.ensure_port_removed("port-1")
        node.filter.rules = ""
        changes = node.filter.changes
        await node.backend.ensure_filter()
        assert (node.filter.rules, node.filter.changes) == ("", changes)

    async def test_rules_that_a_person_flushed_return_with_libvirt(self, node: NatNode) -> None:
        await node.backend.ensure_port(a_port())
        node.filter.rules = ""
        await node.backend.restore()
        assert node.filter.rules == build_rules([a_subnet()])

    async def test_the_rules_of_former_networks_go_at_the_start(self, node: NatNode) -> None:
        node.filter.rules = "of another life"
        await node.backend.restore()
        assert node.filter.rules == build_rules([])


class _FailingFilter(RecordingFilter):
    """Fails some times before it works."""

    failures = 0
    fails_late = False
    failure: AgentError = NetworkFailed("iptables-restore: somebody has the lock")

    async def apply(self, subnets: Iterable[Subnet]) -> None:
        """See RecordingFilter."""
        if not self.failures or self.fails_late:
            await super().apply(subnets)
        if self.failures:
            self.failures -= 1
            raise self.failure


class TestCrash:
    """The agent may die between any two steps: the next call goes on, or takes everything back."""

    async def test_a_port_is_made_in_the_end(self, tmp_path: Path) -> None:
        assert await _crash_everywhere(tmp_path, [], [a_port(1)], a_port(1)) == 3

    async def test_a_further_port_is_made_in_the_end(self, tmp_path: Path) -> None:
        assert await _crash_everywhere(tmp_path, [a_port(1)], [a_port(1), a_port(2)], a_port(2)) == 2

    async def test_a_port_has_its_new_address_in_the_end(self, tmp_path: Path) -> None:
        moved = a_port(2, ip_address=IPv4Address("10.80.0.99"))
        assert await _crash_everywhere(tmp_path, [a_port(1), a_port(2)], [a_port(1), moved], moved) == 3

    async def test_a_port_is_gone_in_the_end(self, tmp_path: Path) -> None:
        assert await _crash_everywhere(tmp_path, [a_port(1), a_port(2)], [a_port(1)], "port-2") == 2

    async def test_the_last_port_is_gone_in_the_end(self, tmp_path: Path) -> None:
        assert await _crash_everywhere(tmp_path, [a_port(1)], [], "port-1") == 2


async def _crash_everywhere(directory: Path, before: list[Port], after: list[Port], wanted: Port | str) -> int:
    """Repeats one change on new nodes with a crash at each of its steps; the number of steps."""

    async def change(node: NatNode) -> None:
        if isinstance(wanted, str):
            await node.backend.ensure_port_removed(wanted)
        else:
            await node.backend.ensure_port(wanted)

    for step in range(100):
        place = directory / str(step)
        place.mkdir()
        async with a_libvirt(place) as connection:
            node = NatNode(connection, place)
            for port in before:
                await node.backend.ensure_port(port)
            crash = _Crash(step)
            node.networks = crash.around(node.networks, "find", "list_leases")
            node.filter = crash.around(node.filter, "is_intact")
            node.restart()
            try:
                await change(node)
            except _Crashed:
                await _recover(node, crash, after, change)
            else:
                return step
    raise AssertionError("there is no end of steps")


async def _recover(
    node: NatNode, crash: _Crash, after: list[Port], change: Callable[[NatNode], Awaitable[None]]
) -> None:
    """After the crash the same call is made again; then all is as if there had been no crash, and can be removed."""
    crash.is_over = True
    node.restart()
    await node.backend.restore()
    await change(node)
    assert sorted(await node.backend.list_ports(), key=lambda port: port.port_id) == after
    networks = await read_networks(node.connection)
    served = {(host.mac, host.ip) for network in networks.values() for host in network.hosts}
    assert served == {(port.mac_address, str(port.ip_address)) for port in after}
    assert node.filter.rules == build_rules({port.subnet.subnet_id: port.subnet for port in after}.values())
    for port in after:
        await node.backend.ensure_port_removed(port.port_id)
    assert (await node.state())[:2] == ({}, {})


class _Crashed(BaseException):
    """The process is gone: nothing of the agent runs any more."""


class _Crash:
    """Ends the agent before a certain step of all that change something."""

    def __init__(self, step: int) -> None:
        self.is_over = False
        self._left = step

    def around(self, target: Any, *harmless: str) -> Any:
        """The target, whose methods are steps."""
        return _Around(self, target, harmless)

    def step(self) -> None:
        """Ends the agent when this is the step."""
        if self._left == 0 and not self.is_over:
            raise _Crashed
        self._left -= 1


class _Around:
    def __init__(self, crash: _Crash, target: Any, harmless: tuple[str, ...]) -> None:
        self._crash = crash
        self._target = target
        self._harmless = harmless

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if name in self._harmless or not callable(value):
            return value

        async def step(*arguments: Any) -> Any:
            self._crash.step()
            return await value(*arguments)

        return step
