"""Snapshots of instances, over REST, the task engine and an agent that does as the test says."""

from dataclasses import replace
from typing import Any

import grpc
import pytest

from coordinator.domain.instance import InstanceStatus
from coordinator.domain.snapshot import SnapshotStatus
from coordinator.services import snapshot
from coordinator.store.tables import Instance, Node, Snapshot, Volume, VolumeBackup, VolumeSnapshot
from coordinator.tasks.kinds import delete_snapshot
from coordinator.tasks.kinds.delete_snapshot import DELETE_SNAPSHOT
from protos.agent.v1 import storage_pb2
from tests.api.client import Answer, Api
from tests.api.cloud import INSTANCES, Cloud, an_os_disk, finish
from tests.api.test_schedule import SCHEDULER, create
from tests.builders import a_node, add, an_image
from tests.lab.waiting import wait_until
from tests.scripted_agent import Refusal, ScriptedAgent

SNAPSHOTS = "/api/ecs/v1/snapshot"
VOLUMES = "/api/ebs/v1/volumes"
BACKUPS = "/api/ecs/v1/backups"
BROKEN = Refusal(grpc.StatusCode.INTERNAL, "StorageFailed", "the disk is on fire")


@pytest.fixture
def ecs_id(customer: Api, cloud: Cloud, agent: ScriptedAgent) -> str:
    """An instance with two volumes that runs; what it took to make it is forgotten."""
    data = {"isOsDisk": False, "volumeSize": 5, "volumeType": "ssd"}
    made = cloud.create(customer, volumes=[an_os_disk(), data])
    agent.calls.clear()
    return made


def order(ecs_id: str, **fields: Any) -> dict[str, Any]:
    """The body of the reference's example."""
    return {"ecsId": ecs_id, "snapshotName": "snapshot-test-001", **fields}


def take(api: Api, ecs_id: str, **fields: Any) -> dict[str, Any]:
    """A snapshot that has been taken, as the list shows it."""
    answer = api.call("POST", SNAPSHOTS, order(ecs_id, **fields))
    assert (answer.code, answer.data) == ("Success", None), answer
    assert finish(api, answer)["state"] == "Succeeded"
    found: dict[str, Any] = api.ok("GET", f"{SNAPSHOTS}?ecsid={ecs_id}")["ecsSnapshots"][0]
    return found


def end(api: Api, answer: Answer) -> str:
    """How the operation of an answer without data ended."""
    assert (answer.code, answer.data) == ("Success", None), answer
    return str(finish(api, answer)["state"])


def show(api: Api, snapshot: dict[str, Any]) -> dict[str, Any]:
    data = api.ok("GET", f"{SNAPSHOTS}/{snapshot['ecsSnapshotId']}")
    assert data["totalCount"] == 1
    shown: dict[str, Any] = data["ecsSnapshots"][0]
    return shown


