"""Instances in the recycle bin: kept whole, out of everybody's way, restored, and deleted when their time is over."""

import threading
from datetime import timedelta
from typing import Any

import grpc
import pytest
from sqlmodel import select

from coordinator.domain.clock import utc_now
from coordinator.domain.instance import InstanceStatus, PowerState
from coordinator.services import domain_report, purge
from coordinator.services.purge import PurgeSweep
from coordinator.services.restart import RestartSweep
from coordinator.store.tables import (
    Allocation,
    Event,
    Instance,
    Interruption,
    Node,
    Port,
    RecycledInstance,
    Task,
    Volume,
)
from protos.agent.v1 import domain_pb2
from tests.api.client import Answer, Api
from tests.api.cloud import INSTANCES, OPERATIONS, Cloud, an_os_disk, finish
from tests.api.test_volume_attachment import make
from tests.builders import a_node, add, an_instance
from tests.lab.waiting import wait_until
from tests.scripted_agent import Refusal, ScriptedAgent

CONFIG = f"{INSTANCES}/recycle-config"
BIN = "/api/ecs/v1/recycle/instances"
CLEAN = "/api/ecs/v1/res-life-cycle/auto-clean"
REFUSED = "ECS.InvalidParameter.Status.NotSupported"
ABSENT = "ECS.DBGet.NoData"
SOFT_DELETED = f"{INSTANCES}?filter=status:eq:softdeleted"


@pytest.fixture
def on(operator: Api) -> Api:
    """The bin is on, for three days."""
    operator.ok("PUT", CONFIG, {"enable": True, "freezeTime": 3})
    return operator


def recycle(customer: Api, ecs_id: str) -> Answer:
    """Deletes the instance, which goes to the bin."""
    answer = customer.call("DELETE", f"{INSTANCES}/{ecs_id}")
    assert finish(customer, answer)["state"] == "Succeeded"
    return answer


def put(cloud: Cloud, node: Node | None = None, *, purge_in: timedelta = timedelta(hours=-1)) -> str:
    """An instance in the bin, whose time is over."""
    instance = an_instance(cloud.tenant, cloud.flavor, node=node or cloud.node, status=InstanceStatus.SOFT_DELETED)
    with cloud.runtime.database.write() as session:
        add(session, instance)
        now = utc_now()
        recycled = RecycledInstance(
            instance_id=instance.id or 0,
            recycled_at=now - timedelta(days=3),
            purge_at=now + purge_in,
            status_before="Stopped",
        )
        session.add(recycled)
    return instance.ecs_id


def events(cloud: Cloud, kind: str) -> list[Event]:
    return [row for row in cloud.rows(Event) if row.kind == kind]


def ids(api: Api, path: str = INSTANCES) -> list[str]:
    return [row["ecsId"] for row in api.ok("GET", path)["virtualMachines"]]


def test_the_configuration_is_the_regions(operator: Api, customer: Api) -> None:
    assert customer.ok("GET", CONFIG) == {"enable": False, "freezeTime": 1}
    assert operator.ok("PUT", CONFIG, {"enable": "true", "freezeTime": "7"}) is None
    assert operator.ok("GET", CONFIG) == {"enable": True, "freezeTime": 7}
    for body in (
        {"enable": True},
        {"freezeTime": 1},
        {"enable": True, "freezeTime": 0},
        {"enable": True, "freezeTime": 1.5},
        {"enable": "perhaps", "freezeTime": 1},
        {"enable": True, "freezeTime": 10**6},
    ):
        answer = operator.refused("PUT", CONFIG, body)
        assert "freezeTime" in answer.message or "enable" in answer.message
    assert customer.refused("PUT", CONFIG, {"enable": False, "freezeTime": 1}).code == "ECS.OperationDenied.Identity"
    assert operator.ok("GET", CONFIG) == {"enable": True, "freezeTime": 7}


