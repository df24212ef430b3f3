"""What a reboot of its node has ended is started again, in turn; what somebody wanted to be off is not."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from coordinator.domain.clock import utc_now
from coordinator.domain.instance import PowerState
from coordinator.services.restart import MOST_ATTEMPTS, RestartSweep
from coordinator.store.tables import Event, Instance, Interruption, Node
from protos.agent.v1 import domain_pb2
from tests.api.client import Api
from tests.api.cloud import INSTANCES, OPERATIONS, Cloud, finish, register
from tests.database import BOTH_DATABASES
from tests.lab.waiting import wait_until
from tests.scripted_agent import Refusal, ScriptedAgent, at_work


class Host:
    """The node of the cloud, which can be rebooted."""

    def __init__(self, cloud: Cloud, agent: ScriptedAgent) -> None:
        self.cloud = cloud
        self.agent = agent
        self.sweep = RestartSweep(cloud.runtime)
        self.register("boot-1")

    def register(self, boot_id: str, *ended: str) -> None:
        """Its agent tells everything."""
        register(self.cloud.runtime, self.cloud.node, boot_id, self.agent.domains.values(), ended)

    def lose_power(self, reason: str = "unknown") -> None:
        """No guest runs any more; libvirt tells that reason."""
        for domain in self.agent.domains.values():
            domain.power_state, domain.power_state_reason = domain_pb2.POWER_STATE_SHUTOFF, reason

    def reboot(self, boot_id: str = "boot-2") -> None:
        """The power fails, and comes back."""
        self.lose_power()
        self.register(boot_id)

    def row(self, ecs_id: str) -> Instance:
        """The instance as stored."""
        found: Instance = next(row for row in self.cloud.rows(Instance) if row.ecs_id == ecs_id)
        return found

    def change(self, ecs_id: str, **columns: Any) -> None:
        """Changes columns of an instance."""
        self.cloud.change(self.row(ecs_id), **columns)

    def change_node(self, **columns: Any) -> None:
        """Changes columns of the node."""
        with self.cloud.runtime.database.write() as session:
            node = session.get_one(Node, self.cloud.node.id)
            for name, value in columns.items():
                setattr(node, name, value)

    def pending(self) -> int:
        """How many instances wait for their turn or boot."""
        return len(self.cloud.rows(Interruption))

    def told(self, kind: str) -> list[str]:
        """Of whom such events tell, the oldest first."""
        events = sorted(self.cloud.rows(Event), key=lambda row: row.id)
        return [row.resource_id for row in events if row.kind == kind]

    def wait_for_ends(self, count: int) -> None:
        """So many operations have ended."""
        wait_until(lambda: len(self.told("operation.ended")) == count, f"{count} operations end")


@pytest.fixture
def host(cloud: Cloud, tmp_path: Path) -> Iterator[Host]:
    with at_work(cloud.runtime, cloud.node, tmp_path / "pki") as agent:
        yield Host(cloud, agent)


def later(host: Host, seconds: float) -> None:
    """Turns the coordinator's clock."""
    host.cloud.runtime.now = lambda: utc_now() + timedelta(seconds=seconds)


def runs(api: Api, ecs_id: str) -> bool:
    return bool(api.ok("GET", f"{INSTANCES}/{ecs_id}")["status"] == "Running")


def test_what_ran_is_started_again_in_turn_the_most_important_first(customer: Api, host: Host) -> None:
    host.cloud.runtime.settings.boots_per_node = 1
    plain, off, first = (
        host.cloud.create(customer, displayName=name, **fields)
        for name, fields in (("plain", {}), ("off", {}), ("first", {"haEnabled": True, "haPriority": 10}))
    )
    finish(customer, customer.call("PUT", f"{INSTANCES}/{off}/stop", {"gracePeriodSeconds": 0}))
    host.change(first, vmtools_status="VmtoolsRunning")
    host.reboot()
    shown = customer.ok("GET", f"{INSTANCES}/{plain}")
    assert (shown["status"], "is started again in its turn" in shown["errMessage"]) == ("Stopped", True)
    assert customer.ok("GET", f"{INSTANCES}/{off}")["errMessage"] == ""

    assert host.sweep() == [first]
    wait_until(lambda: runs(customer, first), "the first runs")
    # It boots until its guest agent is seen, and nobody else meanwhile.
    assert (host.sweep(), host.sweep()) == ([], [])
    host.change(first, vmtools_status="VmtoolsRunning")
    assert host.sweep() == [plain]
    wait_until(lambda: runs(customer, plain), "the other one runs")
    assert host.sweep() == []
    later(host, 31)
    assert (host.sweep(), host.pending()) == ([], 0)

    assert customer.ok("GET", f"{INSTANCES}/{plain}")["errMessage"] == ""
    assert customer.ok("GET", f"{INSTANCES}/{off}")["status"] == "Stopped"
    assert host.told("node.rebooted") == [host.cloud.node.id]
    assert sorted(host.told("instance.interrupted")) == sorted([first, plain])
    assert host.told("instance.started_again") == [first, plain]


