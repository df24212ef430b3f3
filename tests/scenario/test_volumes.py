"""Volumes from REST to the guest and back: what one guest writes another reads, and what grows is seen to."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.cloud import Cloud, Instance
from tests.lab.rest import RestError
from tests.lab.waiting import wait_until
from tests.scenario.leftover import find_leftovers
from tests.stopwatch import Stopwatch

pytestmark = [pytest.mark.scenario, pytest.mark.xdist_group("storage")]

VOLUMES = "/api/ebs/v1/volumes"
# What a person waits for, on a guest that answers.
QUICK_SECONDS = 2.0


@pytest.fixture
def other(cloud: Cloud) -> Iterator[Instance]:
    """A second instance on the same node."""
    instance = cloud.create_instance(displayName="second guest")
    instance.wait_for_status("Running")
    instance.wait_for_guest_agent()
    yield instance
    if instance.exists():
        instance.succeed(instance.delete())


@pytest.fixture
def volume(cloud: Cloud) -> Iterator[dict[str, Any]]:
    """An empty volume of 1 GiB, which is gone afterwards."""
    tenant_id = cloud.rest.get("/api/iam/v1/tenants")["list"][0]["tenantId"]
    made = cloud.rest.post(VOLUMES, {"name": "data", "volumeSize": 1, "tenantId": tenant_id})
    yield made
    uuid = made["volumeUuid"]
    assert _show(cloud, made)["status"] == "available"
    cloud.rest.request("DELETE", f"{VOLUMES}/{uuid}")
    wait_until(lambda: not find_leftovers(cloud, uuid.removeprefix("volume-")), "its data is gone")


def _show(cloud: Cloud, volume: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = cloud.rest.get(f"{VOLUMES}/{volume['volumeUuid']}")
    return shown


def _change(cloud: Cloud, instance: Instance, action: str, body: Any) -> float:
    """How long the operation took, from the call to its end."""
    with Stopwatch() as watch:
        operation = cloud.rest.request("PUT", f"{instance.path}/{action}", json=body).headers["x-operation-id"]
        instance.succeed(operation)
    return watch.seconds


def _find(instance: Instance, uuid: str) -> str:
    """The guest's name of the disk, by its serial, once it has seen it."""
    serial = uuid.removeprefix("volume-").replace("-", "")[:20]
    script = f"grep -l {serial} /sys/block/vd*/serial || true"
    return "/dev/" + wait_until(lambda: instance.run(script), "the guest sees the disk").split("/")[3]


def test_what_one_guest_writes_another_reads_and_the_disk_grows_under_it(
    cloud: Cloud, guest: Instance, other: Instance, volume: dict[str, Any]
) -> None:
    attached = _change(cloud, guest, "attach-volumes", [{"volumeId": volume["volumeId"]}])
    disk = _find(guest, volume["volumeUuid"])
    guest.run(f"dd if=/dev/urandom of=/tmp/p bs=1M count=32; dd if=/tmp/p of={disk} bs=1M conv=fsync")
    written = guest.run("sha256sum < /tmp/p")
    size = f"cat /sys/block/{disk[5:]}/size"
    assert guest.run(size) == str(1024**3 // 512)
    operation = cloud.rest.request("PUT", f"{VOLUMES}/{volume['volumeId']}/resize", json={"volumeSize": 2})
    guest.succeed(operation.headers["x-operation-id"])
    wait_until(lambda: guest.run(size) == str(2 * 1024**3 // 512), "the guest sees the new size")
    mapped = {disk["volumeUuid"]: disk for disk in guest.show()["blockDeviceMappings"]}[volume["volumeUuid"]]
    assert (mapped["status"], mapped["volumeSize"]) == ("inUse", 2)
    detached = _change(cloud, guest, "detach-volume", {"volumeId": volume["volumeId"]})
    assert guest.run(f"test -e {disk} || echo gone") == "gone"
    print(f"attach {attached:.3f} s, detach {detached:.3f} s, from the call to the end of the operation")
    _change(cloud, other, "attach-volumes", [{"volumeId": volume["volumeUuid"]}])
    disk = _find(other, volume["volumeUuid"])
    assert other.run(f"head -c {32 * 1024**2} {disk} | sha256sum") == written
    # It comes back with the guest, and stays when that goes.
    other.succeed(other.power("stop", gracePeriodSeconds=0))
    other.succeed(other.power("start"))
    other.wait_for_guest_agent()
    disk = _find(other, volume["volumeUuid"])
    assert other.run(f"head -c {32 * 1024**2} {disk} | sha256sum") == written
    other.succeed(other.delete())
    assert _show(cloud, volume)["status"] == "available"
    assert find_leftovers(cloud, volume["volumeUuid"].removeprefix("volume-"))
    assert attached < QUICK_SECONDS
    assert detached < QUICK_SECONDS


def test_a_guest_that_does_not_let_go_keeps_its_disk(cloud: Cloud, guest: Instance, volume: dict[str, Any]) -> None:
    _change(cloud, guest, "attach-volumes", [{"volumeId": volume["volumeId"]}])
    disk = _find(guest, volume["volumeUuid"])
    # Its processors stand still: nothing in it hears what it is asked.
    cloud.host.virsh("suspend", guest.id)
    wait_until(lambda: guest.show()["status"] == "Paused", "it is seen to be paused")
    with pytest.raises(RestError, match=r"Status\.NotSupported"):
        cloud.rest.put(f"{guest.path}/detach-volume", {"volumeId": volume["volumeId"]})
    cloud.host.virsh("resume", guest.id)
    wait_until(lambda: guest.show()["status"] == "Running", "it runs on")
    assert guest.run(f"test -e {disk} && echo there") == "there"
    _change(cloud, guest, "detach-volumes", {"volumeUuids": [volume["volumeUuid"]]})