def test_a_deleted_instance_is_kept_whole_and_restored(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, on: Api
) -> None:
    data_disk = an_os_disk(isOsDisk=False, bootIndex=None, deleteOnTermination=False, volumeSize=7)
    ecs_id = cloud.create(customer, volumes=[an_os_disk(), data_disk])
    before = customer.ok("GET", f"{INSTANCES}/{ecs_id}")
    held = [cloud.rows(table) for table in (Allocation, Volume, Port)]
    agent.calls.clear()
    recycle(customer, ecs_id)
    # Asked to shut down, and nothing else.
    assert agent.calls == ["ensure_stopped"]
    assert [cloud.rows(table) for table in (Allocation, Volume, Port)] == held
    assert customer.ok("GET", INSTANCES)["totalCount"] == 0
    assert ids(customer, SOFT_DELETED) == ids(customer, f"{INSTANCES}?filter=status:in:Running,SoftDeleted") == [ecs_id]
    shown = customer.ok("GET", f"{BIN}/{ecs_id}")
    assert (shown["status"], shown["bRecycle"], shown["hardDeletedAt"]) == ("SoftDeleted", True, None)
    assert abs(shown["expireCountdown"] - 3 * 24 * 3600) < 60
    assert shown["expiredAt"] > shown["softDeletedAt"]
    assert customer.ok("GET", f"{INSTANCES}/{ecs_id}")["softDeletedAt"] == shown["softDeletedAt"]
    assert [it["volumeSize"] for it in shown["volumes"]] == [20, 7]
    assert (shown["cpus"], shown["memory"], shown["image"]["imageUid"]) == (2, {"amount": "4096Mi"}, cloud.image.id)
    assert shown["networks"][0]["fixedIp"] == before["networkMappings"][0]["ipv4Address"]
    # Deleted again it stays there.
    assert "x-operation-id" not in customer.call("DELETE", f"{INSTANCES}/{ecs_id}").headers

    assert customer.ok("PUT", f"{BIN}/{ecs_id}") is None
    after = customer.ok("GET", f"{INSTANCES}/{ecs_id}")
    assert (after["status"], after["softDeletedAt"], after["expireCountdown"]) == ("Stopped", None, 0)
    for name in ("blockDeviceMappings", "networkMappings", "nodeName", "flavorId", "createdAt"):
        assert after[name] == before[name]
    assert finish(customer, customer.call("PUT", f"{INSTANCES}/{ecs_id}/start"))["state"] == "Succeeded"
    assert [row.data for row in events(cloud, "instance.restored")] == [{"status": "Stopped", "before": "Running"}]
    [told] = events(cloud, "instance.recycled")
    assert (told.resource_id, told.tenant_id, "purgeAt" in told.data) == (ecs_id, cloud.tenant.id, True)


def test_deletion_for_good_leaves_nothing(customer: Api, cloud: Cloud, agent: ScriptedAgent, on: Api) -> None:
    ecs_id = cloud.create(customer)
    recycle(customer, ecs_id)
    body = {"instanceId": ecs_id, "serviceCode": "ECS"}
    early = customer.refused("POST", CLEAN, body)
    assert early.code == REFUSED
    assert "until" in early.message
    answer = customer.call("DELETE", f"{BIN}/{ecs_id}")
    assert finish(customer, answer)["state"] == "Succeeded"
    assert agent.is_empty()
    assert cloud.holds_nothing()
    assert cloud.rows(RecycledInstance) == []
    for method, path in (("GET", f"{BIN}/{ecs_id}"), ("PUT", f"{BIN}/{ecs_id}"), ("GET", f"{INSTANCES}/{ecs_id}")):
        assert customer.refused(method, path).code == ABSENT
    assert len(events(cloud, "instance.deleted")) == 1


@pytest.mark.parametrize("code", ["DomainStopTimeout", "DomainStateConflict"])
def test_a_guest_that_does_not_obey_is_ended(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, on: Api, code: str
) -> None:
    ecs_id = cloud.create(customer)
    agent.refusals["ensure_stopped"] = Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, code, "runs on")
    recycle(customer, ecs_id)
    assert agent.calls[-2:] == ["ensure_stopped", "ensure_stopped_by_force"]
    assert customer.ok("GET", f"{BIN}/{ecs_id}")["status"] == "SoftDeleted"


def test_a_domain_that_is_gone_does_not_keep_its_disks_from_the_bin(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, on: Api
) -> None:
    ecs_id = cloud.create(customer)
    agent.refusals["ensure_stopped"] = Refusal(grpc.StatusCode.NOT_FOUND, "DomainNotFound", "gone")
    recycle(customer, ecs_id)
    customer.ok("PUT", f"{BIN}/{ecs_id}")
    assert customer.ok("GET", f"{INSTANCES}/{ecs_id}")["status"] == "Unknown"
    # A start puts it back, as ever.
    assert finish(customer, customer.call("PUT", f"{INSTANCES}/{ecs_id}/start"))["state"] == "Succeeded"


def test_a_canceled_deletion_leaves_the_instance_where_it_was(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, on: Api
) -> None:
    ecs_id = cloud.create(customer)
    agent.gates["ensure_stopped"] = threading.Event()
    answer = customer.call("DELETE", f"{INSTANCES}/{ecs_id}")
    wait_until(lambda: "ensure_stopped" in agent.calls, "the guest is asked")
    assert customer.ok("GET", f"{INSTANCES}/{ecs_id}")["status"] == "Terminating"
    again = customer.call("DELETE", f"{INSTANCES}/{ecs_id}")
    assert again.headers["x-operation-id"] == answer.headers["x-operation-id"]
    assert customer.refused("PUT", f"{BIN}/{ecs_id}").code == ABSENT
    customer.ok("DELETE", f"{OPERATIONS}/{answer.headers['x-operation-id']}")
    assert finish(customer, answer)["state"] == "Canceled"
    shown = customer.ok("GET", f"{INSTANCES}/{ecs_id}")
    assert (shown["status"], shown["errMessage"]) == ("Running", "deletion canceled")