def test_a_second_power_failure_forgets_nobody(customer: Api, host: Host) -> None:
    host.cloud.runtime.settings.boots_per_node = 1
    ecs_ids = [host.cloud.create(customer, displayName=name) for name in ("web", "db")]
    host.reboot()
    assert host.sweep() == ecs_ids[:1]
    wait_until(lambda: runs(customer, ecs_ids[0]), "the first runs")
    host.sweep()
    host.reboot("boot-3")
    for ecs_id in ecs_ids:
        assert host.sweep() == [ecs_id]
        wait_until(lambda ecs_id=ecs_id: runs(customer, ecs_id), "it runs")  # type: ignore[misc]
        host.sweep()
        host.change(ecs_id, vmtools_status="VmtoolsRunning")


def test_what_no_reboot_has_ended_is_left_alone(customer: Api, host: Host) -> None:
    names = ("ran", "told by libvirt", "told by the agent", "shutting down", "stopped in vain", "gone")
    ecs_ids = {name: host.cloud.create(customer, displayName=name) for name in names}
    rows = {name: host.row(ecs_id) for name, ecs_id in ecs_ids.items()}
    host.lose_power()
    host.agent.domains[rows["told by libvirt"].uuid].power_state_reason = "shutdown"
    host.change(ecs_ids["shutting down"], power_state=PowerState.SHUTTING_DOWN)
    host.agent.refusals["ensure_stopped"] = Refusal(code="DomainStateConflict")
    stop = customer.call("PUT", f"{INSTANCES}/{ecs_ids['stopped in vain']}/stop", {"gracePeriodSeconds": 60})
    assert finish(customer, stop)["state"] == "Failed"
    del host.agent.domains[rows["gone"].uuid]
    host.register("boot-2", rows["told by the agent"].uuid)
    assert host.told("instance.interrupted") == [ecs_ids["ran"]]
    assert host.sweep() == [ecs_ids["ran"]]


def test_guests_that_end_without_a_reboot_of_their_node_are_left_alone(customer: Api, host: Host) -> None:
    ecs_id = host.cloud.create(customer)
    host.reboot("boot-1")
    assert (host.told("node.rebooted"), host.pending()) == ([], 0)
    # Of a node that has not told its boots so far, as after an upgrade, nothing can be said.
    host.change(ecs_id, power_state=PowerState.RUNNING)
    host.change_node(boot_id="")
    host.register("boot-2")
    assert (host.told("node.rebooted"), host.pending()) == ([], 0)


def test_a_stop_in_flight_is_carried_out(customer: Api, host: Host) -> None:
    ecs_id = host.cloud.create(customer)
    gate = host.agent.gates["ensure_stopped_by_force"] = threading.Event()
    stop = customer.call("PUT", f"{INSTANCES}/{ecs_id}/stop", {"gracePeriodSeconds": 0})
    wait_until(lambda: "ensure_stopped_by_force" in host.agent.calls, "the stop is under way")
    host.reboot()
    gate.set()
    assert finish(customer, stop)["state"] == "Succeeded"
    assert (host.sweep(), host.pending()) == ([], 0)
    assert customer.ok("GET", f"{INSTANCES}/{ecs_id}")["status"] == "Stopped"


