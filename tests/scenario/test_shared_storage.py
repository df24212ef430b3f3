"""Guests whose disks both nodes see: nothing is copied, nothing is removed, and no second QEMU has a disk."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.disk_lock import DiskLocks
from tests.lab.cloud import Cloud, Instance
from tests.lab.counting import Counter
from tests.lab.host import VOLUMES
from tests.lab.lab import Lab
from tests.lab.pair import Pair, Traveller
from tests.lab.waiting import wait_until

pytestmark = [pytest.mark.scenario, pytest.mark.xdist_group("migration"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def pair(demo_image: Path) -> Iterator[Pair]:
    lab = Lab()
    try:
        yield Pair(lab, demo_image, shares_storage=True)
    finally:
        lab.stop()


@pytest.fixture(scope="module", autouse=True)
def cloud(pair: Pair) -> Cloud:
    """So that a failed test shows the logs of this lab."""
    return pair.cloud


@pytest.fixture(scope="module")
def traveller(pair: Pair) -> Traveller:
    """A guest whose disk both hosts see."""
    return pair.boot(displayName="traveller")


def is_locked(file: Path) -> bool:
    """By whatever host's virtlockd; looked at from a machine without libvirt's settings."""
    return DiskLocks(Path("/nowhere")).is_locked(file)


def test_a_second_qemu_is_kept_off_the_disk_of_a_guest(pair: Pair, traveller: Traveller) -> None:
    assert [node["diskLocks"] for node in pair.rest.get("/api/ecs/v1/nodes")["list"]] == [True, True]
    instance, host, other = traveller.instance, traveller.host, traveller.other
    [disk] = pair.disks(instance)
    [image] = (host.directory / "agent/images").glob("*.qcow2")
    assert (is_locked(disk), is_locked(image)) == (True, False)
    assert host.examine()["disk locks"]["verdict"] == "ok"
    number, path = host.virsh("domid", instance.id), f"{VOLUMES}/{disk.name}"
    with pytest.raises(AssertionError, match='Failed to get "write" lock'):
        other.create_by_hand("second", path)
    # virtlockd alone: of a file system on which QEMU has no locks, or with another hypervisor.
    reckless = other.add_reckless_qemu()
    with pytest.raises(AssertionError, match=f"Lockspace resource '{path}' is locked"):
        other.create_by_hand("second", path, emulator=reckless)
    host.virtlockd.send(signal.SIGUSR1)  # as an upgrade of libvirt does it
    with pytest.raises(AssertionError, match="is locked"):
        other.create_by_hand("second", path, emulator=reckless)
    assert other.domain_state("second") == "absent"
    assert host.virsh("domid", instance.id) == number
    assert instance.run("echo on") == "on"


def test_a_lost_lock_is_told(pair: Pair, traveller: Traveller) -> None:
    host = traveller.host
    [disk] = pair.disks(traveller.instance)
    host.virtlockd.kill()
    assert not is_locked(disk)
    assert "virtlockd is away" in host.examine()["disk locks"]["detail"]
    host.virtlockd.start()
    wait_until(lambda: "guests run without" in host.examine()["disk locks"]["detail"], "virtlockd is back")
    assert traveller.instance.id in host.examine()["disk locks"]["detail"]
    traveller.instance.succeed(traveller.migrate(traveller.other))
    assert is_locked(disk)
    assert traveller.host.examine()["disk locks"]["verdict"] == "ok"


def test_guests_on_two_hosts_share_a_volume_also_after_one_of_them_has_moved(pair: Pair, traveller: Traveller) -> None:
    second = pair.boot(displayName="second", hostId=pair.cloud.node(traveller.other)["hostId"])
    assert second.host is traveller.other
    guests = (traveller.instance, second.instance)
    order = {"name": "both", "volumeSize": 1, "multiAttach": True, "tenantId": second.instance.show()["tenantId"]}
    volume = pair.rest.post("/api/ebs/v1/volumes", order)
    body = {"volumeId": volume["volumeId"], "ecsIds": [guest.id for guest in guests]}
    _change(pair, second.instance, "attach", body)
    _check_shared(*guests)
    second.instance.succeed(second.migrate(traveller.host), 180)
    assert second.host is traveller.host
    _check_shared(*guests)
    traveller.instance.succeed(traveller.migrate(traveller.other), 180)
    _check_shared(*guests)
    _change(pair, second.instance, "detach", body)
    second.instance.succeed(second.instance.delete())
    pair.rest.request("DELETE", f"/api/ebs/v1/volumes/{volume['volumeId']}")


def _change(pair: Pair, instance: Instance, action: str, body: dict[str, object]) -> None:
    """Attaches a shared volume to instances, or takes it from them."""
    response = pair.rest.request("PUT", f"/api/ecs/v1/instances/batch-{action}-volume", json=body)
    instance.succeed(response.headers["x-operation-id"])


def _check_shared(*guests: Instance) -> None:
    """What one of them writes past its cache the other one reads past its own."""
    for writer, reader in (guests, reversed(guests)):
        wait_until(lambda: all("vdb" in guest.run("ls /sys/block") for guest in guests), "both see it")
        writer.run("dd if=/dev/urandom of=/tmp/p bs=1M count=4; dd if=/tmp/p of=/dev/vdb bs=1M oflag=direct")
        digest = reader.run("dd if=/dev/vdb bs=1M count=4 iflag=direct 2>/dev/null | sha256sum")
        assert digest == writer.run("sha256sum < /tmp/p; rm /tmp/p")


def test_a_guest_on_shared_storage_keeps_its_disk_where_it_is(pair: Pair, traveller: Traveller) -> None:
    storage_ids = {node["storageId"] for node in pair.rest.get("/api/ecs/v1/nodes")["list"]}
    assert len(storage_ids) == 1
    instance = traveller.instance
    [disk] = pair.disks(instance)
    instance.run("dd if=/dev/urandom of=/boot/nodewright/data bs=1M count=8; sync")
    digest = instance.run("sha256sum /boot/nodewright/data")
    boot_id = instance.boot_id()
    for _ in range(2):
        source, target = traveller.host, traveller.other
        instance.succeed(traveller.migrate(target))
        wait_until(lambda: pair.differences() == [], "all agrees")
        assert pair.copies(instance) == {target.name: "running"}
        assert source.domain_state(instance.id) == "absent"
        assert is_locked(disk)
    assert instance.run("echo 3 > /proc/sys/vm/drop_caches; sha256sum /boot/nodewright/data") == digest
    assert instance.boot_id() == boot_id
    _move_asleep(pair, traveller)
    assert instance.run("sha256sum /boot/nodewright/data") == digest
    instance.succeed(instance.power("stop", gracePeriodSeconds=1))
    assert not is_locked(disk)
    instance.succeed(instance.power("start"))
    instance.wait_for_guest_agent()
    assert instance.run("sha256sum /boot/nodewright/data") == digest
    instance.succeed(instance.delete())
    wait_until(lambda: not disk.exists(), "the disk is gone")


def _move_asleep(pair: Pair, traveller: Traveller) -> None:
    """Its node is emptied while it hibernates: only its memory travels."""
    instance, source, target = traveller.instance, traveller.host, traveller.other
    [disk] = pair.disks(instance)
    inode, counting = disk.stat().st_ino, Counter(instance)
    instance.succeed(instance.power("hibernate"), 180)
    body = {"nodeName": source.name, "maintenance": True}
    response = pair.rest.request("PUT", "/api/ecs/v1/nodes/maintenance", json=body)
    instance.succeed(response.headers["x-operation-id"], 180)
    assert (instance.show()["nodeName"], instance.show()["status"]) == (target.name, "Hibernated")
    wait_until(lambda: pair.copies(instance) == {target.name: "shut off"}, "the source is clean", 60)
    instance.succeed(instance.power("start"), 180)
    instance.wait_for_guest_agent()
    counting.check_goes_on()
    assert disk.stat().st_ino == inode
    pair.rest.request("PUT", "/api/ecs/v1/nodes/maintenance", json=body | {"maintenance": False})
