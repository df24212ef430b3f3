"""What a lost node had is started elsewhere, or an alarm tells why not."""

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from sqlalchemy import update

from coordinator.domain.clock import utc_now
from coordinator.domain.instance import InstanceStatus, PowerState
from coordinator.domain.silence import SilenceClock
from coordinator.fencing.chain import Fences
from coordinator.fencing.self_fence import SelfFence
from coordinator.services.high_availability import RecoverySweep
from coordinator.store.queries.placement import advance_generations
from coordinator.store.tables import DeviceAllocation, Event, Instance, Interruption, Node, Snapshot, Task
from coordinator.tasks.kinds import recover_instance
from protos.agent.v1 import domain_pb2
from tests.api.client import Api
from tests.api.cloud import INSTANCES, Cloud, finish
from tests.api.test_device_search import a_stick
from tests.api.test_instance_device import a_function, a_gpu, a_gpu_flavor, fill
from tests.builders import a_node, add, an_inventory
from tests.database import BOTH_DATABASES
from tests.lab.waiting import wait_until
from tests.scripted_agent import Refusal, ScriptedAgent, all_at_work

RUNNING = domain_pb2.POWER_STATE_RUNNING
STORAGE = "one-place"
SNAPSHOTS = "/api/ecs/v1/snapshot"
SILENT_SECONDS = 300


def old_clock() -> SilenceClock:
    """As if this process had run for long."""
    ago = 10 * SILENT_SECONDS
    clock = SilenceClock(lambda: utc_now() - timedelta(seconds=ago), lambda: time.monotonic() - ago)
    ago = 0
    return clock


class Cluster:
    """Three nodes with one storage; instances begin on the first."""

    def __init__(self, cloud: Cloud, nodes: list[Node], agents: list[ScriptedAgent]) -> None:
        self.cloud = cloud
        self.nodes = nodes
        self.agents = agents
        self.sweep = RecoverySweep(cloud.runtime, retry_seconds=0)
        for node in nodes:
            self.change(node, storage_id=STORAGE, heard_at=utc_now(), self_fence=True, ha_tolerance_seconds=30)

    def change(self, node: Node, **columns: Any) -> None:
        """Changes columns of a node."""
        with self.cloud.runtime.database.write() as session:
            row = session.get_one(Node, node.id)
            for name, value in columns.items():
                setattr(row, name, value)
            session.flush()
            advance_generations(session, [node.id])

    def lose(self, node: Node, silent_seconds: float = SILENT_SECONDS, **columns: Any) -> None:
        """The node was silent for so long."""
        heard_at = utc_now() - timedelta(seconds=silent_seconds)
        self.change(node, ready=False, heard_at=heard_at, **columns)
        for instance in self.cloud.rows(Instance):
            if instance.node_id == node.id:
                self.cloud.change(instance, status=InstanceStatus.UNKNOWN)

    def create(self, api: Api, name: str, **fields: Any) -> str:
        """An instance that runs on the first node."""
        return self.cloud.create(api, displayName=name, hostId=self.nodes[0].id, **{"haEnabled": True, **fields})

    def wait_until_elsewhere(self, api: Api, ecs_id: str) -> str:
        """The name of the node on which the instance runs again."""

        def look() -> Any:
            shown = api.ok("GET", f"{INSTANCES}/{ecs_id}")
            return shown["status"] == "Running" and shown["nodeName"] != self.nodes[0].name and shown["nodeName"]

        return str(wait_until(look, f"{ecs_id} runs elsewhere"))

    def recover_in_doubt(self, api: Api, ecs_id: str) -> None:
        """The first node is lost; the second starts the instance, says that it failed, and does not remove it."""
        self.change(self.nodes[2], schedulable=False)
        self.agents[1].refusals["ensure_running"] = Refusal(message="no answer")
        self.agents[1].refusals["ensure_removed"] = Refusal(message="libvirtd is away")
        self.lose(self.nodes[0])
        assert self.sweep() == [ecs_id]
        (move,) = api.ok("GET", f"{INSTANCES}/{ecs_id}/migrations")["list"]
        operation = f"/api/ecs/v1/operations/{move['operationId']}"
        wait_until(lambda: "not certain" in api.ok("GET", operation)["message"], "it is in doubt")
        self.change(self.nodes[2], schedulable=True)

    def running_on(self) -> list[str]:
        """Names of the nodes that have a guest which runs."""
        having = zip(self.nodes, self.agents, strict=True)
        return [
            node.name for node, agent in having for domain in agent.domains.values() if domain.power_state == RUNNING
        ]

    def alarms(self) -> list[str]:
        """Kinds of the alarms so far."""
        return [row.kind for row in self.cloud.rows(Event) if row.kind.startswith("alarm.")]


