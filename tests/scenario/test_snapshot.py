"""Snapshots from REST to the guest and back, while the agent that takes them is killed."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.cloud import Cloud, Instance
from tests.scenario.leftover import find_leftovers

pytestmark = [pytest.mark.scenario, pytest.mark.xdist_group("lab"), pytest.mark.timeout(600)]

SNAPSHOTS = "/api/ecs/v1/snapshot"
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
