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
SNAPSHOTS = "/api/ecs/v1/snapshot"
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


@pytest.fixture(params=["hdd"])
def volume(cloud: Cloud, request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """An empty volume of 1 GiB, which is gone afterwards."""
    tenant_id = cloud.rest.get("/api/iam/v1/tenants")["list"][0]["tenantId"]
    order = {"name": "data", "volumeSize": 1, "volumeType": request.param, "tenantId": tenant_id}
    made = cloud.rest.post(VOLUMES, order)
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


def _operate(cloud: Cloud, instance: Instance, method: str, path: str, body: Any = None) -> None:
    """The operation, which has succeeded."""
    instance.succeed(cloud.rest.request(method, path, json=body).headers["x-operation-id"])


def _find(instance: Instance, uuid: str) -> str:
    """The guest's name of the disk, by its serial, once it has seen it."""
    serial = uuid.removeprefix("volume-").replace("-", "")[:20]
    script = f"grep -l {serial} /sys/block/vd*/serial || true"
    return "/dev/" + wait_until(lambda: instance.run(script), "the guest sees the disk").split("/")[3]


def _prove_encryption(cloud: Cloud, guest: Instance, disk: str, uuid: str) -> None:
    """The file holds nothing that the guest has written to the end of the disk; nor is the key where others see it."""
    guest.run(f"yes nodewright-in-the-clear | head -c 1048576 | dd of={disk} bs=1M seek=64 conv=fsync")
    assert guest.run(f"dd if={disk} bs=1M skip=64 count=1 2> /dev/null | head -n 1") == "nodewright-in-the-clear"
    uuid = uuid.removeprefix("volume-")
    volume = f"/var/lib/nodewright/agent/volumes/{uuid}.qcow2"
    run = cloud.host.namespace.run
    assert "encrypt" in run("qemu-img", "info", "--force-share", volume)
    assert run("grep", "--count", "nodewright-in-the-clear", volume, check=False).strip() == "0"
    passphrase = run("cat", f"/run/nodewright/volume-keys/{uuid}").strip()
    assert len(passphrase) > 40
    for text in (cloud.host.virsh("dumpxml", "--security-info", guest.id), run("ps", "-ef"), run("ls", "/etc/libvirt")):
        assert passphrase not in text


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


@pytest.mark.parametrize("volume", ["essd"], indirect=True)
def test_what_a_guest_writes_to_an_encrypted_volume_is_its_own(
    cloud: Cloud, guest: Instance, volume: dict[str, Any]
) -> None:
    assert volume["isEncrypted"]
    guest.succeed(guest.power("stop", gracePeriodSeconds=0))
    _change(cloud, guest, "attach-volumes", [{"volumeId": volume["volumeId"]}])
    # Which forgets keys.
    cloud.host.restart_libvirtd()
    guest.succeed(guest.power("start"))
    guest.wait_for_guest_agent()
    disk = _find(guest, volume["volumeUuid"])
    _prove_encryption(cloud, guest, disk, volume["volumeUuid"])
    _operate(cloud, guest, "POST", SNAPSHOTS, {"ecsId": guest.id, "snapshotName": "sealed"})
    snapshot = cloud.rest.get(SNAPSHOTS, ecsid=guest.id)["ecsSnapshots"][0]
    guest.run(f"yes later | head -c 1048576 | dd of={disk} bs=1M seek=64 conv=fsync")
    _operate(cloud, guest, "PUT", f"{VOLUMES}/{volume['volumeId']}/resize", {"volumeSize": 2})
    guest.succeed(guest.power("stop", gracePeriodSeconds=0))
    _operate(cloud, guest, "POST", f"{SNAPSHOTS}/{snapshot['id']}/rollback")
    _operate(cloud, guest, "DELETE", f"{SNAPSHOTS}/{snapshot['id']}")
    guest.succeed(guest.power("start"))
    guest.wait_for_guest_agent()
    disk = _find(guest, volume["volumeUuid"])
    assert guest.run(f"dd if={disk} bs=1M skip=64 count=1 2> /dev/null | head -n 1") == "nodewright-in-the-clear"
    assert guest.run(f"cat /sys/block/{disk[5:]}/size") == str(2 * 1024**3 // 512)
    _change(cloud, guest, "detach-volume", {"volumeId": volume["volumeId"]})


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
