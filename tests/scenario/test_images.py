"""Images from REST to the guest and back: discs that a guest reads while it runs, a system disk that becomes one."""

import hashlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.cloud import IMAGES, Cloud, Instance
from tests.lab.rest import RestError
from tests.scenario.leftover import find_leftovers

pytestmark = [pytest.mark.scenario, pytest.mark.xdist_group("storage"), pytest.mark.timeout(1200)]

SNAPSHOTS = "/api/ecs/v1/snapshot"
# What the kernel is told by a disc, and by no disk.
FROM_DISC = "from=disc"
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


def _write(instance: Instance, name: str, after: str = "") -> str:
    """The checksum of a new file on the guest's disk."""
    instance.run(f"dd if=/dev/urandom of=/boot/{name} bs=64k count=16 {after}")
    return instance.run(f"sha256sum < /boot/{name}")


def _read_file(cloud: Cloud, image_id: str, name: str, directory: Path) -> str:
    """The checksum of a file in an image, of an ext file system without partitions."""
    disk, raw = cloud.lab.coordinator.state_dir / "images" / image_id, directory / "raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", disk, raw], check=True)
    content = subprocess.run(["debugfs", "-R", f"cat /{name}", raw], check=True, capture_output=True).stdout
    return f"{hashlib.sha256(content).hexdigest()}  -"


@pytest.fixture
def original(cloud: Cloud) -> Iterator[Instance]:
    """A guest whose disk is changed."""
    instance = cloud.create_instance(displayName="original")
    instance.wait_for_status("Running")
    instance.wait_for_guest_agent()
    yield instance
    instance.succeed(instance.delete())


def test_an_image_is_made_of_a_disk_that_a_guest_writes_to(cloud: Cloud, original: Instance, tmp_path: Path) -> None:
    boot_id = original.boot_id()
    # It runs in memory; its disk gets a file system that can be frozen.
    original.run("umount /boot && mke2fs /dev/vda && mount -t ext4 /dev/vda /boot")
    # Of what the guest has in memory alone all is in the image: it was frozen for that moment, and no longer.
    written = _write(original, "pattern")
    frozen = _make(cloud, original, ecsId=original.id)
    assert (frozen["consistency"], frozen["warning"]) == ("fileSystem", "")
    assert original.guest_agent("guest-fsfreeze-status") == "thawed"
    assert original.boot_id() == boot_id
    _write(original, "later")
    assert _read_file(cloud, frozen["imageId"], "pattern", tmp_path) == written

    # A guest agent that never answers: an image of a moment all the same, and a word about it.
    original.run("(sleep 1; kill -STOP $(pidof qemu-ga)) > /dev/null 2>&1 &")
    time.sleep(3)
    torn = _make(cloud, original, ecsId=original.id)
    assert (torn["consistency"], bool(torn["warning"])) == ("crash", True)
    for image in (frozen, torn):
        cloud.rest.delete(f"{IMAGES}/{image['imageId']}")
    assert [line for line in find_leftovers(cloud, frozen["imageId"]) if "/exports/" in line] == []


def test_an_instance_is_made_of_the_snapshot_of_another_that_runs(cloud: Cloud, original: Instance) -> None:
    then, boot_id = _write(original, "pattern", "&& sync"), original.boot_id()
    taking = cloud.rest.request("POST", SNAPSHOTS, json={"ecsId": original.id, "snapshotName": "then"})
    original.succeed(taking.headers["x-operation-id"])
    snapshot_id = cloud.rest.get(SNAPSHOTS, ecsid=original.id)["ecsSnapshots"][0]["ecsSnapshotId"]
    assert _write(original, "pattern", "&& sync") != then
    image_id = _make(cloud, original, snapshotId=snapshot_id)["imageId"]
    assert original.boot_id() == boot_id
    # It stands alone: the snapshot is not needed any more.
    deleting = cloud.rest.request("DELETE", f"{SNAPSHOTS}/{snapshot_id}")
    original.succeed(deleting.headers["x-operation-id"])
    twin = cloud.create_instance(displayName="twin", image={"imageUid": image_id})
    try:
        twin.wait_for_status("Running")
        twin.wait_for_guest_agent()
        assert twin.run("sha256sum < /boot/pattern") == then
    finally:
        twin.succeed(twin.delete())
    cloud.rest.delete(f"{IMAGES}/{image_id}")


def _install_disc(content: Path, file: Path, image: Path) -> None:
    """A disc that starts the demo guest, and has its disk to be installed."""
    disk, boot = content / "disk", content / "isolinux"
    boot.mkdir(parents=True)
    subprocess.run(["qemu-img", "convert", "-O", "raw", image, disk], check=True)
    for name in ("vmlinuz", "initrd"):
        subprocess.run(["mcopy", "-i", disk, f"::/{name}", boot / name], check=True)
    for path in ("/usr/lib/ISOLINUX/isolinux.bin", "/usr/lib/syslinux/modules/bios/ldlinux.c32"):
        shutil.copy(path, boot)
    append = f"console=ttyS0,115200 quiet net.ifnames=0 panic=5 mitigations=off {FROM_DISC}"
    (boot / "isolinux.cfg").write_text(
        f"DEFAULT demo\nLABEL demo\n  KERNEL /isolinux/vmlinuz\n  INITRD /isolinux/initrd\n  APPEND {append}\n"
    )
    starting = ("-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat", "-no-emul-boot", "-boot-load-size", "4")
    command = ("genisoimage", "-quiet", "-rock", *starting, "-boot-info-table", "-output", file, content)
    subprocess.run(command, check=True)


def test_a_system_is_installed_from_a_disc_and_starts_from_its_disk_then(
    cloud: Cloud, demo_image: Path, tmp_path: Path
) -> None:
    file = tmp_path / "install.iso"
    _install_disc(tmp_path / "content", file, demo_image)
    iso_id = cloud.register_image(file, name="installer", format="iso")
    instance = cloud.create_instance(displayName="installed", image={"imageUid": iso_id})
    instance.wait_for_status("Running")
    # Firmware reads a disc slowly.
    instance.wait_for_guest_agent(timeout_seconds=400)
    # It starts from the disc, and its disk is empty, of the size that was asked for.
    assert FROM_DISC in instance.run("cat /proc/cmdline")
    assert instance.run("cat /sys/block/vda/size") == str(1024**3 // 512)
    assert instance.run("head -c 1048576 /dev/vda | tr -d '\\0' | wc -c") == "0"
    assert [iso["bootState"] for iso in cloud.rest.get(f"{instance.path}/attached-iso")] == [True]

    find = "for d in /dev/sr*; do mount -t iso9660 -o ro $d /mnt && [ -e /mnt/disk ] && break; umount /mnt; done"
    instance.run(f"{find}; dd if=/mnt/disk of=/dev/vda bs=1M conv=fsync; umount /mnt")
    booting = cloud.rest.request("PUT", f"{instance.path}/set-boot-order", json={"bootMode": 0})
    instance.succeed(booting.headers["x-operation-id"])
    _put(cloud, instance, "detach-iso", iso_id)
    instance.succeed(instance.power("stop", gracePeriodSeconds=0))
    # Nobody needs the disc any more.
    cloud.rest.delete(f"{IMAGES}/{iso_id}")
    instance.succeed(instance.power("start"))
    instance.wait_for_guest_agent()
    assert FROM_DISC not in instance.run("cat /proc/cmdline")
    traces = instance.traces()
    instance.succeed(instance.delete())
    assert find_leftovers(cloud, *traces) == []
