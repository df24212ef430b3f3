"""Snapshots and backups from REST to the guest and back, while the agent that takes them is killed."""

import contextlib
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.lab.cloud import Cloud, Instance
from tests.lab.waiting import wait_until
from tests.scenario.backup_chain import BackupChain, read_disk, write_disk
from tests.scenario.leftover import find_leftovers

pytestmark = [pytest.mark.scenario, pytest.mark.xdist_group("storage"), pytest.mark.timeout(600)]

SNAPSHOTS = "/api/ecs/v1/snapshot"
BACKUPS = "/api/ecs/v1/backups"
POLICIES = "/api/ecs/v1/policy"


@pytest.fixture
def copies() -> Iterator[list[Instance]]:
    """Instances that are gone afterwards."""
    made: list[Instance] = []
    yield made
    for instance in made:
        instance.succeed(instance.delete())


def _operate(cloud: Cloud, instance: Instance, method: str, path: str, body: Any = None) -> None:
    operation = cloud.rest.request(method, path, json=body).headers["x-operation-id"]
    instance.succeed(operation, timeout_seconds=240)


def _take(cloud: Cloud, instance: Instance, name: str) -> dict[str, Any]:
    _operate(cloud, instance, "POST", SNAPSHOTS, {"ecsId": instance.id, "snapshotName": name})
    taken: dict[str, Any] = cloud.rest.get(SNAPSHOTS, ecsid=instance.id)["ecsSnapshots"][0]
    # The demo guest has nothing but FAT, which cannot be frozen.
    assert (taken["ecsSnapshotName"], taken["status"], taken["consistency"]) == (name, "available", "crash")
    return taken


def _disk_uuid(instance: Instance) -> str:
    uuid: str = instance.show()["blockDeviceMappings"][0]["volumeUuid"]
    return uuid.removeprefix("volume-")


def test_an_instance_goes_back_and_another_begins_where_it_was(
    cloud: Cloud, guest: Instance, copies: list[Instance]
) -> None:
    first = write_disk(guest)
    # Nothing is half when the agent is killed at the moment of the call.
    operation = cloud.rest.request("POST", SNAPSHOTS, json={"ecsId": guest.id, "snapshotName": "one"})
    cloud.host.process("agent").kill()
    cloud.host.start_agent()
    guest.succeed(operation.headers["x-operation-id"], timeout_seconds=240)
    one = cloud.rest.get(SNAPSHOTS, ecsid=guest.id)["ecsSnapshots"][0]
    second = write_disk(guest)
    two = _take(cloud, guest, "two")
    third = write_disk(guest)
    assert len({first, second, third}) == 3

    _operate(cloud, guest, "POST", f"{SNAPSHOTS}/{one['id']}/rollback")
    guest.wait_for_guest_agent()
    assert read_disk(guest) == first
    _operate(cloud, guest, "DELETE", f"{SNAPSHOTS}/{one['id']}")
    assert read_disk(guest) == first

    volumes = cloud.instance_body()["volumes"]
    assert isinstance(volumes, list)
    disks = [{**volume, "osSnapshotId": two["ecsSnapshotId"]} for volume in volumes]
    copies.append(cloud.create_instance(displayName="copy", volumes=disks))
    copies[0].wait_for_status("Running", 240)
    copies[0].wait_for_guest_agent()
    assert read_disk(copies[0]) == second
    _operate(cloud, guest, "DELETE", f"{SNAPSHOTS}/{two['id']}")
    assert read_disk(guest) == first
    # One file and its description, as before.
    assert len(find_leftovers(cloud, _disk_uuid(guest))) <= 2, find_leftovers(cloud, _disk_uuid(guest))


def _kill_guest(guest: Instance) -> None:
    """As by a power failure of its QEMU alone."""
    [process] = [
        found
        for found in psutil.process_iter(["cmdline"])
        if any(f"guest={guest.id}" in word for word in found.info["cmdline"] or ())
    ]
    process.kill()
    guest.wait_for_status("Stopped")


