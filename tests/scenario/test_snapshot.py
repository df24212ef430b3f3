"""Snapshots and backups from REST to the guest and back, while the agent that takes them is killed."""

import contextlib
import hashlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.lab.cloud import Cloud, Instance
from tests.lab.waiting import wait_until
from tests.scenario.leftover import find_leftovers

pytestmark = [pytest.mark.scenario, pytest.mark.xdist_group("storage"), pytest.mark.timeout(600)]

SNAPSHOTS = "/api/ecs/v1/snapshot"
BACKUPS = "/api/ecs/v1/backups"
POLICIES = "/api/ecs/v1/policy"
# Behind what the demo guest has on its disk.
AT_MIB = 600


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


def _write(instance: Instance) -> str:
    instance.run(f"dd if=/dev/urandom of=/dev/vda bs=1M seek={AT_MIB} count=16 conv=notrunc,fsync")
    return _read(instance)


def _read(instance: Instance) -> str:
    script = f"echo 3 > /proc/sys/vm/drop_caches; dd if=/dev/vda bs=1M skip={AT_MIB} count=16 | sha256sum"
    return instance.run(script)


def test_an_instance_goes_back_and_another_begins_where_it_was(
    cloud: Cloud, guest: Instance, copies: list[Instance]
) -> None:
    first = _write(guest)
    # Nothing is half when the agent is killed at the moment of the call.
    operation = cloud.rest.request("POST", SNAPSHOTS, json={"ecsId": guest.id, "snapshotName": "one"})
    cloud.host.process("agent").kill()
    cloud.host.start_agent()
    guest.succeed(operation.headers["x-operation-id"], timeout_seconds=240)
    one = cloud.rest.get(SNAPSHOTS, ecsid=guest.id)["ecsSnapshots"][0]
    second = _write(guest)
    two = _take(cloud, guest, "two")
    third = _write(guest)
    assert len({first, second, third}) == 3

    _operate(cloud, guest, "POST", f"{SNAPSHOTS}/{one['id']}/rollback")
    guest.wait_for_guest_agent()
    assert _read(guest) == first
    _operate(cloud, guest, "DELETE", f"{SNAPSHOTS}/{one['id']}")
    assert _read(guest) == first

    volumes = cloud.instance_body()["volumes"]
    assert isinstance(volumes, list)
    disks = [{**volume, "osSnapshotId": two["ecsSnapshotId"]} for volume in volumes]
    copies.append(cloud.create_instance(displayName="copy", volumes=disks))
    copies[0].wait_for_status("Running", 240)
    copies[0].wait_for_guest_agent()
    assert _read(copies[0]) == second
    _operate(cloud, guest, "DELETE", f"{SNAPSHOTS}/{two['id']}")
    assert _read(guest) == first
    uuid = guest.show()["blockDeviceMappings"][0]["volumeUuid"].removeprefix("volume-")
    # One file and its description, as before.
    assert len(find_leftovers(cloud, uuid)) <= 2, find_leftovers(cloud, uuid)