def test_a_snapshot_is_taken_shown_rolled_back_to_and_deleted(
    customer: Api, stranger: Api, cloud: Cloud, agent: ScriptedAgent, ecs_id: str
) -> None:
    taken = take(customer, ecs_id)
    assert taken["ecsSnapshotId"].startswith("ecs.snapshot-")
    assert (taken["status"], taken["type"], taken["consistency"]) == ("available", "manual", "fileSystem")
    assert (taken["ecsId"], taken["ecsSnapshotName"], taken["region"]) == (ecs_id, "snapshot-test-001", "region0")
    assert (taken["expiredAt"], taken["deletedAt"], taken["volumeSnapshots"]) == ("0001-01-01T00:00:00Z", None, None)
    assert (taken["tenantName"], taken["consistencySnapshotId"]) == (cloud.tenant.name, 0)

    shown = show(customer, taken)
    assert customer.ok("GET", f"{SNAPSHOTS}/{taken['id']}")["ecsSnapshots"] == [shown]
    parts = shown["volumeSnapshots"]
    assert [(it["volumeSize"], it["isOSDisk"], it["allocatedBytes"]) for it in parts] == [
        (20, True, 4096),
        (5, False, 4096),
    ]
    assert (shown["errorMessage"], shown["errMessage"]) == ("", "")
    assert stranger.ok("GET", SNAPSHOTS)["totalCount"] == 0
    assert stranger.refused("GET", f"{SNAPSHOTS}/{taken['ecsSnapshotId']}").code == "ECS.DBGet.NoData"
    assert all(names == {taken["ecsSnapshotId"]} for names in agent.snapshots.values())

    # It runs: so it is stopped, and started again.
    agent.calls.clear()
    assert end(customer, customer.call("POST", f"{SNAPSHOTS}/{taken['ecsSnapshotId']}/rollback")) == "Succeeded"
    did = ["ensure_stopped", "ensure_snapshot_taken", "ensure_rolled_back", "ensure_snapshot_removed", "ensure_running"]
    assert [name for name in agent.calls if name in did] == did
    assert {snapshot_id for _, snapshot_id in agent.rolled_back} == {taken["ecsSnapshotId"]}
    assert len(agent.rolled_back) == 2
    assert customer.ok("GET", f"{INSTANCES}/{ecs_id}")["status"] == "Running"
    assert show(customer, taken)["status"] == "available"
    assert all(names == {taken["ecsSnapshotId"]} for names in agent.snapshots.values())

    assert end(customer, customer.call("DELETE", f"{SNAPSHOTS}/{taken['ecsSnapshotId']}")) == "Succeeded"
    assert customer.ok("GET", SNAPSHOTS) == {"ecsSnapshots": [], "totalCount": 0}
    assert not any(agent.snapshots.values())
    assert cloud.rows(VolumeSnapshot) == []


BAD: list[tuple[str, str, dict[str, Any], str]] = [
    ("POST", "", {"ecsId": "ecs-00000000000000"}, "ECS.DBGet.NoData"),
    ("POST", "", {"ecsId": None}, "ECS.InvalidParameter"),
    ("POST", "", {"snapshotName": ""}, "ECS.InvalidParameter"),
    ("POST", "", {"snapshotName": "x" * 128}, "ECS.InvalidParameter"),
    ("POST", "", {"snapshotName": " a"}, "ECS.InvalidParameter"),
    ("POST", "", {"snapshotName": "a\nb"}, "ECS.InvalidParameter"),
    ("POST", "", {"quiesce": "perhaps"}, "ECS.InvalidParameter"),
    ("GET", "?pageSize=0", {}, "ECS.InvalidParameter"),
    ("GET", "?pageSize=x", {}, "ECS.InvalidParameter"),
    ("GET", "?filter=nothing:eq:1", {}, "ECS.InvalidParameter"),
    ("GET", "/ecs.snapshot-0000000000000000", {}, "ECS.DBGet.NoData"),
    ("GET", "/7", {}, "ECS.DBGet.NoData"),
    ("GET", "/99999999999999999", {}, "ECS.DBGet.NoData"),
    ("DELETE", "/ecs.snapshot-0000000000000000", {}, "ECS.DBGet.NoData"),
    ("DELETE", "/7", {}, "ECS.DBGet.NoData"),
    ("DELETE", "/-1", {}, "ECS.DBGet.NoData"),
    ("POST", "/ecs.snapshot-0000000000000000/rollback", {}, "ECS.DBGet.NoData"),
    ("POST", "/7/rollback", {"force": "perhaps"}, "ECS.InvalidParameter"),
    ("POST", "/%F0%9F%98%80/rollback", {}, "ECS.DBGet.NoData"),
]


def test_what_makes_no_sense_is_refused(customer: Api, cloud: Cloud, ecs_id: str, agent: ScriptedAgent) -> None:
    for method, path, fields, code in BAD:
        body = {**order(ecs_id), **fields} if method == "POST" else None
        body = {name: value for name, value in body.items() if value is not None} if body else None
        assert customer.refused(method, SNAPSHOTS + path, body).code == code, (method, path, fields)
    assert agent.calls == []
    assert cloud.rows(Snapshot) == []


