"""Images from REST to the guest and back: discs that a guest reads while it runs, a system disk that becomes one."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.cloud import IMAGES, Cloud, Instance
from tests.lab.rest import RestError
from tests.scenario.leftover import find_leftovers

pytestmark = [pytest.mark.scenario, pytest.mark.xdist_group("lab")]

SNAPSHOTS = "/api/ecs/v1/snapshot"
# Of each disc that the guest finds: its label, and the file that a test has put there.
READ = (
    "mkdir -p /mnt; for d in /dev/sr*; do mount -t iso9660 -o ro $d /mnt 2>/dev/null || continue;"
    " cat /mnt/marker 2>/dev/null; grep -o qemu-guest-agent /mnt/install.sh 2>/dev/null | head -n 1; umount /mnt; done"
)


@pytest.fixture
def iso_id(cloud: Cloud, tmp_path: Path) -> Iterator[str]:
    """A disc with a marker on it, which can be deleted afterwards."""
    content = tmp_path / "content"
    content.mkdir()
    (content / "marker").write_text("marker of the disc\n")
    file = tmp_path / "marker.iso"
    subprocess.run(["genisoimage", "-quiet", "-rock", "-output", file, content], check=True)
    image_id = cloud.register_image(file, name="marker", format="iso")
    yield image_id
    cloud.rest.delete(f"{IMAGES}/{image_id}")


def _put(cloud: Cloud, instance: Instance, action: str, *image_ids: str) -> None:
    body = [{"imageId": image_id} for image_id in image_ids]
    answer = cloud.rest.request("PUT", f"{instance.path}/{action}", json=body)
    instance.succeed(answer.headers["x-operation-id"])


def _reads(instance: Instance) -> list[str]:
    return sorted(instance.run(READ).splitlines())


def test_a_guest_reads_discs_as_they_come_and_go(cloud: Cloud, iso_id: str) -> None:
    instance = cloud.create_instance(displayName="guest with discs")
    instance.wait_for_status("Running")
    instance.wait_for_guest_agent()
    assert _reads(instance) == []
    _put(cloud, instance, "attach-iso", iso_id)
    assert _reads(instance) == ["marker of the disc"]
    assert instance.show()["isMountedISO"] is True
    _put(cloud, instance, "attach-vmtools")
    assert cloud.rest.get(f"{instance.path}/check-vmtoolsIso-attached") == "attached"
    assert _reads(instance) == ["marker of the disc", "qemu-guest-agent"]
    with pytest.raises(RestError, match="ImageUsed"):
        cloud.rest.delete(f"{IMAGES}/{iso_id}")

    # They are there also after the next start, and come and go while it is off.
    instance.succeed(instance.power("stop", gracePeriodSeconds=0))
    _put(cloud, instance, "detach-iso", iso_id)
    instance.succeed(instance.power("start"))
    instance.wait_for_guest_agent()
    assert _reads(instance) == ["qemu-guest-agent"]
    _put(cloud, instance, "attach-iso", iso_id)
    _put(cloud, instance, "detach-iso")
    assert (_reads(instance), cloud.rest.get(f"{instance.path}/attached-iso")) == ([], [])
    _put(cloud, instance, "attach-iso", iso_id)
    traces = instance.traces()
    instance.succeed(instance.delete())
    assert find_leftovers(cloud, *traces) == []


def _make(cloud: Cloud, instance: Instance, **origin: object) -> dict[str, Any]:
    """The image that is made of that, and active."""
    answer = cloud.rest.request("POST", IMAGES, json={"name": "golden", **origin})
    instance.succeed(answer.headers["x-operation-id"])
    image: dict[str, Any] = cloud.rest.get(f"{IMAGES}/{answer.json()['data']['imageId']}")
    assert image["status"] == "Active", image
    return image


def _fill(instance: Instance) -> str:
    """Something new in a file, of which only the guest's memory may know yet; its checksum."""
    instance.run("dd if=/dev/urandom of=/boot/pattern bs=64k count=16")
    return instance.run("sha256sum < /boot/pattern")


def test_an_instance_is_made_of_the_disk_of_another_that_runs_and_of_its_snapshot(cloud: Cloud) -> None:
    instance = cloud.create_instance(displayName="original")
    instance.wait_for_status("Running")
    instance.wait_for_guest_agent()
    boot_id, then = instance.boot_id(), _fill(instance)
    taking = cloud.rest.request("POST", SNAPSHOTS, json={"ecsId": instance.id, "snapshotName": "then"})
    instance.succeed(taking.headers["x-operation-id"])
    snapshot_id = cloud.rest.get(SNAPSHOTS, ecsid=instance.id)["ecsSnapshots"][0]["ecsSnapshotId"]

    now = _fill(instance)
    images = [_make(cloud, instance, ecsId=instance.id), _make(cloud, instance, snapshotId=snapshot_id)]
    assert [(image["consistency"], image["warning"]) for image in images] == [("fileSystem", "")] * 2
    # Frozen for that moment, and no longer.
    assert instance.guest_agent("guest-fsfreeze-status") == "thawed"
    assert (instance.boot_id(), instance.run("sha256sum < /boot/pattern")) == (boot_id, now)

    # A guest agent that never answers: an image of a moment all the same, and a word about it.
    instance.run("(sleep 1; kill -STOP $(pidof qemu-ga)) > /dev/null 2>&1 &")
    time.sleep(3)
    images.append(_make(cloud, instance, ecsId=instance.id))
    assert (images[-1]["consistency"], bool(images[-1]["warning"])) == ("crash", True)

    # They stand alone: neither the original nor its snapshot is needed any more.
    instance.succeed(instance.delete())
    image_ids = [image["imageId"] for image in images]
    twins = [cloud.create_instance(displayName="twin", image={"imageUid": image_id}) for image_id in image_ids[:2]]
    for twin, written in zip(twins, (now, then), strict=True):
        twin.wait_for_status("Running")
        twin.wait_for_guest_agent()
        assert twin.run("sha256sum < /boot/pattern") == written
        twin.succeed(twin.delete())
    for image_id in image_ids:
        cloud.rest.delete(f"{IMAGES}/{image_id}")
    assert [line for line in find_leftovers(cloud, *image_ids) if "/exports/" in line] == []
