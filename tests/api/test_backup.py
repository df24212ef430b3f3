"""Backups of volumes, over REST, the task engine and an agent that does as the test says."""

import hashlib
from datetime import timedelta
from typing import Any

import grpc
import pytest

from coordinator.domain.instance import InstanceStatus
from coordinator.services.retention import forget_expired
from coordinator.store.tables import Instance, Volume, VolumeBackup
from tests.api.client import Api
from tests.api.cloud import INSTANCES, Cloud, an_os_disk, finish
from tests.database import SQLITE_ONLY
from tests.scripted_agent import Refusal, ScriptedAgent

BACKUPS = "/api/ecs/v1/backups"
VOLUMES = "/api/ebs/v1/volumes"
CONTENT = bytes(range(256)) * 20
UNSUPPORTED = "ECS.InvalidParameter.Status.NotSupported"


@pytest.fixture
def ecs_id(customer: Api, cloud: Cloud, agent: ScriptedAgent) -> str:
    """An instance with two volumes that runs."""
    agent.exported = CONTENT
    data = {"isOsDisk": False, "volumeSize": 5, "volumeType": "ssd"}
    made = cloud.create(customer, volumes=[an_os_disk(), data])
    agent.calls.clear()
    return made


def make(api: Api, **order: Any) -> list[dict[str, Any]]:
    """Backups that have been made, the system disk's first."""
    answer = api.call("POST", BACKUPS, order)
    assert answer.code == "Success", answer
    assert finish(api, answer)["state"] == "Succeeded"
    return [api.ok("GET", f"{BACKUPS}/{row['backupId']}") for row in answer.data["backups"]]


def download(api: Api, backup_id: str, **headers: str) -> Any:
    """The bare answer."""
    sent = {"x-regionid": api.region, "authorization": f"Bearer {api.token}", **headers}
    return api.client.get(f"{BACKUPS}/{backup_id}/file", headers=sent)