@pytest.fixture
def cluster(cloud: Cloud, tmp_path: Path) -> Iterator[Cluster]:
    others = [a_node("node-b"), a_node("node-c")]
    with cloud.runtime.database.write() as session:
        for node in others:
            add(session, node, *an_inventory(node))
    clock = old_clock()
    cloud.runtime.fences = Fences([SelfFence(utc_now, clock)], clock)
    nodes = [cloud.node, *others]
    with all_at_work(cloud.runtime, nodes, tmp_path / "pki") as agents:
        yield Cluster(cloud, nodes, agents)


@BOTH_DATABASES
def test_it_is_switched_on_when_the_node_was_told_and_off_at_once(customer: Api, cluster: Cluster) -> None:
    ecs_id = cluster.create(customer, "web", haEnabled=False)
    path, agent = f"{INSTANCES}/{ecs_id}", cluster.agents[0]
    (row,) = cluster.cloud.rows(Instance)

    def switch(enabled: bool) -> Any:
        return customer.call("PUT", f"{path}/high-availability", {"haEnabled": enabled})

    def told() -> tuple[bool, bool]:
        return agent.specs[row.uuid].ha_enabled, customer.ok("GET", path)["haEnabled"]

    agent.refusals["ensure_defined"] = Refusal(code="LeaseFailed", message="no lease", times=len(agent.calls) + 1)
    assert finish(customer, switch(True))["state"] == "Failed"
    assert (customer.ok("GET", path)["haEnabled"], customer.ok("GET", path)["status"]) == (False, "Running")
    agent.refusals.clear()
    assert finish(customer, switch(True))["state"] == "Succeeded"
    assert told() == (True, True)
    assert "x-operation-id" not in switch(True).headers
    assert finish(customer, switch(False))["state"] == "Succeeded"
    assert told() == (False, False)
    finish(customer, customer.call("PUT", f"{path}/stop", {"gracePeriodSeconds": 0}))
    assert "x-operation-id" not in switch(True).headers
    assert told() == (False, True)
    finish(customer, customer.call("PUT", f"{path}/start"))
    assert told() == (True, True)
    assert switch("perhaps").code == "ECS.InvalidParameter"  # type: ignore[arg-type]
    customer.ok("PUT", f"{path}/lock", {"isLock": True})
    assert switch(False).code == "ECS.OperationDenied.Identity"
    customer.ok("PUT", f"{path}/lock", {"isLock": False})
    # What hibernates is nowhere else: its memory is on its node.
    finish(customer, customer.call("PUT", f"{path}/hibernate"))
    cluster.lose(cluster.nodes[0])
    assert cluster.sweep() == []
    assert switch(False).code == "ECS.InvalidParameter.Status.NotSupported"