def test_states_that_do_not_admit_it_and_limits(customer: Api, cloud: Cloud, ecs_id: str, agent: ScriptedAgent) -> None:
    cloud.runtime.settings.snapshots_per_instance = 1
    taken = take(customer, ecs_id)
    assert customer.refused("POST", SNAPSHOTS, order(ecs_id)).code == "ECS.OperationDenied.QuotaExceeded"
    cloud.runtime.settings.snapshots_per_instance = 2
    [instance], [row] = cloud.rows(Instance), cloud.rows(Snapshot)
    path = f"{SNAPSHOTS}/{taken['ecsSnapshotId']}"

    for status in (InstanceStatus.UNKNOWN, InstanceStatus.MIGRATING):
        cloud.change(instance, status=status)
        for method, at, body in (("POST", SNAPSHOTS, order(ecs_id)), ("POST", f"{path}/rollback", None)):
            assert customer.refused(method, at, body).code == "ECS.InvalidParameter.Status.NotSupported"
    cloud.change(instance, status=InstanceStatus.RUNNING, is_locked=True)
    for method, at, body in (
        ("POST", SNAPSHOTS, order(ecs_id)),
        ("POST", f"{path}/rollback", None),
        ("DELETE", path, None),
    ):
        assert customer.refused(method, at, body).code == "ECS.OperationDenied.Identity"
    cloud.change(instance, is_locked=False)
    cloud.change(row, status=SnapshotStatus.CREATING)
    for method, at in (("POST", f"{path}/rollback"), ("DELETE", path)):
        assert customer.refused(method, at).code == "ECS.InvalidParameter.Status.NotSupported"
    # Nothing is left of what was refused.
    assert len(cloud.rows(Snapshot)) == 1
    # In the recycle bin it is not shown, but counts.
    cloud.change(row, status=SnapshotStatus.AVAILABLE, deleted_at=cloud.runtime.now())
    assert customer.refused("GET", path).code == "ECS.DBGet.NoData"
    assert customer.ok("GET", SNAPSHOTS)["totalCount"] == 0
    cloud.runtime.settings.snapshots_per_instance = 1
    assert customer.refused("POST", SNAPSHOTS, order(ecs_id)).code == "ECS.OperationDenied.QuotaExceeded"


def test_a_failure_leaves_nothing_half(customer: Api, cloud: Cloud, ecs_id: str, agent: ScriptedAgent) -> None:
    agent.refusals["ensure_snapshot_taken"] = BROKEN
    assert end(customer, customer.call("POST", SNAPSHOTS, order(ecs_id))) == "Failed"
    [failed] = customer.ok("GET", SNAPSHOTS)["ecsSnapshots"]
    assert (failed["status"], "on fire" in failed["errorMessage"]) == ("error", True)
    assert not any(agent.snapshots.values())
    agent.refusals.clear()
    assert end(customer, customer.call("DELETE", f"{SNAPSHOTS}/{failed['ecsSnapshotId']}")) == "Succeeded"

    taken = take(customer, ecs_id, quiesce=False)
    assert agent.orders[-1].quiesce is False
    path = f"{SNAPSHOTS}/{taken['ecsSnapshotId']}"
    agent.refusals["ensure_rolled_back"] = Refusal(grpc.StatusCode.INTERNAL, "StorageFailed", "on fire", times=1)
    agent.calls.clear()
    assert end(customer, customer.call("POST", f"{path}/rollback", {"force": True})) == "Failed"
    # What the volumes held is back, the guest runs, and the copy for this is gone.
    assert [snapshot_id for _, snapshot_id in agent.rolled_back[-2:]] != [taken["ecsSnapshotId"]] * 2
    assert all(names == {taken["ecsSnapshotId"]} for names in agent.snapshots.values())
    assert customer.ok("GET", f"{INSTANCES}/{ecs_id}")["status"] == "Running"
    assert show(customer, taken)["status"] == "available"

    # A copy that its node does not remove keeps nobody waiting, and is removed later.
    agent.calls.clear()
    del agent.refusals["ensure_rolled_back"]
    agent.refusals["ensure_snapshot_removed"] = Refusal(grpc.StatusCode.INTERNAL, "StorageFailed", "on fire", times=2)
    assert end(customer, customer.call("POST", f"{path}/rollback", {"force": True})) == "Succeeded"
    assert customer.ok("GET", f"{INSTANCES}/{ecs_id}")["status"] == "Running"
    wait_until(lambda: all(it == {taken["ecsSnapshotId"]} for it in agent.snapshots.values()), "the copy is gone")

    agent.refusals["ensure_snapshot_removed"] = BROKEN
    assert end(customer, customer.call("DELETE", path)) == "Failed"
    assert show(customer, taken)["status"] == "error"
    agent.refusals.clear()
    assert end(customer, customer.call("DELETE", path)) == "Succeeded"