def test_a_volume_that_was_on_its_way_is_an_ordinary_one_of_what_is_restored(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, on: Api
) -> None:
    ecs_id, flags = cloud.create(customer), {"deleteOnTermination": True}
    volumes = [make(customer, name="own"), make(customer, name="shared", multiAttach=True)]
    for volume in volumes:
        agent.calls.clear()
        agent.gates["ensure_disk_attached"] = threading.Event()
        order = [{"volumeId": volume["volumeId"], **flags}]
        customer.ok("PUT", f"{INSTANCES}/{ecs_id}/attach-volumes", order)
        wait_until(lambda: "ensure_disk_attached" in agent.calls, "it is being attached")
        finish(customer, recycle(customer, ecs_id))
        agent.gates.clear()
        customer.ok("PUT", f"{BIN}/{ecs_id}")
        finish(customer, customer.call("PUT", f"{INSTANCES}/{ecs_id}/start"))
    held = customer.ok("GET", f"{INSTANCES}/{ecs_id}/attached-volumes")["attachedVolumes"][1:]
    assert [it["status"] for it in held] == ["inUse"] * 2
    for volume in volumes:
        body = {"volumeId": volume["volumeId"]}
        answer = customer.call("PUT", f"{INSTANCES}/{ecs_id}/detach-volume", body)
        assert finish(customer, answer)["state"] == "Succeeded"


def test_what_was_never_made_is_not_kept(customer: Api, cloud: Cloud, agent: ScriptedAgent, on: Api) -> None:
    agent.gates["ensure_defined"] = threading.Event()
    created = customer.call("POST", INSTANCES, cloud.order())
    wait_until(lambda: "ensure_defined" in agent.calls, "it is being made")
    deleted = customer.call("DELETE", f"{INSTANCES}/{created.data['ecsId']}")
    agent.gates["ensure_defined"].set()
    assert finish(customer, deleted)["state"] == "Succeeded"
    assert agent.is_empty()
    assert cloud.holds_nothing()
    assert customer.refused("GET", f"{BIN}/{created.data['ecsId']}").code == ABSENT


CHANGES: list[tuple[str, str, Any]] = [
    ("PUT", "/start", None),
    ("PUT", "/stop", None),
    ("PUT", "/restart", None),
    ("PUT", "/lock", {"isLock": True}),
    ("PUT", "/label", []),
    ("PUT", "/reset-name", {"displayname": "other"}),
    ("PUT", "/description", {"description": "other"}),
    ("POST", "/cold-migrate", {"nodeName": "other"}),
    ("POST", "/live-migrate", {"nodeName": "other"}),
    ("PUT", "/reset-hostname", {"hostname": "other"}),
    ("POST", "/reset-password", {"password": "screen12"}),
]


def test_nothing_changes_what_is_in_the_bin(
    operator: Api, customer: Api, stranger: Api, cloud: Cloud, agent: ScriptedAgent, on: Api
) -> None:
    ecs_id = cloud.create(customer)
    recycle(customer, ecs_id)
    [volume] = cloud.rows(Volume)
    refusals = {path: customer.call(method, f"{INSTANCES}/{ecs_id}{path}", body).code for method, path, body in CHANGES}
    assert refusals == dict.fromkeys(refusals, REFUSED)
    flag = {"volumeId": volume.id, "deleteOnTermination": False}
    assert customer.refused("PUT", f"{INSTANCES}/{ecs_id}/reset-voldelflag", flag).code == REFUSED
    assert customer.refused("PUT", f"/api/ebs/v1/volumes/{volume.id}/resize", {"volumeSize": 90}).code == REFUSED
    for method, path, body in (
        ("GET", f"{BIN}/{ecs_id}", None),
        ("PUT", f"{BIN}/{ecs_id}", None),
        ("DELETE", f"{BIN}/{ecs_id}", None),
        ("POST", CLEAN, {"instanceId": ecs_id, "serviceCode": "ECS"}),
    ):
        assert stranger.refused(method, path, body).code == ABSENT
    for body in ({"instanceId": ecs_id}, {"serviceCode": "ECS"}, {"instanceId": ecs_id, "serviceCode": "EBS"}):
        assert customer.refused("POST", CLEAN, body).code.startswith("ECS.InvalidParameter")
    counts = operator.ok("GET", "/api/ecs/v1/monitor/vmcount")
    assert sum(value for value in counts.values() if isinstance(value, int)) == 0