def test_devices_are_had_anew_elsewhere_and_one_of_the_node_is_told_of(customer: Api, cluster: Cluster) -> None:
    cloud, (lost, *others) = cluster.cloud, cluster.nodes
    fill(cloud, lost, a_gpu(0), a_function(1), a_stick("1"))
    fill(cloud, others[0], a_gpu(4), a_function(7), a_stick("1"))
    flavor = a_gpu_flavor(cloud, sriov=1)
    ecs_id = cluster.create(customer, "gpu", **flavor)
    bound = cluster.create(customer, "licence")
    finish(customer, customer.call("POST", f"/api/ecs/v1/usb/{bound}/bind", [{"name": "node-a-1-1"}]))
    devices = [it for spec in cluster.agents[0].specs.values() for it in spec.host_devices]
    [before] = [it.mac_address for it in devices if it.mac_address]
    cluster.agents[0].gates["ensure_released"] = threading.Event()
    cluster.lose(lost)
    assert cluster.sweep() == [ecs_id]
    assert cluster.wait_until_elsewhere(customer, ecs_id) == "node-b"
    [spec] = cluster.agents[1].specs.values()
    assert {it.device_id: it.mac_address for it in spec.host_devices} == {"0000:3b:00.4": "", "0000:5e:07.0": before}
    [alarm] = [row for row in cloud.rows(Event) if row.kind == "alarm.instance_not_recovered"]
    assert (alarm.resource_id, "usb" in alarm.data["reason"]) == (bound, True)
    # Those of the lost node are nobody's before it is back and clean.
    left = {row.device_id for row in cloud.rows(DeviceAllocation) if row.node_id == lost.id}
    assert {"0000:3b:00.0", "0000:5e:01.0"} < left
    cluster.agents[0].gates["ensure_released"].set()
    wait_until(
        lambda: [row.kind for row in cloud.rows(DeviceAllocation) if row.node_id == lost.id] == ["usb"],
        "they are given back",
    )


def test_devices_that_are_being_attached_keep_nobody_on_a_lost_node(customer: Api, cluster: Cluster) -> None:
    cloud, lost = cluster.cloud, cluster.nodes[0]
    fill(cloud, lost, a_stick("1"))
    ecs_id = cluster.create(customer, "web")
    away = Refusal(grpc.StatusCode.UNAVAILABLE, "", "no answer")
    for call in ("ensure_attached", "ensure_detached", "ensure_released", "ensure_removed"):
        cluster.agents[0].refusals[call] = away
    answer = customer.call("POST", f"/api/ecs/v1/usb/{ecs_id}/bind", [{"name": "node-a-1-1"}])
    cluster.lose(lost)
    assert cluster.sweep() == []
    assert finish(customer, answer)["state"] in ("Failed", "Canceled")
    shown = customer.ok("GET", f"{INSTANCES}/{ecs_id}")
    assert (shown["status"], shown["usbMappings"]) == ("Unknown", [])
    assert cluster.sweep() == [ecs_id]
    assert cluster.wait_until_elsewhere(customer, ecs_id) in ("node-b", "node-c")
    # Nobody has the stick before the node has given it back.
    [left] = cloud.rows(DeviceAllocation)
    assert left.consumer_uuid not in {row.uuid for row in cloud.rows(Instance)}
    cluster.agents[0].refusals.clear()
    cluster.change(lost, ready=True)
    with cloud.runtime.database.write() as session:
        session.execute(update(Task).values(not_before=None))
    cloud.runtime.wake_tasks()
    wait_until(lambda: cloud.rows(DeviceAllocation) == [], "it is given back")


def test_what_a_fenced_node_ran_runs_elsewhere_the_most_important_first(customer: Api, cluster: Cluster) -> None:
    plain = cluster.create(customer, "plain")
    first = cluster.create(customer, "first", haPriority=10)
    other = cluster.create(customer, "other", haEnabled=False)
    volumes = dict(cluster.agents[0].volumes)
    cluster.lose(cluster.nodes[0])
    assert cluster.sweep() == [first, plain]
    for ecs_id in (first, plain):
        assert cluster.wait_until_elsewhere(customer, ecs_id) in {"node-b", "node-c"}
    assert customer.ok("GET", f"{INSTANCES}/{other}")["status"] == "Unknown"
    assert (cluster.sweep(), cluster.alarms()) == ([], [])
    kinds = [row.kind for row in cluster.cloud.rows(Event)]
    assert (kinds.count("ha.instance_recovering"), kinds.count("ha.instance_recovered")) == (2, 2)
    # When it is back the lost node is rid of its domains, and of no disk: those are the instances'.
    uuids = {row.uuid for row in cluster.cloud.rows(Instance) if row.ecs_id in (first, plain)}
    wait_until(lambda: not uuids & cluster.agents[0].domains.keys(), "the lost node is cleaned")
    assert cluster.agents[0].volumes == volumes
    assert len(cluster.agents[0].domains) == 1