def test_volumes_with_snapshots_are_not_deleted_and_instances_take_theirs_along(
    customer: Api, cloud: Cloud, ecs_id: str, agent: ScriptedAgent
) -> None:
    taken = take(customer, ecs_id)
    path = f"{SNAPSHOTS}/{taken['ecsSnapshotId']}"
    [data] = [volume for volume in cloud.rows(Volume) if not volume.is_os_disk]
    detached = customer.call("PUT", f"{INSTANCES}/{ecs_id}/detach-volumes", {"volumeUuids": [f"volume-{data.uuid}"]})
    assert end(customer, detached) == "Succeeded"
    refused = customer.refused("DELETE", f"{VOLUMES}/{data.id}")
    assert (refused.code, taken["ecsSnapshotId"] in refused.message) == ("ECS.OperationDenied.InUse", True)
    refused = customer.refused("POST", f"{path}/rollback")
    assert (refused.code, data.uuid in refused.message) == ("ECS.InvalidParameter.Status.NotSupported", True)

    # Another instance gets it, with the wish that it goes with that one; the first one's snapshot needs it.
    other = cloud.create(customer, displayName="other")
    wish = [{"volumeId": data.id, "deleteOnTermination": True}]
    assert end(customer, customer.call("PUT", f"{INSTANCES}/{other}/attach-volumes", wish)) == "Succeeded"
    assert end(customer, customer.call("DELETE", f"{INSTANCES}/{other}")) == "Succeeded"
    assert data.uuid in agent.volumes

    assert end(customer, customer.call("DELETE", f"{INSTANCES}/{ecs_id}")) == "Succeeded"
    assert agent.snapshots == {data.uuid: set()}
    assert cloud.rows(Snapshot) == cloud.rows(VolumeSnapshot) == []
    assert end(customer, customer.call("DELETE", f"{VOLUMES}/{data.id}")) == "Succeeded"
    assert cloud.holds_nothing()


def test_an_instance_is_free_before_its_snapshot_is_gone_from_nodes_that_are_away(
    customer: Api, cloud: Cloud, ecs_id: str, agent: ScriptedAgent
) -> None:
    away = a_node(name="away")
    with cloud.runtime.database.write() as session:
        add(session, away)
    taken = take(customer, ecs_id)
    [data] = [volume for volume in cloud.rows(Volume) if not volume.is_os_disk]
    detached = customer.call("PUT", f"{INSTANCES}/{ecs_id}/detach-volumes", {"volumeUuids": [f"volume-{data.uuid}"]})
    assert end(customer, detached) == "Succeeded"
    cloud.change(next(it for it in cloud.rows(Volume) if it.id == data.id), node_id=away.id)

    deletion = customer.call("DELETE", f"{SNAPSHOTS}/{taken['ecsSnapshotId']}")
    assert deletion.code == "Success"
    wait_until(lambda: cloud.rows(Instance)[0].task_id is None, "the instance is free")
    assert show(customer, taken)["status"] == "deleting"
    assert sum(map(len, agent.snapshots.values())) == 1
    other = take(customer, ecs_id)
    assert end(customer, customer.call("DELETE", f"{SNAPSHOTS}/{other['ecsSnapshotId']}")) == "Succeeded"

    cloud.change(next(it for it in cloud.rows(Volume) if it.id == data.id), node_id=cloud.node.id)
    cloud.runtime.wake_tasks()
    assert end(customer, deletion) == "Succeeded"
    assert not any(agent.snapshots.values())
    assert cloud.rows(Snapshot) == []