def test_a_full_backup_an_increment_and_what_becomes_of_the_chain(
    customer: Api, stranger: Api, cloud: Cloud, agent: ScriptedAgent, ecs_id: str
) -> None:
    disk, data = make(customer, ecsId=ecs_id)
    assert disk["pointId"] == data["pointId"] != disk["backupId"]
    assert [(it["isOSDisk"], it["sizeBytes"] >> 30, it["volumeName"] != "") for it in (disk, data)] == [
        (True, 20, True),
        (False, 5, True),
    ]
    assert (disk["mode"], disk["parentId"], disk["wholeBecause"]) == ("full", "", "")
    assert (disk["status"], disk["consistency"], disk["hasFile"]) == ("available", "fileSystem", True)
    assert (disk["fileBytes"], disk["sha256"]) == (len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    assert agent.calls == ["ensure_snapshot_taken", *["ensure_volume_exported"] * 2]
    assert all(kept == {disk["pointId"]} for kept in agent.snapshots.values())

    disk2, data2 = make(customer, ecsId=ecs_id, quiesce=False)
    assert (disk2["mode"], disk2["parentId"]) == ("incremental", disk["backupId"])
    assert (data2["parentFileName"], data2["fileName"]) == (f"{data['backupId']}.qcow2", f"{data2['backupId']}.qcow2")
    # Each volume keeps one state, the newest.
    assert all(kept == {disk2["pointId"]} for kept in agent.snapshots.values())
    assert [customer.ok("GET", f"{BACKUPS}/{it['backupId']}")["isParent"] for it in (disk, disk2)] == [False, True]

    # One volume alone; and what its node does not know any more is told, and copied as a whole.
    [data3] = make(customer, volumeId=data["volumeUuid"])
    assert (data3["parentId"], data3["pointId"] != disk2["pointId"]) == (data2["backupId"], True)
    agent.snapshots.clear()
    [data4] = make(customer, volumeId=data["volumeUuid"])
    assert (data4["mode"], data4["parentId"]) == ("full", "")
    assert "former state" in data4["wholeBecause"]
    [data5] = make(customer, volumeId=data["volumeUuid"], mode="full")
    assert (data5["mode"], data5["wholeBecause"]) == ("full", "")

    assert customer.ok("GET", f"{BACKUPS}?filter=ecsId:eq:{ecs_id}&pageSize=2")["totalCount"] == 7
    assert customer.ok("GET", f"{BACKUPS}?filter=pointId:eq:{disk['pointId']}")["totalCount"] == 2
    assert stranger.ok("GET", BACKUPS)["totalCount"] == 0
    for method, path in (("GET", ""), ("GET", "/file"), ("DELETE", "")):
        refused = stranger.refused(method, f"{BACKUPS}/{disk['backupId']}{path}")
        assert refused.code == "ECS.DBGet.NoData"

    # Without the newest the chain ends; the others' states are gone already.
    for it in (data5, data4):
        answer = customer.call("DELETE", f"{BACKUPS}/{it['backupId']}")
        assert finish(customer, answer)["state"] == "Succeeded"
        assert it["backupId"] not in agent.exports
    assert agent.snapshots[data["volumeUuid"].removeprefix("volume-")] == set()
    assert make(customer, volumeId=data["volumeUuid"])[0]["mode"] == "full"


def test_a_file_is_downloaded_as_a_whole_and_in_parts(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, ecs_id: str
) -> None:
    backup = make(customer, ecsId=ecs_id)[0]
    backup_id, size = backup["backupId"], len(CONTENT)
    whole = download(customer, backup_id)
    assert (whole.status_code, whole.content) == (200, CONTENT)
    assert whole.headers["content-length"] == str(size)
    assert whole.headers["content-disposition"] == f'attachment; filename="{backup_id}.qcow2"'
    tag = whole.headers["etag"]
    for wanted, first, last in (
        ("bytes=0-0", 0, 0),
        ("bytes=2500-", 2500, size - 1),
        ("bytes=10-3000", 10, 3000),
        ("bytes=-7", size - 7, size - 1),
        ("bytes=5-999999999", 5, size - 1),
    ):
        part = download(customer, backup_id, Range=wanted, **{"If-Range": tag})
        assert (part.status_code, part.content) == (206, CONTENT[first : last + 1]), wanted
        assert part.headers["content-range"] == f"bytes {first}-{last}/{size}"
    for wanted in (f"bytes={size}-", "bytes=-0"):
        beyond = download(customer, backup_id, Range=wanted)
        assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")
    for headers in ({"Range": "lines=1-2"}, {"Range": "bytes=9-3"}, {"Range": "bytes=1-", "If-Range": '"old"'}):
        assert download(customer, backup_id, **headers).content == CONTENT

    agent.exports.clear()
    assert customer.refused("GET", f"{BACKUPS}/{backup_id}/file").code == "ECS.DBGet.NoData"
    agent.refusals["read_volume_export"] = Refusal(grpc.StatusCode.UNAVAILABLE, "", "away")
    assert customer.refused("GET", f"{BACKUPS}/{backup_id}/file").code == "ECS.OperationDenied.Disconnection"


@pytest.mark.parametrize("call", ["ensure_snapshot_taken", "ensure_volume_exported"])
def test_what_fails_leaves_nothing_and_the_chain_goes_on(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, ecs_id: str, call: str
) -> None:
    first = make(customer, ecsId=ecs_id)[0]
    agent.refusals[call] = Refusal(grpc.StatusCode.INTERNAL, "StorageFailed", "the disk is on fire")
    answer = customer.call("POST", BACKUPS, {"ecsId": ecs_id})
    assert finish(customer, answer)["state"] == "Failed"
    failed = [customer.ok("GET", f"{BACKUPS}/{row['backupId']}") for row in answer.data["backups"]]
    assert {(it["status"], it["hasFile"], it["isParent"]) for it in failed} == {("error", False, False)}
    assert "on fire" in failed[0]["errorMessage"]
    assert all(kept == {first["pointId"]} for kept in agent.snapshots.values())
    assert not agent.exports & {it["backupId"] for it in failed}
    assert customer.refused("GET", f"{BACKUPS}/{failed[0]['backupId']}/file").code == UNSUPPORTED
    assert customer.ok("GET", f"{INSTANCES}/{ecs_id}")["status"] == "Running"

    agent.refusals.clear()
    # What the older state could not be removed for does not spoil the backup, and is removed by the next one.
    agent.refusals["ensure_snapshot_removed"] = Refusal(grpc.StatusCode.INTERNAL, "StorageFailed", "on fire")
    answer = customer.call("POST", BACKUPS, {"ecsId": ecs_id})
    assert finish(customer, answer)["state"] == "Failed"
    second = customer.ok("GET", f"{BACKUPS}/{answer.data['backups'][0]['backupId']}")
    assert (second["status"], second["parentId"], second["isParent"]) == ("available", first["backupId"], True)
    agent.refusals.clear()
    third = make(customer, ecsId=ecs_id)[0]
    assert third["parentId"] == second["backupId"]
    assert all(kept == {third["pointId"]} for kept in agent.snapshots.values())


def test_the_newest_state_goes_also_while_its_instance_is_in_the_recycle_bin(
    customer: Api, operator: Api, cloud: Cloud, agent: ScriptedAgent, ecs_id: str
) -> None:
    made = make(customer, ecsId=ecs_id)
    operator.ok("PUT", f"{INSTANCES}/recycle-config", {"enable": True, "freezeTime": 3})
    assert finish(customer, customer.call("DELETE", f"{INSTANCES}/{ecs_id}"))["state"] == "Succeeded"
    for it in made:
        assert finish(customer, customer.call("DELETE", f"{BACKUPS}/{it['backupId']}"))["state"] == "Succeeded"
    assert (cloud.rows(VolumeBackup), any(agent.snapshots.values())) == ([], False)
    assert [row.status for row in cloud.rows(Instance)] == [InstanceStatus.SOFT_DELETED]


def test_backups_outlive_what_they_are_of(customer: Api, cloud: Cloud, agent: ScriptedAgent, ecs_id: str) -> None:
    disk, data = make(customer, ecsId=ecs_id)
    detached = customer.call("PUT", f"{INSTANCES}/{ecs_id}/detach-volumes", {"volumeUuids": [data["volumeUuid"]]})
    assert finish(customer, detached)["state"] == "Succeeded"
    assert customer.refused("POST", BACKUPS, {"volumeId": data["volumeUuid"]}).code == UNSUPPORTED
    assert finish(customer, customer.call("DELETE", f"{INSTANCES}/{ecs_id}"))["state"] == "Succeeded"
    assert download(customer, disk["backupId"]).content == CONTENT
    # The volume that stays gives its state away with the backup; that of the other one went with it.
    for it in (disk, data):
        assert finish(customer, customer.call("DELETE", f"{BACKUPS}/{it['backupId']}"))["state"] == "Succeeded"
    assert (agent.exports, any(agent.snapshots.values())) == (set(), False)
    assert cloud.rows(VolumeBackup) == []
    [volume] = cloud.rows(Volume)
    assert finish(customer, customer.call("DELETE", f"{VOLUMES}/{volume.id}"))["state"] == "Succeeded"


@SQLITE_ONLY
def test_what_makes_no_sense_is_refused(customer: Api, cloud: Cloud, agent: ScriptedAgent, ecs_id: str) -> None:
    for order, code in (
        ({}, "ECS.InvalidParameter"),
        ({"ecsId": ecs_id, "volumeId": "1"}, "ECS.InvalidParameter"),
        ({"ecsId": ecs_id, "mode": "differential"}, "ECS.InvalidParameter"),
        ({"ecsId": ecs_id, "quiesce": "perhaps"}, "ECS.InvalidParameter"),
        ({"ecsId": "ecs-00000000000000"}, "ECS.DBGet.NoData"),
        ({"volumeId": "999"}, "ECS.DBGet.NoData"),
        ({"volumeId": "volume-x"}, "ECS.DBGet.NoData"),
    ):
        assert customer.refused("POST", BACKUPS, order).code == code, order
    for method, path in (("GET", "/backup-0"), ("GET", "/backup-0/file"), ("DELETE", "/backup-0")):
        assert customer.refused(method, BACKUPS + path).code == "ECS.DBGet.NoData"
    assert customer.refused("GET", f"{BACKUPS}?filter=nothing:eq:1").code == "ECS.InvalidParameter"
    [instance] = cloud.rows(Instance)
    for status in (InstanceStatus.UNKNOWN, InstanceStatus.MIGRATING, InstanceStatus.HIBERNATED):
        cloud.change(instance, status=status)
        assert customer.refused("POST", BACKUPS, {"ecsId": ecs_id}).code == UNSUPPORTED
    cloud.change(instance, status=InstanceStatus.RUNNING, is_locked=True)
    assert customer.refused("POST", BACKUPS, {"ecsId": ecs_id}).code == "ECS.OperationDenied.Identity"
    assert (agent.calls, cloud.rows(VolumeBackup)) == ([], [])


@SQLITE_ONLY
def test_old_backups_are_forgotten_unless_a_volume_keeps_their_state(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, ecs_id: str
) -> None:
    make(customer, ecsId=ecs_id)
    kept = make(customer, ecsId=ecs_id)
    for row in cloud.rows(VolumeBackup):
        cloud.change(row, created_at=row.created_at - cloud.runtime.settings.task_retention - timedelta(days=5))
    forget_expired(cloud.runtime)
    assert {row.backup_id for row in cloud.rows(VolumeBackup)} == {it["backupId"] for it in kept}
    for row in cloud.rows(VolumeBackup):
        cloud.change(row, file_expires_at=cloud.runtime.now())
    assert customer.ok("GET", f"{BACKUPS}/{kept[0]['backupId']}")["hasFile"] is False
