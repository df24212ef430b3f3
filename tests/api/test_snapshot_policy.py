"""Snapshot policies: kept, bound, paused; what is due is taken once, some at a time, and kept for its time."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from coordinator.domain.identifier import Identifiers, Prefix
from coordinator.domain.instance import InstanceStatus
from coordinator.domain.snapshot import SnapshotStatus, SnapshotType
from coordinator.services import snapshot_policy_run, snapshot_recycle
from coordinator.services.snapshot_policy_run import SnapshotPolicySweep
from coordinator.services.snapshot_recycle import SnapshotPurgeSweep
from coordinator.store.tables import AuditRecord, Event, Instance, Node, Snapshot, SnapshotPolicyBinding, Task
from tests.api.client import Api
from tests.api.cloud import INSTANCES, Cloud
from tests.api.test_schedule_run import Clock
from tests.builders import a_node, a_volume, add, an_instance

POLICY = "/api/ecs/v1/policy"
# The reference's own.
BODY = {"policyName": "policy_test", "hourOfDay": "0", "weekDays": "1", "expire": 0}
EVERY_HOUR = {"hourOfDay": ",".join(map(str, range(24))), "weekDays": "1,2,3,4,5,6,7"}
ABSENT = "ECS.DBGet.NoData"


@pytest.fixture
def clock(cloud: Cloud) -> Clock:
    """Monday, 2 March 2026, half a minute past noon."""
    made = Clock()
    cloud.runtime.now = made
    return made


def create(customer: Api, **changes: Any) -> str:
    """A policy; its creation answers nothing."""
    assert customer.ok("PUT", POLICY, BODY | changes) is None
    return str(customer.ok("GET", POLICY)["snapshotPolicies"][0]["policyId"])


def show(customer: Api, policy_id: str) -> dict[str, Any]:
    answered = customer.ok("GET", f"{POLICY}/{policy_id}")
    assert answered["totalCount"] == 1
    policy: dict[str, Any] = answered["snapshotPolicies"][0]
    return policy


def put(cloud: Cloud, node: Node | None = None, **columns: Any) -> str:
    """A running instance with a disk."""
    instance = an_instance(
        cloud.tenant, cloud.flavor, node=node or cloud.node, **{"status": InstanceStatus.RUNNING, **columns}
    )
    with cloud.runtime.database.write() as session:
        add(session, instance)
        add(session, a_volume(cloud.tenant, instance, is_os_disk=True))
    return instance.ecs_id


def bind(customer: Api, policy_id: str, *ecs_ids: str) -> None:
    for ecs_id in ecs_ids:
        assert customer.ok("POST", f"{POLICY}/{policy_id}/bind", {"ecsId": ecs_id}) is None


def snapshots(cloud: Cloud) -> list[Snapshot]:
    return sorted(cloud.rows(Snapshot), key=lambda row: row.id)


def settle(cloud: Cloud) -> None:
    """What was begun has ended well."""
    for instance in cloud.rows(Instance):
        cloud.change(instance, task_id=None)
    for snapshot in cloud.rows(Snapshot):
        cloud.change(snapshot, status=SnapshotStatus.AVAILABLE)


def events(cloud: Cloud, kind: str) -> list[Event]:
    return [row for row in cloud.rows(Event) if row.kind == kind]


def test_a_policy_is_kept_as_the_reference_has_it(customer: Api, stranger: Api, cloud: Cloud, clock: Clock) -> None:
    policy_id = create(customer)
    assert policy_id.startswith("ecs.policy-")
    shown = show(customer, policy_id)
    expected = {"policyName": "policy_test", "hourOfDay": "0", "weekDays": "1", "expire": 0, "status": "enabled"}
    assert {name: shown[name] for name in expected} == expected
    # Of Mondays, the next one.
    assert (shown["executeAt"], shown["tenantId"]) == ("2026-03-09T00:00:00.000Z", cloud.tenant.id)
    assert (shown["bindEcs"], shown["bindEcsCount"], shown["deletedAt"]) == (None, 0, None)
    # Without a body it is the detail, with one the change.
    assert customer.ok("POST", f"{POLICY}/{policy_id}")["snapshotPolicies"] == [shown]
    assert customer.ok("POST", f"{POLICY}/{policy_id}", BODY | {"hourOfDay": "1,0", "policyName": "other"}) is None
    changed = show(customer, policy_id)
    assert (changed["hourOfDay"], changed["policyName"]) == ("0,1", "other")
    create(customer, policyName="third", hourOfDay=[13], weekDays="7,1", timeZone="Asia/Shanghai")
    third = customer.ok("GET", f"{POLICY}?policyName=thi&pageSize=10&pageNumber=1")
    assert third["totalCount"] == 1
    # Sunday is 7; one in the afternoon there is five in the morning.
    assert third["snapshotPolicies"][0]["executeAt"] == "2026-03-08T05:00:00.000Z"
    assert customer.ok("GET", f"{POLICY}?policyId={policy_id}")["totalCount"] == 1
    assert stranger.ok("GET", POLICY) == {"snapshotPolicies": [], "totalCount": 0}
    for method, path in (("GET", ""), ("POST", "/pause"), ("POST", "/resume"), ("DELETE", "")):
        assert stranger.refused(method, f"{POLICY}/{policy_id}{path}").code == ABSENT
    assert customer.ok("DELETE", f"{POLICY}/{policy_id}") is None
    assert customer.refused("GET", f"{POLICY}/{policy_id}").code == ABSENT


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("policyName", ""),
        ("policyName", " x"),
        ("hourOfDay", "24"),
        ("hourOfDay", ""),
        ("hourOfDay", "noon"),
        ("weekDays", "0"),
        ("weekDays", "1,8"),
        ("weekDays", None),
        ("expire", -1),
        ("expire", 65537),
        ("expire", "soon"),
        ("timeZone", "Mars/Olympus"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_name(customer: Api, cloud: Cloud, field: str, value: object) -> None:
    assert field in customer.refused("PUT", POLICY, BODY | {field: value}).message
    assert cloud.rows(SnapshotPolicyBinding) == []


def test_operators_say_whose_it_is_and_a_tenant_has_so_many(operator: Api, customer: Api, cloud: Cloud) -> None:
    assert "tenantId" in operator.refused("POST", POLICY, BODY).message
    owner = {"tenantId": cloud.tenant.id, "departmentId": cloud.department.id}
    assert operator.ok("POST", POLICY, BODY | owner) is None
    [shown] = customer.ok("GET", f"{POLICY}?departmentId={cloud.department.id}")["snapshotPolicies"]
    assert shown["departmentName"] == cloud.department.name
    assert customer.refused("PUT", POLICY, BODY | {"departmentId": "1"}).code == ABSENT
    cloud.runtime.settings.snapshot_policies_per_tenant = 1
    assert "1 snapshot policies" in customer.refused("PUT", POLICY, BODY).message
    # Nobody is deleted who owns one.
    assert "snapshot policy" in operator.refused("DELETE", f"/api/iam/v1/tenants/{cloud.tenant.id}").message
    in_use = operator.refused("DELETE", f"/api/iam/v1/departments/{cloud.department.id}").code
    assert in_use == "ECS.OperationDenied.InUse"


def test_an_instance_has_one_policy_at_most(
    customer: Api, auditor: Api, stranger: Api, cloud: Cloud, clock: Clock
) -> None:
    first, second, ecs_id = create(customer), create(customer, policyName="second"), put(cloud)
    path = f"{POLICY}/{first}/bind"
    for refused in (
        auditor.refused("GET", f"{path}?ecsId={ecs_id}"),
        stranger.refused("POST", path, {"ecsId": ecs_id}),
        customer.refused("POST", path),
        customer.refused("POST", path, {"ecsId": "ecs-" + "0" * 14}),
    ):
        assert cloud.rows(SnapshotPolicyBinding) == [], refused
    # The reference binds with GET; its body is one all the same.
    content = json.dumps({"ecsId": ecs_id})
    answer = customer.client.request("GET", path, headers={**headers(customer)}, content=content)
    assert answer.json()["code"] == "Success"
    cloud.runtime.audit.flush()
    assert [row.operation for row in cloud.rows(AuditRecord) if row.method == "GET" and row.code == "Success"] == [
        "bindSnapshotPolicyByGet"
    ]
    bind(customer, first, ecs_id)
    assert customer.refused("POST", f"{POLICY}/{second}/bind", {"ecsId": ecs_id}).code.startswith("ECS.")
    shown = show(customer, first)
    assert ([it["ecsId"] for it in shown["bindEcs"]], shown["bindEcsCount"]) == ([ecs_id], 1)
    bound = customer.ok("GET", f"{INSTANCES}/{ecs_id}")["snapshotPolicyBind"]
    assert (bound["policyId"], bound["policyName"]) == (first, "policy_test")
    # Another policy's unbinding leaves it bound; its own can be repeated, and deletion unbinds.
    for policy_id, left in ((second, 1), (first, 0), (first, 0)):
        assert customer.ok("POST", f"{POLICY}/{policy_id}/unbind", {"ecsId": ecs_id}) is None
        assert len(cloud.rows(SnapshotPolicyBinding)) == left
    bind(customer, second, ecs_id)
    customer.ok("DELETE", f"{POLICY}/{second}")
    assert customer.ok("GET", f"{INSTANCES}/{ecs_id}")["snapshotPolicyBind"] is None


def headers(api: Api) -> dict[str, str]:
    return {"authorization": f"Bearer {api.token}", "x-regionid": "region0", "content-type": "application/json"}


def test_what_is_due_is_taken_once_and_kept_for_its_time(customer: Api, cloud: Cloud, clock: Clock) -> None:
    ecs_id = put(cloud)
    policy_id = create(customer, **EVERY_HOUR, expire=90)
    bind(customer, policy_id, ecs_id)
    sweep, purge = SnapshotPolicySweep(cloud.runtime), SnapshotPurgeSweep(cloud.runtime)
    assert sweep() == []
    clock.turn(13, 0)
    assert (sweep(), sweep()) == ([ecs_id], [])
    [taken] = snapshots(cloud)
    assert (taken.name, taken.type, taken.status) == ("policy_test-20260302-1300", SnapshotType.AUTO, "creating")
    assert taken.expires_at == clock() + timedelta(minutes=90)
    [task] = cloud.rows(Task)
    assert (task.kind, task.resource_id, task.tenant_id) == ("create_snapshot", ecs_id, cloud.tenant.id)
    [told] = events(cloud, "snapshot_policy.ran")
    assert (told.resource_id, told.tenant_id, told.data["instances"]) == (policy_id, cloud.tenant.id, 1)
    shown = show(customer, policy_id)
    assert shown["executeAt"] == "2026-03-02T14:00:00.000Z"
    assert shown["bindEcs"][0]["lastSnapshotId"] == taken.snapshot_id
    settle(cloud)
    clock.turn(14, 0)
    assert (sweep(), purge()) == ([ecs_id], [])
    settle(cloud)
    # The first one's time is over, the second one's is not.
    clock.turn(14, 30)
    assert (purge(), purge()) == ([taken.snapshot_id], [])
    assert [row.status for row in snapshots(cloud)] == ["deleting", "available"]
    assert [task.kind for task in cloud.rows(Task)].count("delete_snapshot") == 1


def test_many_that_are_due_are_taken_some_at_a_time(
    customer: Api, cloud: Cloud, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_policy_run, "MOST_AT_ONCE", 5)
    others = [a_node(name=f"other-{number}") for number in range(2)]
    away = a_node(name="away", ready=False)
    with cloud.runtime.database.write() as session:
        add(session, *others, away)
    bound = [put(cloud, node) for node in (cloud.node, *others) for _ in range(3)]
    lost = put(cloud, away)
    policy_id = create(customer, **EVERY_HOUR)
    bind(customer, policy_id, *bound, lost)
    sweep = SnapshotPolicySweep(cloud.runtime)
    clock.turn(13, 0)
    first = sweep()
    assert (len(first), sweep()) == (5, [])
    nodes = [row.node_id for row in cloud.rows(Instance) if row.ecs_id in first]
    assert max(nodes.count(node_id) for node_id in nodes) == snapshot_policy_run.MOST_OF_NODE
    settle(cloud)
    # Begun by another coordinator, after this one's end.
    assert sorted(first + SnapshotPolicySweep(cloud.runtime)()) == sorted(bound)
    settle(cloud)
    # Two hours later the one whose node is away is told of, and the present time is everybody's.
    clock.turn(15, 1)
    begun = sweep()
    assert len(begun) == 5
    assert len(snapshots(cloud)) == len(bound) + 5
    assert {row.resource_id for row in events(cloud, "snapshot_policy.failed")} == {lost}
    settle(cloud)
    cloud.change(away, ready=True)
    assert lost in sweep()


def test_what_was_missed_is_caught_up_once_or_told_of(customer: Api, cloud: Cloud, clock: Clock) -> None:
    ecs_id = put(cloud)
    bind(customer, create(customer, hourOfDay="13,14,15", weekDays="1"), ecs_id)
    sweep = SnapshotPolicySweep(cloud.runtime)
    clock.turn(15, 40)
    assert (sweep(), sweep()) == ([ecs_id], [])
    assert [row.name for row in snapshots(cloud)] == ["policy_test-20260302-1500"]
    settle(cloud)
    clock.turn(20, 0, day=9)
    assert sweep() == []
    assert len(snapshots(cloud)) == 1
    [missed] = events(cloud, "snapshot_policy.missed")
    assert (missed.severity, missed.data["dueAt"][:16]) == ("warning", "2026-03-09T13:00")


def test_who_refuses_is_asked_again_or_told_of(
    customer: Api, cloud: Cloud, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = put(cloud, is_locked=False)
    busy, hidden = put(cloud, task_id="op-other"), put(cloud, status=InstanceStatus.HIBERNATING)
    policy_id = create(customer, **EVERY_HOUR)
    bind(customer, policy_id, locked, busy, hidden)
    by_id = {row.ecs_id: row for row in cloud.rows(Instance)}
    cloud.change(by_id[locked], is_locked=True)
    sweep = SnapshotPolicySweep(cloud.runtime)
    clock.turn(13, 0)
    assert sweep() == []
    [told] = events(cloud, "snapshot_policy.failed")
    assert (told.resource_id, "locked" in told.data["reason"], told.severity) == (locked, True, "warning")
    assert snapshots(cloud) == []
    states = {it["ecsId"]: (it["dueAt"][:4], it["lastError"]) for it in show(customer, policy_id)["bindEcs"]}
    assert (states[locked][0], states[busy], states[hidden][0]) == ("0001", ("2026", ""), "2026")
    assert "Hibernating" in states[hidden][1]
    # They are asked again once they have time, not before.
    cloud.change(by_id[busy], task_id=None)
    cloud.change(by_id[hidden], status=InstanceStatus.RUNNING)
    assert sweep() == [busy]
    clock.turn(13, 1)
    assert sweep() == [hidden]
    # What is in the recycle bin is passed over in silence, and so is what is paused.
    settle(cloud)
    cloud.change(by_id[hidden], status=InstanceStatus.SOFT_DELETED)
    customer.ok("POST", f"{POLICY}/{policy_id}/pause")
    assert show(customer, policy_id)["status"] == "disabled"
    clock.turn(14, 0)
    assert sweep() == []
    assert customer.ok("POST", f"{POLICY}/{policy_id}/resume") is None
    assert (sweep(), show(customer, policy_id)["executeAt"]) == ([], "2026-03-02T15:00:00.000Z")
    clock.turn(15, 0)
    assert sweep() == [busy]
    assert len(events(cloud, "snapshot_policy.failed")) == 2
    monkeypatch.setattr(cloud.runtime.database, "lead", lambda: False)
    clock.turn(16, 0)
    assert sweep() == []


def test_a_sweep_that_dies_takes_nothing_twice(
    customer: Api, cloud: Cloud, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ecs_id = put(cloud)
    bind(customer, create(customer, **EVERY_HOUR), ecs_id)
    clock.turn(13, 0)
    for place in ("next_due", "begin_snapshot"):
        with dying(monkeypatch, place), pytest.raises(SystemExit):
            SnapshotPolicySweep(cloud.runtime)()
        assert (snapshots(cloud), cloud.rows(Task)) == ([], []), place
    assert SnapshotPolicySweep(cloud.runtime)() == [ecs_id]
    assert SnapshotPolicySweep(cloud.runtime)() == []
    assert len(events(cloud, "snapshot_policy.ran")) == 1


@contextmanager
def dying(monkeypatch: pytest.MonkeyPatch, place: str) -> Iterator[None]:
    """The process dies right after this has been done."""
    original = getattr(snapshot_policy_run, place)

    def die(*args: Any, **named: Any) -> None:
        original(*args, **named)
        raise SystemExit("killed")

    with monkeypatch.context() as patched:
        patched.setattr(snapshot_policy_run, place, die)
        yield


RECYCLE = "/api/ecs/v1/recycle"
CONFIG = f"{INSTANCES}/recycle-config"


def keep(cloud: Cloud, ecs_id: str, **columns: Any) -> str:
    """A snapshot of the instance that was taken."""
    [instance] = [row for row in cloud.rows(Instance) if row.ecs_id == ecs_id]
    values = {"name": "lptest6", "status": SnapshotStatus.AVAILABLE, **columns}
    snapshot = Snapshot(
        snapshot_id=Identifiers().new(Prefix.SNAPSHOT),
        tenant_id=cloud.tenant.id,
        department_id=cloud.department.id,
        instance_id=instance.id,
        **values,
    )
    with cloud.runtime.database.write() as session:
        add(session, snapshot)
    return snapshot.snapshot_id


def test_a_deleted_snapshot_is_kept_restored_and_purged(
    operator: Api, customer: Api, stranger: Api, cloud: Cloud, clock: Clock
) -> None:
    operator.ok("PUT", CONFIG, {"enable": True, "freezeTime": 2})
    ecs_id = put(cloud)
    kept, failed = keep(cloud, ecs_id), keep(cloud, ecs_id, status=SnapshotStatus.ERROR)
    caller = snapshot_recycle._SELF
    assert snapshot_recycle.recycle_snapshot(cloud.runtime, caller, kept) is None
    # What was never taken is deleted for good.
    assert snapshot_recycle.recycle_snapshot(cloud.runtime, caller, failed)
    listed = customer.ok("GET", f"{RECYCLE}?current=1&size=10&instanceId={kept}")
    [shown] = listed.pop("list")
    assert listed == {"size": 10, "current": 1, "total": 1}
    expected = {
        "instanceId": kept,
        "instanceName": "lptest6",
        "instanceType": "ecsSnapshot",
        "associatedEcsId": ecs_id,
        "tenantId": cloud.tenant.id,
        "cleanAt": int((clock() + timedelta(days=2)).timestamp()),
        "departmentName": cloud.department.name,
        "deletedAt": None,
    }
    assert {name: shown[name] for name in expected} == expected
    assert customer.ok("GET", f"{RECYCLE}?ecsId={ecs_id}&instanceName=test")["total"] == 1
    assert customer.ok("GET", f"{RECYCLE}?ecsId=ecs-other")["total"] == 0
    assert stranger.ok("GET", RECYCLE)["total"] == 0
    path = f"{RECYCLE}/snapshot/{kept}"
    for method in ("PUT", "DELETE"):
        assert stranger.refused(method, path).code == ABSENT
        assert customer.refused(method, f"{RECYCLE}/snapshot/ecs.snapshot-{'0' * 16}").code == ABSENT
    # The body is the example's; nothing of it is asked for.
    assert customer.ok("PUT", path, {"name": "sdasa", "sourceType": "ECS_SYSTEM_DISK"}) is None
    assert customer.refused("PUT", path).code == ABSENT
    assert customer.ok("GET", RECYCLE)["total"] == 0
    [row] = [row for row in snapshots(cloud) if row.snapshot_id == kept]
    assert (row.deleted_at, row.purge_at, row.name) == (None, None, "lptest6")
    told = [(it.kind, it.tenant_id) for it in cloud.rows(Event) if it.resource_id == kept]
    assert told == [("snapshot.recycled", cloud.tenant.id), ("snapshot.restored", cloud.tenant.id)]

    settle(cloud)
    snapshot_recycle.recycle_snapshot(cloud.runtime, caller, kept)
    purge = SnapshotPurgeSweep(cloud.runtime)
    clock.at += timedelta(days=2) - timedelta(minutes=1)
    assert purge() == []
    clock.at += timedelta(minutes=1)
    # Not while the instance is locked, or in the bin itself; then once.
    [instance] = cloud.rows(Instance)
    for columns in ({"is_locked": True}, {"status": InstanceStatus.SOFT_DELETED}):
        before = {name: getattr(instance, name) for name in columns}
        cloud.change(instance, **columns)
        assert purge() == []
        cloud.change(instance, **before)
    assert (purge(), purge()) == ([kept], [])
    assert customer.refused("PUT", path).code == "ECS.InvalidParameter.Status.NotSupported"


def test_a_snapshot_in_the_bin_is_deleted_for_good_by_hand(operator: Api, customer: Api, cloud: Cloud) -> None:
    operator.ok("PUT", CONFIG, {"enable": True, "freezeTime": 2})
    kept = keep(cloud, put(cloud, status=InstanceStatus.STOPPED))
    snapshot_recycle.recycle_snapshot(cloud.runtime, snapshot_recycle._SELF, kept)
    answer = customer.call("DELETE", f"{RECYCLE}/snapshot/{kept}")
    [task] = cloud.rows(Task)
    assert (answer.code, answer.headers["x-operation-id"], task.kind) == ("Success", task.id, "delete_snapshot")
    assert customer.refused("DELETE", f"{RECYCLE}/snapshot/{kept}").code.endswith("NotSupported")


def test_failed_snapshots_of_policies_are_forgotten_and_failed_deletions_tried_again(
    cloud: Cloud, clock: Clock
) -> None:
    ecs_id, now = put(cloud), datetime(2026, 3, 2, 12, 0, 30, tzinfo=UTC)
    error = {"status": SnapshotStatus.ERROR, "type": SnapshotType.AUTO}
    old = keep(cloud, ecs_id, **error, created_at=now - timedelta(days=2), updated_at=now - timedelta(days=2))
    keep(cloud, ecs_id, **error, created_at=now, updated_at=now)
    keep(cloud, ecs_id, status=SnapshotStatus.ERROR, created_at=now - timedelta(days=9), updated_at=now)
    purge = SnapshotPurgeSweep(cloud.runtime)
    assert (purge(), purge()) == ([old], [])
    # It has failed just now.
    settle(cloud)
    [row] = [row for row in snapshots(cloud) if row.snapshot_id == old]
    cloud.change(row, status=SnapshotStatus.ERROR, updated_at=now)
    assert purge() == []
    clock.turn(12, 11)
    assert purge() == [old]