def test_nothing_starts_within_the_tolerance_or_without_a_fence(customer: Api, cluster: Cluster) -> None:
    ecs_id = cluster.create(customer, "web")
    cluster.lose(cluster.nodes[0], silent_seconds=20)
    assert (cluster.sweep(), cluster.alarms()) == ([], [])
    off = cluster.cloud.rows(Instance)[0]
    cluster.cloud.change(off, power_state=PowerState.SHUTOFF)
    cluster.lose(cluster.nodes[0], self_fence=False)
    assert (cluster.sweep(), cluster.alarms()) == ([], [])
    cluster.cloud.change(off, power_state=PowerState.RUNNING, status=InstanceStatus.UNKNOWN)
    assert cluster.sweep() == cluster.sweep() == []
    assert cluster.alarms() == ["alarm.node_not_fenced"]
    assert customer.ok("GET", f"{INSTANCES}/{ecs_id}")["status"] == "Unknown"
    cluster.change(cluster.nodes[0], self_fence=True)
    assert cluster.sweep() == [ecs_id]


def test_who_hears_nobody_suspects_itself(customer: Api, cluster: Cluster) -> None:
    cluster.create(customer, "web")
    cluster.lose(cluster.nodes[0])
    cluster.lose(cluster.nodes[1], silent_seconds=SILENT_SECONDS - 5)
    assert cluster.sweep() == cluster.sweep() == []
    assert cluster.alarms() == ["alarm.coordinator_isolated"]
    # One that went much earlier did not go with the others.
    cluster.change(cluster.nodes[1], heard_at=utc_now() - timedelta(days=1))
    assert len(cluster.sweep()) == 1


def test_nodes_that_went_long_ago_do_not_hide_that_all_others_went_together(customer: Api, cluster: Cluster) -> None:
    cluster.create(customer, "web")
    long_ago = utc_now() - timedelta(days=1)
    with cluster.cloud.runtime.database.write() as session:
        add(session, *(a_node(f"gone-{number}", ready=False, heard_at=long_ago) for number in range(3)))
    cluster.lose(cluster.nodes[0])
    cluster.lose(cluster.nodes[1], silent_seconds=SILENT_SECONDS - 5)
    assert cluster.sweep() == []
    assert cluster.alarms() == ["alarm.coordinator_isolated"]


def test_without_a_storage_that_others_share_nothing_is_started_elsewhere(customer: Api, cluster: Cluster) -> None:
    cluster.create(customer, "web")
    for node in cluster.nodes:
        cluster.change(node, storage_id="")
    cluster.lose(cluster.nodes[0])
    assert cluster.sweep() == []
    assert cluster.alarms() == ["alarm.instance_not_recovered"]


