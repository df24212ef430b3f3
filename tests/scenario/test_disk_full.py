"""A node without any space: guests stand still and go on, what needs space fails and leaves nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.cloud import Cloud, Instance
from tests.lab.lab import Lab
from tests.lab.waiting import wait_until
from tests.scenario.leftover import find_leftovers

pytestmark = [pytest.mark.scenario, pytest.mark.xdist_group("lab"), pytest.mark.timeout(900)]

SNAPSHOTS = "/api/ecs/v1/snapshot"
DISK_MIB = 3000
# Behind what the demo guest has on its disk.
AT_MIB = 600


@pytest.fixture
def cloud(demo_image: Path) -> Iterator[Cloud]:
    """One host with a small disk."""
    lab = Lab()
    try:
        lab.add_host(disk_mib=DISK_MIB)
        cloud = Cloud(lab, demo_image)
        cloud.join(lab.hosts[0])
        yield cloud
    finally:
        lab.stop()


def read(instance: Instance, at_mib: int = AT_MIB) -> str:
    script = f"echo 3 > /proc/sys/vm/drop_caches; dd if=/dev/vda bs=1M skip={at_mib} count=16 | sha256sum"
    return instance.run(script)


def fail(cloud: Cloud, instance: Instance, method: str, path: str, body: Any) -> str:
    """The reason that the operation tells."""
    operation = instance.finish(cloud.rest.request(method, path, json=body).headers["x-operation-id"])
    assert operation["state"] == "Failed", operation
    return str(operation["error"])


def test_a_full_disk_stops_nobody_for_good(cloud: Cloud) -> None:
    disk, guest = cloud.host.disk, cloud.create_instance(displayName="hungry")
    assert disk is not None
    guest.wait_for_status("Running")
    guest.wait_for_guest_agent()
    guest.run(f"dd if=/dev/urandom of=/dev/vda bs=1M seek={AT_MIB} count=16 conv=notrunc,fsync")
    before = read(guest)
    guest.run("dd if=/dev/urandom of=/tmp/new bs=1M count=16")
    new = guest.run("sha256sum < /tmp/new")

    disk.fill()
    reason = fail(cloud, guest, "POST", SNAPSHOTS, {"ecsId": guest.id, "snapshotName": "one"})
    assert "space" in reason
    assert read(guest) == before

    # The guest writes more than fits, and its agent dies meanwhile.
    at_mib = AT_MIB + 40
    guest.run(
        f"(dd if=/tmp/new of=/dev/vda bs=1M seek={at_mib} conv=notrunc,fsync; touch /tmp/written) > /tmp/o 2>&1 &"
    )
    shown = guest.wait_for_status("Paused")
    assert "space" in shown["errMessage"]
    assert [it["resourceId"] for it in cloud.rest.get("/api/ecs/v1/events/list", kind="alarm.instance_stalled")["list"]]
    cloud.host.agent.kill()
    cloud.host.start_agent()
    disk.free()
    assert guest.wait_for_status("Running")["errMessage"] == ""
    wait_until(lambda: guest.run("ls /tmp/written"), "what it wrote is on its disk")
    assert (read(guest), read(guest, at_mib)) == (before, new)

    traces = guest.traces()
    taken = cloud.rest.request("POST", SNAPSHOTS, json={"ecsId": guest.id, "snapshotName": "two"})
    guest.succeed(taken.headers["x-operation-id"])
    guest.succeed(guest.delete())
    assert find_leftovers(cloud, *traces) == []