def test_what_the_node_says_does_not_take_it_out_of_the_bin(cloud: Cloud, customer: Api) -> None:
    ecs_id, now = put(cloud), utc_now()
    running = domain_pb2.Domain(uuid=cloud.rows(Instance)[0].uuid, power_state=domain_pb2.POWER_STATE_RUNNING)
    for power_state in (PowerState.RUNNING, PowerState.ABSENT):
        with cloud.runtime.database.write() as session:
            node = session.get_one(Node, cloud.node.id)
            present = [running] if power_state is PowerState.RUNNING else []
            # Not one that nobody placed there.
            assert domain_report.reconcile_domains(session, node, present, now) == []
            [instance] = session.exec(select(Instance)).all()
            domain_report.apply_loss(instance, node)
        [row] = cloud.rows(Instance)
        assert (row.status, row.power_state) == (InstanceStatus.SOFT_DELETED, power_state)
    assert customer.ok("GET", f"{BIN}/{ecs_id}")["errMessage"] == ""


def test_what_a_reboot_had_interrupted_is_not_started_in_the_bin(cloud: Cloud) -> None:
    put(cloud)
    [instance] = cloud.rows(Instance)
    cloud.change(instance, power_state=PowerState.SHUTOFF)
    with cloud.runtime.database.write() as session:
        session.add(Interruption(instance_id=instance.id, at=utc_now()))
    assert RestartSweep(cloud.runtime)() == []
    assert (cloud.rows(Interruption), cloud.rows(Task)) == ([], [])


def test_expired_ones_are_purged_some_at_a_time(cloud: Cloud, customer: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purge, "MOST_PURGES", 5)
    others = [a_node(name=f"other-{number}") for number in range(3)]
    away = a_node(name="away", ready=False)
    with cloud.runtime.database.write() as session:
        add(session, *others, away)
    expired = [put(cloud, node) for node in (cloud.node, *others) for _ in range(3)]
    put(cloud, away)
    kept = put(cloud, purge_in=timedelta(days=1))
    sweep = PurgeSweep(cloud.runtime)
    begun = sweep()
    assert len(begun) == 5
    nodes = [row.node_id for row in cloud.rows(Instance) if row.ecs_id in begun]
    assert max(nodes.count(node_id) for node_id in nodes) == purge.MOST_PURGES_OF_NODE
    assert (begun[:2], sweep()) == (expired[:2], [])
    # One that is restored meanwhile is left alone.
    assert customer.call("PUT", f"{BIN}/{kept}").code == "Success"
    assert customer.refused("PUT", f"{BIN}/{begun[0]}").code == REFUSED
    again = customer.call("DELETE", f"{BIN}/{begun[0]}")
    assert again.headers["x-operation-id"] == next(t.id for t in cloud.rows(Task) if t.resource_id == begun[0])
    monkeypatch.setattr(cloud.runtime.database, "lead", lambda: False)
    assert sweep() == []


def test_the_end_is_told_of_once_before(cloud: Cloud) -> None:
    soon, _ = put(cloud, purge_in=timedelta(hours=5)), put(cloud, purge_in=timedelta(hours=7))
    sweep = PurgeSweep(cloud.runtime)
    for _ in range(2):
        assert sweep() == []
        [told] = events(cloud, "instance.purge_due")
        assert (told.resource_id, told.tenant_id, told.severity) == (soon, cloud.tenant.id, "warning")


def test_a_purge_that_fails_is_tried_again_later_and_told_of(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, on: Api
) -> None:
    ecs_id = cloud.create(customer)
    recycle(customer, ecs_id)
    [row] = cloud.rows(RecycledInstance)
    cloud.change(row, purge_at=utc_now() - timedelta(minutes=1))
    sweep = PurgeSweep(cloud.runtime)
    agent.refusals["ensure_volume_removed"] = Refusal(message="the disk is on fire")
    assert sweep() == [ecs_id]
    wait_until(lambda: cloud.rows(RecycledInstance)[0].failures == 1, "it has failed")
    [row] = cloud.rows(RecycledInstance)
    assert row.purging
    assert row.not_before > utc_now() + timedelta(minutes=4)
    assert sweep() == []
    shown = customer.ok("GET", f"{BIN}/{ecs_id}")
    assert (shown["status"], "on fire" in shown["errMessage"]) == ("SoftDeleted", True)
    assert customer.refused("PUT", f"{BIN}/{ecs_id}").code == REFUSED
    [alarm] = events(cloud, "alarm.instance_not_purged")
    assert (alarm.severity, alarm.data["failures"]) == ("alarm", 1)
    del agent.refusals["ensure_volume_removed"]
    cloud.change(row, not_before=utc_now())
    assert sweep() == [ecs_id]
    wait_until(lambda: not cloud.rows(RecycledInstance), "it is gone")
    assert agent.is_empty()
    assert cloud.holds_nothing()