def test_a_node_that_is_back_keeps_its_instances(
    customer: Api, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.create(customer, "web")
    cluster.lose(cluster.nodes[0])
    confirm = cluster.cloud.runtime.fences.confirm

    def confirm_late(subject: Any) -> Any:
        outcome = confirm(subject)
        cluster.change(cluster.nodes[0], ready=True)
        return outcome

    monkeypatch.setattr(cluster.cloud.runtime.fences, "confirm", confirm_late)
    assert cluster.sweep() == []
    assert {row.node_id for row in cluster.cloud.rows(Instance)} == {cluster.nodes[0].id}


def test_a_controller_that_does_not_answer_holds_up_no_other_node(
    customer: Api, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = cluster.create(customer, "slow")
    quick = cluster.cloud.create(customer, displayName="quick", hostId=cluster.nodes[1].id, haEnabled=True)
    confirm, gate = cluster.cloud.runtime.fences.confirm, threading.Event()

    def confirm_late(subject: Any) -> Any:
        assert subject.node_id != cluster.nodes[0].id or gate.wait(60)
        return confirm(subject)

    monkeypatch.setattr(cluster.cloud.runtime.fences, "confirm", confirm_late)
    cluster.lose(cluster.nodes[0], silent_seconds=24 * 3600)
    assert cluster.sweep() == []
    cluster.lose(cluster.nodes[1])
    assert cluster.sweep() == [quick]
    gate.set()
    wait_until(lambda: cluster.sweep() == [slow], "the other one is recovered, too")


def test_disks_of_the_lost_node_alone_cannot_be_had_elsewhere(customer: Api, cluster: Cluster) -> None:
    ecs_ids = [cluster.create(customer, name) for name in ("web", "db")]
    for node in cluster.nodes[1:]:
        cluster.change(node, storage_id="another")
    cluster.lose(cluster.nodes[0])
    assert cluster.sweep() == cluster.sweep() == []
    assert cluster.alarms() == ["alarm.instance_not_recovered"] * 2
    assert {customer.ok("GET", f"{INSTANCES}/{ecs_id}")["status"] for ecs_id in ecs_ids} == {"Unknown"}


def test_an_operation_that_waits_for_the_lost_node_does_not_keep_an_instance_there(
    customer: Api, cluster: Cluster
) -> None:
    ecs_id = cluster.create(customer, "web")
    cluster.agents[0].refusals["reboot"] = Refusal(status=grpc.StatusCode.UNAVAILABLE, code="")
    restart = customer.call("PUT", f"{INSTANCES}/{ecs_id}/restart", {"gracePeriodSeconds": 1})
    wait_until(lambda: "reboot" in cluster.agents[0].calls, "the restart has begun")
    cluster.change(cluster.nodes[0], ready=False, heard_at=utc_now() - timedelta(seconds=SILENT_SECONDS))
    wait_until(lambda: cluster.sweep() == [ecs_id], "its recovery has begun")
    assert finish(customer, restart)["state"] == "Canceled"
    assert cluster.wait_until_elsewhere(customer, ecs_id) in {"node-b", "node-c"}


def test_a_start_that_fails_is_tried_again_elsewhere(customer: Api, cluster: Cluster) -> None:
    ecs_id = cluster.create(customer, "web")
    cluster.change(cluster.nodes[2], schedulable=False)
    cluster.agents[1].refusals["ensure_running"] = Refusal(message="no more memory")
    cluster.lose(cluster.nodes[0])
    assert cluster.sweep() == [ecs_id]
    moves = f"{INSTANCES}/{ecs_id}/migrations"
    wait_until(lambda: customer.ok("GET", moves)["list"][0]["state"] == "Failed", "it has failed")
    assert customer.ok("GET", f"{INSTANCES}/{ecs_id}")["status"] == "Unknown"
    assert cluster.alarms() == []
    wait_until(cluster.agents[1].is_empty, "the failed target is clean")
    cluster.change(cluster.nodes[2], schedulable=True)
    cluster.change(cluster.nodes[1], schedulable=False)
    assert cluster.sweep() == [ecs_id]
    assert cluster.wait_until_elsewhere(customer, ecs_id) == "node-c"
    assert cluster.alarms() == ["alarm.instance_not_recovered"]


def test_a_guest_keeps_its_machine_where_it_can(customer: Api, cluster: Cluster) -> None:
    cluster.agents[0].machine = "pc-q35-6.0"
    cluster.agents[1].missing_machines.add("pc-q35-6.0")
    for node in cluster.nodes[1:]:
        other = cluster.nodes[2] if node is cluster.nodes[1] else cluster.nodes[1]
        cluster.change(other, schedulable=False)
        ecs_id = cluster.create(customer, f"for {node.name}")
        cluster.lose(cluster.nodes[0])
        assert cluster.sweep() == [ecs_id]
        cluster.wait_until_elsewhere(customer, ecs_id)
        cluster.change(other, schedulable=True)
        cluster.change(cluster.nodes[0], ready=True, heard_at=utc_now())
    machines = [domain.machine for agent in cluster.agents[1:] for domain in agent.domains.values()]
    assert machines == ["pc-q35-7.2", "pc-q35-6.0"]


def test_a_guest_whose_source_and_target_are_lost_on_its_way_is_started_on_a_third(
    customer: Api, cluster: Cluster
) -> None:
    ecs_id = cluster.create(customer, "web")
    with cluster.cloud.runtime.database.write() as session:
        add(session, *(a_node(f"idle-{number}", heard_at=utc_now()) for number in range(3)))
    away = Refusal(status=grpc.StatusCode.UNAVAILABLE, code="")
    cluster.agents[0].refusals |= {"migrate": away, "cancel_migration": away}
    cluster.agents[1].refusals["ensure_incoming_removed"] = away
    move = customer.call("POST", f"{INSTANCES}/{ecs_id}/live-migrate", {"nodeName": "node-b"})
    wait_until(lambda: "migrate" in cluster.agents[0].calls, "it is on its way")
    for node in cluster.nodes[:2]:
        cluster.change(node, ready=False, heard_at=utc_now() - timedelta(seconds=SILENT_SECONDS))
    wait_until(lambda: cluster.sweep() == [ecs_id], "its recovery has begun")
    assert finish(customer, move)["error"]["code"] == "NodesLost"
    assert cluster.wait_until_elsewhere(customer, ecs_id) == "node-c"


def test_what_fails_again_and_again_is_tried_less_and_less_often(customer: Api, cluster: Cluster) -> None:
    ecs_id = cluster.create(customer, "web")
    for agent in cluster.agents[1:]:
        agent.refusals["ensure_defined"] = Refusal(message="there is no such machine type")
    cluster.lose(cluster.nodes[0])
    sweep = RecoverySweep(cluster.cloud.runtime, retry_seconds=60)
    for _ in range(2):
        wait_until(lambda: sweep() == [ecs_id], "its recovery has begun")
        wait_until(lambda: cluster.cloud.rows(Instance)[0].task_id is None, "it has failed")
    assert sweep() == sweep() == []


def test_a_start_that_may_have_begun_keeps_the_instance_from_all_other_nodes(
    customer: Api, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recover_instance, "_LOOK_AGAIN_SECONDS", 0.05)
    ecs_id = cluster.create(customer, "web")
    cluster.recover_in_doubt(customer, ecs_id)
    assert cluster.sweep() == []
    assert "node-b" in cluster.running_on()
    assert "node-c" not in cluster.running_on()
    del cluster.agents[1].refusals["ensure_removed"]
    wait_until(lambda: cluster.sweep() == [ecs_id], "its next recovery has begun")
    assert "node-b" not in cluster.running_on()


def test_a_target_that_is_lost_as_well_is_fenced_before_the_instance_starts_on_a_third(
    customer: Api, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recover_instance, "_LOOK_AGAIN_SECONDS", 0.05)
    ecs_id = cluster.create(customer, "web")
    # What else is there would make the coordinator suspect itself.
    with cluster.cloud.runtime.database.write() as session:
        add(session, *(a_node(f"idle-{number}", heard_at=utc_now()) for number in range(3)))
    cluster.recover_in_doubt(customer, ecs_id)
    cluster.lose(cluster.nodes[1], self_fence=False)
    assert cluster.sweep() == cluster.sweep() == []
    assert cluster.alarms() == ["alarm.node_not_fenced"]
    cluster.change(cluster.nodes[1], self_fence=True)
    wait_until(lambda: cluster.sweep() == [ecs_id], "its next recovery has begun")
    assert cluster.wait_until_elsewhere(customer, ecs_id) == "node-c"


def test_what_its_node_had_not_started_again_when_it_was_lost_once_more_is_recovered(
    customer: Api, cluster: Cluster
) -> None:
    ecs_id = cluster.create(customer, "web")
    (row,) = cluster.cloud.rows(Instance)
    cluster.cloud.change(row, power_state=PowerState.SHUTOFF)
    cluster.lose(cluster.nodes[0])
    assert cluster.sweep() == []
    with cluster.cloud.runtime.database.write() as session:
        add(session, Interruption(instance_id=row.id, at=utc_now()))
    assert cluster.sweep() == [ecs_id]
    assert cluster.wait_until_elsewhere(customer, ecs_id) in {"node-b", "node-c"}


def test_what_is_refused_again_is_put_off_and_told_once(customer: Api, cluster: Cluster) -> None:
    """A disk whose lock somebody still has."""
    ecs_id = cluster.create(customer, "web")
    cluster.change(cluster.nodes[2], schedulable=False)
    cluster.agents[1].refusals["ensure_running"] = Refusal(code="VolumeInUse", message="a disk is open")
    cluster.lose(cluster.nodes[0])
    clock = 0.0
    sweep = RecoverySweep(cluster.cloud.runtime, retry_seconds=2, monotonic=lambda: clock)

    def failures() -> int:
        moves = customer.ok("GET", f"{INSTANCES}/{ecs_id}/migrations")["list"]
        return len([move for move in moves if move["state"] == "Failed"])

    for count in (1, 2):
        assert sweep() == [ecs_id]
        wait_until(lambda wanted=count: failures() == wanted, "it has failed")  # type: ignore[misc]
    assert sweep() == []
    clock += 2
    wait_until(lambda: sweep() == [ecs_id], "it is tried again")
    wait_until(lambda: failures() == 3, "it has failed")
    assert cluster.alarms() == ["alarm.instance_not_recovered"]
    (alarm,) = [row for row in cluster.cloud.rows(Event) if row.kind == "alarm.instance_not_recovered"]
    assert "a disk is open" in alarm.data["reason"]


def test_a_volume_on_its_way_to_an_instance_keeps_it_not_from_being_started_elsewhere(
    customer: Api, cluster: Cluster
) -> None:
    ecs_id = cluster.create(customer, "web")
    volume = customer.ok("POST", "/api/ebs/v1/volumes", {"name": "data", "volumeSize": 1})
    away = Refusal(grpc.StatusCode.UNAVAILABLE, code="", message="away")
    calls = ("ensure_disk_attached", "ensure_disk_detached", "ensure_volume_removed")
    cluster.agents[0].refusals = dict.fromkeys(calls, away)
    customer.ok("PUT", f"{INSTANCES}/{ecs_id}/attach-volumes", [{"volumeId": volume["volumeId"]}])
    wait_until(lambda: "ensure_disk_attached" in cluster.agents[0].calls, "it is being attached")
    cluster.lose(cluster.nodes[0])

    def look() -> bool:
        cluster.sweep()
        shown = customer.ok("GET", f"{INSTANCES}/{ecs_id}")
        return bool(shown["status"] == "Running" and shown["nodeName"] != cluster.nodes[0].name)

    wait_until(look, "it runs elsewhere")
    assert customer.ok("GET", f"/api/ebs/v1/volumes/{volume['volumeId']}")["status"] == "available"


@pytest.mark.parametrize("action", ["attach", "detach"])
def test_who_shares_a_volume_with_an_ordinary_instance_does_not_wait_for_that_one(
    customer: Api, cluster: Cluster, action: str
) -> None:
    pair = [cluster.create(customer, "web"), cluster.create(customer, "batch", haEnabled=False)]
    volume = customer.ok("POST", "/api/ebs/v1/volumes", {"name": "data", "volumeSize": 1, "multiAttach": True})
    body = {"volumeId": volume["volumeId"], "ecsIds": pair}
    if action == "detach":
        attached = customer.call("PUT", f"{INSTANCES}/batch-attach-volume", body)
        assert finish(customer, attached)["state"] == "Succeeded"
    agent, begun = cluster.agents[0], f"ensure_disk_{action}ed"
    calls = ("ensure_disk_attached", "ensure_disk_detached", "ensure_volume_removed")
    agent.refusals = dict.fromkeys(calls, Refusal(grpc.StatusCode.UNAVAILABLE, code="", message="away"))
    agent.calls.clear()
    answer = customer.call("PUT", f"{INSTANCES}/batch-{action}-volume", body)
    wait_until(lambda: begun in agent.calls, "it has begun")
    cluster.lose(cluster.nodes[0])

    def look() -> bool:
        cluster.sweep()
        return bool(customer.ok("GET", f"{INSTANCES}/{pair[0]}")["nodeName"] != cluster.nodes[0].name)

    wait_until(look, "it runs elsewhere")
    assert finish(customer, answer)["state"] in {"Failed", "Canceled"}
    shown = customer.ok("GET", f"/api/ebs/v1/volumes/{volume['volumeId']}")
    # Whoever may still have it is told to: the one whose node nobody has reached.
    left = pair if action == "detach" else pair[1:]
    assert {it["ecsId"]: it["status"] for it in shown["attachments"]} == dict.fromkeys(left, "inUse")


@pytest.mark.parametrize("is_deletion", [False, True])
def test_a_snapshot_in_the_making_or_going_keeps_nobody_on_a_lost_node(
    customer: Api, cluster: Cluster, is_deletion: bool
) -> None:
    ecs_id = cluster.create(customer, "web")
    agent, call = cluster.agents[0], f"ensure_snapshot_{'removed' if is_deletion else 'taken'}"
    away = Refusal(grpc.StatusCode.UNAVAILABLE, code="", message="away")

    def lose() -> None:
        agent.refusals = dict.fromkeys(("ensure_snapshot_taken", "ensure_snapshot_removed"), away)

    if not is_deletion:
        lose()
    answer = customer.call("POST", "/api/ecs/v1/snapshot", {"ecsId": ecs_id, "snapshotName": "before"})
    if is_deletion:
        assert finish(customer, answer)["state"] == "Succeeded"
        lose()
        (row,) = cluster.cloud.rows(Snapshot)
        answer = customer.call("DELETE", f"/api/ecs/v1/snapshot/{row.snapshot_id}")
    wait_until(lambda: call in agent.calls, "it has begun")
    cluster.lose(cluster.nodes[0])

    def look() -> bool:
        cluster.sweep()
        shown = customer.ok("GET", f"{INSTANCES}/{ecs_id}")
        return bool(shown["status"] == "Running" and shown["nodeName"] != cluster.nodes[0].name)

    wait_until(look, "it runs elsewhere")
    assert [row.status for row in cluster.cloud.rows(Snapshot)] == ["error"]


def test_a_guest_that_was_off_for_its_rollback_alone_is_started_elsewhere(customer: Api, cluster: Cluster) -> None:
    ecs_id = cluster.create(customer, "web")
    finish(customer, customer.call("POST", SNAPSHOTS, {"ecsId": ecs_id, "snapshotName": "before"}))
    [taken] = customer.ok("GET", f"{SNAPSHOTS}?ecsid={ecs_id}")["ecsSnapshots"]
    away = Refusal(status=grpc.StatusCode.UNAVAILABLE, code="")
    agent = cluster.agents[0]
    # The disks are back already, and the node dies before the guest is on again.
    agent.gates["ensure_snapshot_removed"] = gate = threading.Event()
    agent.refusals |= dict.fromkeys(("ensure_snapshot_removed", "ensure_defined", "ensure_running"), away)
    answer = customer.call("POST", f"{SNAPSHOTS}/{taken['ecsSnapshotId']}/rollback")
    wait_until(lambda: "ensure_snapshot_removed" in agent.calls, "the disks are back")
    cluster.lose(cluster.nodes[0])
    gate.set()
    assert finish(customer, answer)["state"] == "Succeeded"
    assert cluster.sweep() == [ecs_id]
    assert cluster.wait_until_elsewhere(customer, ecs_id) in {"node-b", "node-c"}