def test_a_restart_in_flight_fails_and_the_guest_is_started(customer: Api, host: Host) -> None:
    ecs_id = host.cloud.create(customer)
    gate = host.agent.gates["reboot"] = threading.Event()
    host.agent.refusals["reboot"] = Refusal(code="DomainStateConflict", message="the domain is off")
    restart = customer.call("PUT", f"{INSTANCES}/{ecs_id}/restart", {"gracePeriodSeconds": 0})
    wait_until(lambda: "reboot" in host.agent.calls, "the restart is under way")
    host.reboot()
    assert (host.sweep(), host.pending()) == ([], 1)
    gate.set()
    assert finish(customer, restart)["state"] == "Failed"
    assert host.sweep() == [ecs_id]
    wait_until(lambda: runs(customer, ecs_id), "it runs")


def test_a_start_that_fails_is_tried_again_and_told_in_the_end(customer: Api, host: Host) -> None:
    ecs_id = host.cloud.create(customer)
    host.agent.refusals["ensure_running"] = Refusal(message="the storage is not mounted")
    host.reboot()
    host.agent.calls.clear()
    assert host.sweep() == [ecs_id]
    waited = 0.0
    for failures in range(1, MOST_ATTEMPTS):
        host.wait_for_ends(1 + failures)
        assert host.sweep() == []
        pause = 15 * 2 ** (failures - 1)
        later(host, waited + pause / 2)
        assert host.sweep() == []
        waited += pause + 1
        later(host, waited)
        assert host.sweep() == [ecs_id]
    host.wait_for_ends(1 + MOST_ATTEMPTS)
    assert (host.sweep(), host.pending()) == ([], 0)
    assert host.agent.calls.count("ensure_running") == MOST_ATTEMPTS
    assert host.told("alarm.instance_not_started_again") == [ecs_id]
    shown = customer.ok("GET", f"{INSTANCES}/{ecs_id}")
    assert (shown["status"], shown["errMessage"]) == ("Stopped", "the storage is not mounted")


@BOTH_DATABASES
def test_maintenance_is_waited_for_and_what_people_did_meanwhile_counts(
    customer: Api, operator: Api, host: Host
) -> None:
    ecs_ids = [host.cloud.create(customer, displayName=name) for name in ("touched", "untouched")]
    host.change_node(in_maintenance=True)
    host.reboot()
    assert (host.sweep(), host.pending()) == ([], 2)
    for verb in ("start", "stop"):
        done = operator.call("PUT", f"{INSTANCES}/{ecs_ids[0]}/{verb}", {"gracePeriodSeconds": 0})
        assert finish(operator, done)["state"] == "Succeeded"
    host.change_node(in_maintenance=False)
    assert host.sweep() == ecs_ids[1:]
    assert host.pending() == 1


def test_a_cloud_that_starts_nothing_again_says_so(customer: Api, host: Host) -> None:
    host.cloud.runtime.settings.start_after_reboot = False
    ecs_id = host.cloud.create(customer)
    host.reboot()
    assert (host.sweep(), host.pending()) == ([], 0)
    assert "start_after_reboot is off" in customer.ok("GET", f"{INSTANCES}/{ecs_id}")["errMessage"]


def test_what_was_deleted_or_is_nowhere_meanwhile_is_forgotten(customer: Api, host: Host) -> None:
    deleted, nowhere = (host.cloud.create(customer, displayName=name) for name in ("deleted", "nowhere"))
    host.change_node(in_maintenance=True)
    host.reboot()
    finish(customer, customer.call("DELETE", f"{INSTANCES}/{deleted}"))
    host.change(nowhere, node_id=None)
    host.change_node(in_maintenance=False)
    assert (host.sweep(), host.pending()) == ([], 0)


def test_a_start_that_somebody_cancels_is_not_begun_again(customer: Api, host: Host) -> None:
    ecs_id = host.cloud.create(customer)
    gate = host.agent.gates["ensure_running"] = threading.Event()
    host.reboot()
    host.agent.calls.clear()
    assert host.sweep() == [ecs_id]
    wait_until(lambda: "ensure_running" in host.agent.calls, "the start is under way")
    operation_id = host.row(ecs_id).task_id
    customer.ok("DELETE", f"{OPERATIONS}/{operation_id}")
    wait_until(lambda: host.row(ecs_id).task_id is None, "it is cancelled")
    gate.set()
    assert (host.sweep(), host.pending()) == ([], 0)