def test_a_deletion_that_an_older_program_began_is_done_as_a_whole(
    customer: Api, cloud: Cloud, ecs_id: str, agent: ScriptedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = take(customer, ecs_id)
    [data] = [volume for volume in cloud.rows(Volume) if not volume.is_os_disk]
    detached = customer.call("PUT", f"{INSTANCES}/{ecs_id}/detach-volumes", {"volumeUuids": [f"volume-{data.uuid}"]})
    assert end(customer, detached) == "Succeeded"
    # The volume that was detached is none of the instance's node, as for one that has no node any more.
    monkeypatch.setattr(delete_snapshot, "has_instance", lambda _session, _args: False)
    former = replace(DELETE_SNAPSHOT, steps=DELETE_SNAPSHOT.steps[:1], schema_version=1)
    monkeypatch.setattr(snapshot, "DELETE_SNAPSHOT", former)
    assert end(customer, customer.call("DELETE", f"{SNAPSHOTS}/{taken['ecsSnapshotId']}")) == "Succeeded"
    assert (any(agent.snapshots.values()), cloud.rows(Snapshot)) == (False, [])


def test_a_guest_that_runs_does_not_leave_its_snapshots_behind(
    operator: Api, customer: Api, cloud: Cloud, ecs_id: str
) -> None:
    other = a_node(name="other")
    with cloud.runtime.database.write() as session:
        add(session, other)
    take(customer, ecs_id)
    path = f"{INSTANCES}/{ecs_id}/live-migrate"
    refused = operator.refused("POST", path, {"nodeName": "other"})
    assert (refused.code, "snapshots" in refused.message) == ("ECS.InvalidParameter.Status.NotSupported", True)
    # Where another node shares the storage they stay where they are.
    for node in cloud.rows(Node):
        cloud.change(node, storage_id="6b1e8c1e-7e64-4a7e-9c60-0e2a4a7a7d11")
    assert "snapshots" not in operator.refused("POST", path, {"nodeName": "other"}).message


def test_where_volumes_are_decides_what_can_be_done_with_them(
    operator: Api, customer: Api, cloud: Cloud, agent: ScriptedAgent
) -> None:
    agent.backends = {
        "ssd": storage_pb2.VOLUME_BACKEND_LVM_THIN,
        "hdd": storage_pb2.VOLUME_BACKEND_LVM,
        "essd": storage_pb2.VOLUME_BACKEND_CEPH,
    }
    data = {"isOsDisk": False, "volumeSize": 5}
    solid = cloud.create(customer, displayName="solid", volumes=[an_os_disk(), {**data, "volumeType": "hdd"}])
    ceph = cloud.create(customer, displayName="ceph", volumes=[an_os_disk(), {**data, "volumeType": "essd"}])
    named = {volume.volume_type: volume.name for volume in cloud.rows(Volume) if not volume.is_os_disk}
    before = len(agent.calls)
    for path, body, told in (
        (SNAPSHOTS, order(solid), f"{named['hdd']} of instance {solid}: a logical volume outside of a thin pool"),
        (
            BACKUPS,
            {"ecsId": ceph},
            f"{named['essd']} (Ceph) of instance {ceph}: volumes in LVM and Ceph are not backed",
        ),
    ):
        refused = customer.refused("POST", path, body)
        assert refused.code == "ECS.InvalidParameter.Status.NotSupported"
        assert told in refused.message
    # Nothing was begun, and nothing is left of it.
    assert (len(agent.calls), cloud.rows(Snapshot), cloud.rows(VolumeBackup)) == (before, [], [])
    assert take(customer, ceph)["status"] == "available"
    # A thin pool keeps its snapshots: the instance does not leave it, on or off, and is copied there alone.
    other = a_node(name="other", storage_id="6b1e8c1e-7e64-4a7e-9c60-0e2a4a7a7d11")
    with cloud.runtime.database.write() as session:
        add(session, other)
    answer = customer.call("PUT", f"{INSTANCES}/{ceph}/stop", {"gracePeriodSeconds": 0})
    assert finish(customer, answer)["state"] == "Succeeded"
    cold = operator.refused("POST", f"{INSTANCES}/{ceph}/cold-migrate", {"nodeName": "other"})
    assert "stay with the thin pool" in cold.message
    cloud.change(cloud.rows(Node)[0], storage_id=other.storage_id)
    [taken] = cloud.rows(Snapshot)
    far = customer.refused(
        "POST", INSTANCES, cloud.order(volumes=[an_os_disk(osSnapshotId=taken.snapshot_id)], hostId=other.id)
    )
    assert far.message.startswith("hostId:")


def test_an_instance_is_made_from_a_snapshot(
    customer: Api, stranger: Api, cloud: Cloud, ecs_id: str, agent: ScriptedAgent
) -> None:
    taken = take(customer, ecs_id)
    [origin] = [volume for volume in cloud.rows(Volume) if volume.is_os_disk]

    def disk(**fields: Any) -> list[dict[str, Any]]:
        return [an_os_disk(osSnapshotId=taken["id"], **fields)]

    made = cloud.create(customer, displayName="copy", volumes=disk(), image=None)
    [copied] = [order for order in agent.orders if hasattr(order, "origin")]
    assert (copied.origin.volume_uuid, copied.origin.snapshot_id) == (origin.uuid, taken["ecsSnapshotId"])
    shown = customer.ok("GET", f"{INSTANCES}/{made}")
    assert (shown["status"], shown["nodeName"]) == ("Running", cloud.node.name)
    [instance] = [row for row in cloud.rows(Instance) if row.ecs_id == made]
    assert instance.image_id == cloud.image.id

    far_node, image = a_node(name="far"), an_image()
    with cloud.runtime.database.write() as session:
        add(session, far_node, image)
    by_id = [an_os_disk(osSnapshotId=taken["ecsSnapshotId"])]
    for fields, told in (
        ({"volumes": disk(volumeSize=19)}, "volumes[0].volumeSize"),
        ({"volumes": by_id, "image": {"imageUid": image.id}}, "image.imageUid"),
        ({"volumes": [an_os_disk(osSnapshotId={})]}, "osSnapshotId"),
    ):
        assert told in customer.refused("POST", INSTANCES, cloud.order(**fields)).message
    # Only where it can be read.
    far = customer.refused("POST", INSTANCES, cloud.order(volumes=by_id, hostId=far_node.id))
    assert far.message.startswith("hostId:")
    cloud.change(cloud.rows(Snapshot)[0], status=SnapshotStatus.CREATING)
    refused = customer.refused("POST", INSTANCES, cloud.order(volumes=by_id))
    assert refused.code == "ECS.InvalidParameter.Status.NotSupported"


def test_a_scheduled_task_takes_snapshots(customer: Api, cloud: Cloud, ecs_id: str) -> None:
    schedule_id = create(customer, cloud, ecs_id, schedulerType="snapshotEcs", schedulerName="n" * 127)
    finish(customer, customer.call("POST", f"{SCHEDULER}/{schedule_id}/run"))
    [row] = cloud.rows(Snapshot)
    assert (row.type, row.status, len(row.name)) == ("auto", "available", 127)
    # One that is refused leaves nothing.
    cloud.change(cloud.rows(Instance)[0], status=InstanceStatus.UNKNOWN)
    customer.ok("POST", f"{SCHEDULER}/{schedule_id}/run")
    assert len(cloud.rows(Snapshot)) == 1