def _nwctl(cloud: Cloud, *arguments: str) -> Any:
    """What the real command line answers to an operator, in the directory of the lab."""
    coordinator = cloud.lab.coordinator
    environment = {
        "NWCTL_ENDPOINT": coordinator.url,
        "NWCTL_TOKEN": coordinator.create_token(),
        "NWCTL_CA_FILE": str(coordinator.ca),
        "PATH": os.environ["PATH"],
        "NO_PROXY": "*",
    }
    command = [sys.executable, "-m", "nwctl", *arguments, "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _kill_guest(guest: Instance) -> None:
    """As by a power failure of its QEMU alone."""
    [process] = [
        found
        for found in psutil.process_iter(["cmdline"])
        if any(f"guest={guest.id}" in word for word in found.info["cmdline"] or ())
    ]
    process.kill()
    guest.wait_for_status("Stopped")


def _restored(cloud: Cloud, backup: dict[str, Any], directory: Path) -> str:
    """Checksum of what the guest reads, in the disk that is put together of the files."""
    disk = directory / "disk.raw"
    _nwctl(cloud, "backup", "restore", str(directory / backup["fileName"]), str(disk), "--format", "raw")
    with disk.open("rb") as file:
        file.seek(AT_MIB << 20)
        content = file.read(16 << 20)
    disk.unlink()
    return hashlib.sha256(content).hexdigest()


def test_backups_hold_what_the_guest_read_whatever_happens_in_between(
    cloud: Cloud, guest: Instance, tmp_path: Path
) -> None:
    held: list[tuple[dict[str, Any], str]] = []

    def back_up(sum_line: str) -> dict[str, Any]:
        [backup] = _nwctl(cloud, "backup", "create", guest.id, "--wait")["backups"]
        assert (backup["status"], backup["hasFile"]) == ("available", True), backup
        held.append((backup, sum_line.split()[0]))
        return held[-1][0]

    first = _write(guest)
    operation = cloud.rest.request("POST", BACKUPS, json={"ecsId": guest.id})
    # The agent is killed while it copies, and its next start leaves nothing half.
    wait_until(lambda: cloud.rest.get(BACKUPS, filter=f"ecsId:eq:{guest.id}")["backups"][0]["consistency"], "taken")
    cloud.host.process("agent").kill()
    cloud.host.start_agent()
    guest.succeed(operation.headers["x-operation-id"], timeout_seconds=240)
    [full] = cloud.rest.get(BACKUPS, filter=f"ecsId:eq:{guest.id}")["backups"]
    assert (full["mode"], full["status"], full["consistency"]) == ("full", "available", "fileSystem")
    held.append((full, first.split()[0]))

    increment = back_up(_write(guest))
    assert (increment["parentId"], increment["consistency"]) == (full["backupId"], "fileSystem")
    assert 16 << 20 <= increment["fileBytes"] < 24 << 20
    # Its QEMU is killed: no bitmap would be left.
    before = _write(guest)
    _kill_guest(guest)
    increment = back_up(before)
    assert increment["parentId"] == held[-2][0]["backupId"]
    # Nothing was written since.
    assert back_up(before)["fileBytes"] < 1 << 20
    guest.succeed(guest.power("start"))
    guest.wait_for_guest_agent()
    assert _read(guest) == before

    snapshot = _take(cloud, guest, "three")
    back_up(_write(guest))
    _operate(cloud, guest, "POST", f"{SNAPSHOTS}/{snapshot['id']}/rollback")
    guest.wait_for_guest_agent()
    assert _read(guest) == before
    after_rollback = back_up(before)
    assert after_rollback["parentId"] or after_rollback["wholeBecause"]
    _operate(cloud, guest, "DELETE", f"{SNAPSHOTS}/{snapshot['id']}")
    assert back_up(_write(guest))["parentId"] == after_rollback["backupId"]

    _nwctl(cloud, "backup", "download", *(backup["backupId"] for backup, _ in held), "--to", str(tmp_path))
    assert [_restored(cloud, backup, tmp_path) for backup, _ in held] == [expected for _, expected in held]
    for backup, _ in held:
        _nwctl(cloud, "backup", "delete", backup["backupId"], "--wait")
    uuid = guest.show()["blockDeviceMappings"][0]["volumeUuid"].removeprefix("volume-")
    assert len(find_leftovers(cloud, uuid)) <= 2, find_leftovers(cloud, uuid)
    assert cloud.host.namespace.run("find", "/var/lib/nodewright/agent/exports", "-type", "f") == ""
    disk = f"/var/lib/nodewright/agent/volumes/{uuid}.qcow2"
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

    _write(guest)
    older = run("first")
    kept = _write(guest)
    newer = run("second")
    assert _write(guest) != kept
    _set_clock(cloud, "UPDATE snapshot SET expires_at = ? WHERE snapshot_id = ?", older["ecsSnapshotId"])

    def names() -> list[str]:
        return [it["ecsSnapshotId"] for it in cloud.rest.get(SNAPSHOTS, ecsid=guest.id)["ecsSnapshots"]]

    wait_until(lambda: names() == [newer["ecsSnapshotId"]], "the older one is gone", 120)
    cloud.rest.request("DELETE", path)
    _operate(cloud, guest, "POST", f"{SNAPSHOTS}/{newer['id']}/rollback")
    guest.wait_for_guest_agent()
    assert _read(guest) == kept
    _operate(cloud, guest, "DELETE", f"{SNAPSHOTS}/{newer['id']}")