@pytest.mark.timeout(900)
def test_backups_hold_what_the_guest_read_whatever_happens_in_between(
    cloud: Cloud, guest: Instance, tmp_path: Path
) -> None:
    chain = BackupChain(cloud, guest, tmp_path)
    first = write_disk(guest)
    operation = cloud.rest.request("POST", BACKUPS, json={"ecsId": guest.id})
    # The agent is killed while it copies, and its next start leaves nothing half.
    wait_until(lambda: cloud.rest.get(BACKUPS, filter=f"ecsId:eq:{guest.id}")["backups"][0]["consistency"], "taken")
    cloud.host.process("agent").kill()
    cloud.host.start_agent()
    guest.succeed(operation.headers["x-operation-id"], timeout_seconds=240)
    [full] = cloud.rest.get(BACKUPS, filter=f"ecsId:eq:{guest.id}")["backups"]
    assert (full["mode"], full["status"], full["consistency"]) == ("full", "available", "crash")
    chain.add(full, first)

    increment = chain.make(write_disk(guest))
    assert (increment["parentId"], increment["consistency"]) == (full["backupId"], "crash")
    assert 16 << 20 <= increment["fileBytes"] < 24 << 20
    # Its QEMU is killed: no bitmap would be left.
    before = write_disk(guest)
    _kill_guest(guest)
    off = chain.make(before)
    assert (off["parentId"], off["consistency"]) == (increment["backupId"], "fileSystem")
    # Nothing was written since: the whole disk can be compared.
    assert chain.make(before)["fileBytes"] < 1 << 20
    disk = f"/var/lib/nodewright/agent/volumes/{_disk_uuid(guest)}.qcow2"
    chain.download()
    cloud.host.namespace.run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", str(chain.restore()), disk)
    guest.succeed(guest.power("start"))
    guest.wait_for_guest_agent()
    assert read_disk(guest) == before

    snapshot = _take(cloud, guest, "three")
    chain.make(write_disk(guest))
    _operate(cloud, guest, "POST", f"{SNAPSHOTS}/{snapshot['id']}/rollback")
    guest.wait_for_guest_agent()
    assert read_disk(guest) == before
    after_rollback = chain.make(before)
    assert after_rollback["parentId"] or after_rollback["wholeBecause"]
    _operate(cloud, guest, "DELETE", f"{SNAPSHOTS}/{snapshot['id']}")
    assert chain.make(write_disk(guest))["parentId"] == after_rollback["backupId"]

    chain.verify()
    chain.delete()
    assert len(find_leftovers(cloud, _disk_uuid(guest))) <= 2, find_leftovers(cloud, _disk_uuid(guest))
    assert cloud.host.namespace.run("find", "/var/lib/nodewright/agent/exports", "-type", "f") == ""
    assert cloud.host.namespace.run("qemu-img", "snapshot", "-U", "-l", disk) == ""


def _set_clock(cloud: Cloud, statement: str, key: object) -> None:
    """Nobody waits for the next hour: the coordinator finds that it is over."""
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0, tzinfo=None)
    path = cloud.lab.coordinator.state_dir / "coordinator.db"
    with contextlib.closing(sqlite3.connect(path, timeout=30)) as database, database:
        database.execute(statement, (hour.isoformat(" ", "microseconds"), key))


def test_a_policy_takes_a_snapshot_of_a_guest_that_runs_and_one_that_has_expired_goes(
    cloud: Cloud, guest: Instance
) -> None:
    order = {"policyName": "first", "hourOfDay": ",".join(map(str, range(24))), "weekDays": "1,2,3,4,5,6,7"}
    owner = {name: cloud.instance_body()[name] for name in ("tenantId", "departmentId")}
    cloud.rest.request("PUT", POLICIES, json=order | owner | {"expire": 600})
    [policy] = cloud.rest.get(POLICIES)["snapshotPolicies"]
    path = f"{POLICIES}/{policy['policyId']}"
    cloud.rest.request("POST", f"{path}/bind", json={"ecsId": guest.id})

    def run(name: str) -> dict[str, Any]:
        cloud.rest.request("POST", path, json=order | {"policyName": name, "expire": 600})
        _set_clock(cloud, "UPDATE snapshot_policy SET next_at = ? WHERE policy_id = ?", policy["policyId"])

        def find() -> Any:
            made = cloud.rest.get(SNAPSHOTS, ecsid=guest.id)["ecsSnapshots"] or []
            return next(
                (it for it in made if it["ecsSnapshotName"].startswith(name) and it["status"] == "available"), 0
            )

        found: dict[str, Any] = wait_until(find, f"{name} is taken", 120)
        return found

    write_disk(guest)
    older = run("first")
    kept = write_disk(guest)
    newer = run("second")
    assert write_disk(guest) != kept
    _set_clock(cloud, "UPDATE snapshot SET expires_at = ? WHERE snapshot_id = ?", older["ecsSnapshotId"])

    def names() -> list[str]:
        return [it["ecsSnapshotId"] for it in cloud.rest.get(SNAPSHOTS, ecsid=guest.id)["ecsSnapshots"]]

    wait_until(lambda: names() == [newer["ecsSnapshotId"]], "the older one is gone", 120)
    cloud.rest.request("DELETE", path)
    _operate(cloud, guest, "POST", f"{SNAPSHOTS}/{newer['id']}/rollback")
    guest.wait_for_guest_agent()
    assert read_disk(guest) == kept
    _operate(cloud, guest, "DELETE", f"{SNAPSHOTS}/{newer['id']}")
