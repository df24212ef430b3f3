"""Volumes in guests that run, on real libvirt and QEMU: attached, written to, grown, taken away and given to others."""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from agent.attachment import DiskAttachments, DiskReturn
from agent.configure.disk import make_serial
from agent.configure.disk_limit import DiskLimit
from agent.configure.host_profile import HostProfile, VolumeSource
from agent.disk_limit import DiskLimits
from agent.domain_lock import DomainLocks
from agent.domainxml.assignment import AssignedDomain
from agent.domainxml.disk import IoTune
from agent.errors import DevicePlugUnsafe, DeviceStillAttached, MediumLocked, RequestInvalid, VolumeInUse
from agent.hypervisor.disk import find_disk_users
from agent.hypervisor.disk_limit import apply_disk_limits
from agent.hypervisor.events import DEVICE_REMOVED
from agent.hypervisor.guest import find_owned
from agent.hypervisor.hibernation import Hibernations
from agent.hypervisor.prober import GuestAgentState
from agent.storage.base import VolumeSpec
from agent.storage.directory import DirectoryBackend
from agent.storage.image_cache import CachedImage
from agent.storage.volume_file import supports_direct_io
from protos.agent.v1.domain_pb2 import Disk, DiskBus, DomainSpec, OpticalDrive
from tests.lab.host import Host
from tests.scenario.domain_agent import DEMO_IMAGE, DomainAgent
from tests.stopwatch import Stopwatch
from tests.unit.agent.guest_builder import GUEST_UUID, VOLUME_UUID, a_drive, a_spec

pytestmark = [
    pytest.mark.scenario,
    pytest.mark.xdist_group("agents"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

MIB = 1024**2
OTHER_UUID = "6b1e8c1e-7e64-4a7e-9c60-0e2a4a7a7d11"
DATA_UUID = "7f1e8c1e-7e64-4a7e-9c60-0e2a4a7a7d13"
MORE_UUID = "8f1e8c1e-7e64-4a7e-9c60-0e2a4a7a7d14"
# What a person waits for, on a guest that answers.
QUICK_SECONDS = 2.0
BUSES = [DiskBus.DISK_BUS_VIRTIO, DiskBus.DISK_BUS_SCSI]
needs_demo_image = pytest.mark.skipif(not DEMO_IMAGE, reason="needs the demo image of tests/run")


class DiskAgent(DomainAgent):
    """With volumes as the agent keeps them."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.volumes = DirectoryBackend(
            self.directory / "volumes",
            owner="node-1",
            find_image=_no_image,
            find_users=lambda path: find_disk_users(self.connection, path),
            reserved_bytes=0,
        )
        self.volumes.prepare()
        self.limits = DiskLimits(
            self.directory / "disk-limits.json",
            apply=partial(apply_disk_limits, self.connection),
            list_volumes=self.volumes.list_volumes,
        )
        self.attachments = DiskAttachments(self.disk_plugs, self, self.images, self.read_profile, DomainLocks())
        self.grow_volume = self.volumes.grow_volume
        self.roots: dict[str, VolumeSource] = {}

    def make_hibernations(self) -> Hibernations:
        """As the agent has them."""
        parts = self.connection, self.guests, self.guest_agents, self.affinities, self.events
        hibernations = Hibernations(*parts, self.directory / "saved")
        hibernations.on_restored = self.limits.apply
        return hibernations

    async def read_profile(self) -> HostProfile:
        """As the agent sees its node."""
        direct_io = supports_direct_io(self.directory / "volumes")
        return replace(await super().read_profile(), direct_io=direct_io, disk_limits=self.limits.limits)

    async def describe_volume(self, uuid: str) -> VolumeSource:  # type: ignore[override]
        """The system disk is the demo guest's, made once; others are volumes."""
        if await self.volumes.find_volume(uuid):
            return await self.volumes.describe_volume(uuid)
        if uuid not in self.roots:
            self.roots[uuid] = await super().describe_volume(uuid)
        return self.roots[uuid]

    async def make(self, uuid: str, size_mib: int = 64, *, shared: bool = False) -> Disk:
        """An empty volume, as a disk."""
        await self.volumes.ensure_volume(VolumeSpec(uuid, size_mib * MIB, "ssd", shared=shared))
        return Disk(volume_uuid=uuid)

    async def document(self, flags: int = 0, uuid: str = GUEST_UUID) -> AssignedDomain:
        """What libvirt tells."""
        return AssignedDomain(await self.connection.call(lambda handle: find_owned(handle, uuid).XMLDesc(flags)))

    async def has(self, disk: Disk, uuid: str = GUEST_UUID) -> tuple[bool, bool]:
        """Whether the guest has the disk: live, and from its next start on."""
        key = make_serial(disk.volume_uuid)
        documents = [await self.document(flags, uuid) for flags in (0, 2)]
        live, definition = (bool(document.find_disk(key)) for document in documents)
        return live, definition

    async def media(self, flags: int) -> dict[str, str]:
        """What is in the drives, by their keys."""
        drives = [disk for disk in (await self.document(flags)).disks if disk.key.startswith("cdrom")]
        return {drive.key: Path((drive.source and drive.source.file) or "").name for drive in drives}

    async def run(self, script: str, uuid: str = GUEST_UUID) -> str:
        """What a script writes in the guest."""
        order = {"path": "/bin/sh", "arg": ["-c", script], "capture-output": True}
        answer = await self.guest_agents.execute(uuid, "guest-exec", order, timeout_seconds=60)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            asked = {"pid": answer["pid"]}
            status = await self.guest_agents.execute(uuid, "guest-exec-status", asked, timeout_seconds=60)
            if status["exited"]:
                return base64.b64decode(status.get("out-data", "")).decode(errors="replace").strip()
            await asyncio.sleep(0.1)
        raise AssertionError(f"not within 60 s: {script}")

    async def find(self, size_mib: int, uuid: str = GUEST_UUID) -> str:
        """The guest's name of the disk that is so large, once it has seen it."""
        script = f"for d in /sys/block/[sv]d*; do grep -qx {size_mib * 2048} $d/size && echo /dev/${{d##*/}}; done"
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if name := await self.run(script, uuid):
                return name
        raise AssertionError(f"no disk of {size_mib} MiB: {await self.run('ls /sys/block; dmesg | tail', uuid)}")

    async def boot(
        self, uuid: str = GUEST_UUID, name: str = "one", drives: Sequence[OpticalDrive] = (), *, vcpus: int = 1
    ) -> None:
        """A demo guest that answers."""
        root = Disk(volume_uuid=VOLUME_UUID[:-1] + name[0].translate(str.maketrans("ot", "12")), boot_index=1)
        await self.start(
            a_spec(
                uuid=uuid,
                name=name,
                vcpus=vcpus,
                memory_bytes=256 * MIB,
                nics=[],
                disks=[root],
                optical_drives=drives,
            )
        )
        deadline = time.monotonic() + 120
        while self.prober.last(await self.guests.get(uuid)).state is not GuestAgentState.RUNNING:
            assert time.monotonic() < deadline, "the guest agent never came"
            await asyncio.sleep(0.2)


async def _no_image(_image_id: str) -> CachedImage | None:
    return None


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    host = Host(1, tmp_path_factory.mktemp("agent-disks"))
    host.start_libvirt()
    yield host
    host.end()


@pytest.fixture
async def agent(host: Host) -> AsyncIterator[DiskAgent]:
    agent = DiskAgent(host)
    await agent.connection.open()
    probing = asyncio.create_task(agent.prober.run())
    yield agent
    probing.cancel()
    for uuid in (GUEST_UUID, OTHER_UUID):
        await agent.definitions.ensure_removed(uuid)
    for uuid in (DATA_UUID, MORE_UUID):
        await agent.volumes.ensure_removed(uuid)
    await agent.connection.close()


def _deaf_spec(**changes: object) -> DomainSpec:
    """A guest that has nothing to start from, and hence never answers."""
    spec = a_spec(**{"vcpus": 1, "memory_bytes": 64 * MIB, "disks": [], "nics": [], **changes})
    spec.ClearField("cloud_init")
    return spec


@needs_demo_image
@pytest.mark.parametrize("bus", BUSES)
async def test_what_one_guest_writes_another_reads_and_the_disk_grows_under_it(
    agent: DiskAgent, bus: DiskBus, record_property: Callable[[str, object], None]
) -> None:
    disk = await agent.make(DATA_UUID)
    disk.bus = bus
    await agent.boot()
    with Stopwatch() as attaching:
        await agent.attachments.attach(GUEST_UUID, disk)
    attached = attaching.seconds
    assert await agent.has(disk) == (True, True)
    name = await agent.find(64)
    assert (await agent.run(f"cat /sys/block/{name[5:]}/serial /sys/block/{name[5:]}/device/vpd_pg80")) != ""
    written = await agent.run(
        f"dd if=/dev/urandom of=/tmp/p bs=1M count=16; dd if=/tmp/p of={name} bs=1M conv=fsync; sha256sum < /tmp/p"
    )
    await agent.attachments.grow(DATA_UUID, 96 * MIB, GUEST_UUID)
    assert await agent.find(96) == name
    with pytest.raises(RequestInvalid):
        await agent.attachments.grow(DATA_UUID, 80 * MIB, GUEST_UUID)
    with Stopwatch() as detaching:
        await agent.attachments.detach(GUEST_UUID, DATA_UUID, grace_seconds=30)
    detached = detaching.seconds
    assert await agent.has(disk) == (False, False)
    record_property("attach_seconds", round(attached, 3))
    record_property("detach_seconds", round(detached, 3))
    print(f"bus {bus}: attach {attached:.3f} s, detach {detached:.3f} s")
    await agent.boot(OTHER_UUID, "two")
    await agent.attachments.attach(OTHER_UUID, disk)
    name = await agent.find(96, OTHER_UUID)
    assert await agent.run(f"head -c {16 * MIB} {name} | sha256sum", OTHER_UUID) == written
    assert attached < QUICK_SECONDS
    assert detached < QUICK_SECONDS


@needs_demo_image
async def test_disks_come_and_go_many_times_and_keep_their_places(agent: DiskAgent) -> None:
    await agent.boot()
    first, second = await agent.make(DATA_UUID), await agent.make(MORE_UUID, 32)
    for _ in range(3):
        await agent.attachments.attach(GUEST_UUID, first)
        await agent.attachments.attach(GUEST_UUID, second)
        name = await agent.find(32)
        await agent.attachments.detach(GUEST_UUID, DATA_UUID, grace_seconds=30)
        places = {disk.key: disk.place for disk in (await agent.document()).disks}
        spec = a_spec(name="one", vcpus=1, memory_bytes=256 * MIB, nics=[], disks=[_root(), second])
        # As the coordinator does, while the guest runs.
        await agent.definitions.ensure_defined(spec)
        assert {disk.key: disk.place for disk in (await agent.document(2)).disks} == places
        assert await agent.find(32) == name
        await agent.attachments.detach(GUEST_UUID, MORE_UUID, grace_seconds=30)


def _root() -> Disk:
    return Disk(volume_uuid=VOLUME_UUID[:-1] + "1", boot_index=1)


async def test_a_guest_that_does_not_let_go_keeps_the_disk(agent: DiskAgent) -> None:
    disk = await agent.make(DATA_UUID)
    await agent.start(_deaf_spec())
    await agent.attachments.attach(GUEST_UUID, disk)
    with pytest.raises(DeviceStillAttached):
        await agent.attachments.detach(GUEST_UUID, DATA_UUID, grace_seconds=2)
    assert await agent.has(disk) == (True, True)
    # It can be had when the guest ends.
    detaching = asyncio.create_task(agent.attachments.detach(GUEST_UUID, DATA_UUID, grace_seconds=60))
    await asyncio.sleep(0.5)
    await agent.guests.destroy(GUEST_UUID)
    await asyncio.wait_for(detaching, 90)
    assert await agent.has(disk) == (False, False)


@needs_demo_image
async def test_a_guest_that_lets_go_after_all_has_its_disk_back(agent: DiskAgent) -> None:
    disk = await agent.make(DATA_UUID)
    await agent.boot()
    await agent.attachments.attach(GUEST_UUID, disk)
    name = await agent.find(64)
    await agent.run(f"echo kept > {name}; sync")
    returning = asyncio.create_task(DiskReturn(agent.attachments, agent.events).run())
    # It hears of nothing while its processors stand still.
    await agent.guests.suspend(GUEST_UUID)
    with pytest.raises(DeviceStillAttached):
        await agent.attachments.detach(GUEST_UUID, DATA_UUID, grace_seconds=1)
    async with agent.events.subscribe() as changes:
        await agent.guests.resume(GUEST_UUID)
        async with asyncio.timeout(60):
            while (await changes.get()).kind != DEVICE_REMOVED:
                pass
    assert (await agent.run(f"head -c 4 {await agent.find(64)}")) == "kept"
    assert await agent.has(disk) == (True, True)
    await agent.attachments.detach(GUEST_UUID, DATA_UUID, grace_seconds=30)
    assert await agent.has(disk) == (False, False)
    returning.cancel()


@needs_demo_image
async def test_two_guests_share_a_disk_each_within_its_limit_and_one_goes_on_without_the_other(
    agent: DiskAgent, record_property: Callable[[str, object], None]
) -> None:
    disk = await agent.make(DATA_UUID, shared=True)
    await agent.boot(vcpus=4)
    await agent.boot(OTHER_UUID, "two")
    names = {}
    for uuid in (GUEST_UUID, OTHER_UUID):
        await agent.attachments.attach(uuid, disk)
        names[uuid] = await agent.find(64, uuid)
        [plugged] = [it for it in (await agent.document(uuid=uuid)).disks if it.key == make_serial(DATA_UUID)]
        assert plugged.shareable
        # The larger guest has a thread of its own for its disks.
        assert (plugged.driver and plugged.driver.io_thread) == (1 if uuid == GUEST_UUID else None)

    async def write(uuid: str, seek: int) -> tuple[str, float]:
        pattern = "dd if=/dev/urandom of=/tmp/p bs=1M count=16 2>/dev/null; sha256sum < /tmp/p"
        digest = await agent.run(pattern, uuid)
        with Stopwatch() as watch:
            await agent.run(f"dd if=/tmp/p of={names[uuid]} bs=1M seek={seek} oflag=direct", uuid)
        return digest, watch.seconds

    async def read(uuid: str, skip: int) -> str:
        return await agent.run(f"dd if={names[uuid]} bs=1M skip={skip} count=16 iflag=direct | sha256sum", uuid)

    digest, free_seconds = await write(GUEST_UUID, 0)
    assert await read(OTHER_UUID, 0) == digest
    assert await read(GUEST_UUID, 0) == digest
    digest, _ = await write(OTHER_UUID, 0)
    assert await read(GUEST_UUID, 0) == digest
    # Two guests grow it, whoever of them is told first.
    for uuid in (GUEST_UUID, OTHER_UUID):
        await agent.attachments.grow(DATA_UUID, 80 * MIB, uuid)
        assert await agent.find(80, uuid) == names[uuid]
    # One of them hibernates meanwhile.
    hibernations = agent.make_hibernations()
    assert [progress async for progress in hibernations.ensure_hibernated(OTHER_UUID)]
    await agent.limits.tell({"ssd": DiskLimit(write_bytes_per_second=2 * MIB)})
    await agent.limits.apply()
    await hibernations.start(OTHER_UUID)
    digest, held_seconds = await write(OTHER_UUID, 16)
    record_property("seconds", (round(free_seconds, 2), round(held_seconds, 2)))
    print(f"16 MiB: {free_seconds:.2f} s without a limit, {held_seconds:.2f} s with 2 MiB/s")
    assert held_seconds > max(6.0, 2 * free_seconds)
    for flags in (0, 2):
        assert {it.io_tune for it in (await agent.document(flags)).disks if it.shareable} == {
            IoTune(write_bytes_sec=2 * MIB)
        }
    await agent.limits.tell({})
    await agent.limits.apply()
    assert {it.io_tune for it in (await agent.document()).disks if it.shareable} == {None}
    await agent.attachments.detach(GUEST_UUID, DATA_UUID, grace_seconds=30)
    assert await read(OTHER_UUID, 16) == digest
    digest, free_seconds = await write(OTHER_UUID, 64)
    assert await read(OTHER_UUID, 64) == digest
    assert free_seconds < held_seconds / 2


async def test_no_two_guests_write_to_one_disk(agent: DiskAgent) -> None:
    disk = await agent.make(DATA_UUID)
    await agent.start(_deaf_spec())
    await agent.start(_deaf_spec(uuid=OTHER_UUID, name="two"))
    await agent.attachments.attach(GUEST_UUID, disk)
    with pytest.raises(VolumeInUse):
        await agent.attachments.attach(OTHER_UUID, disk)
    assert await agent.has(disk, OTHER_UUID) == (False, False)
    with pytest.raises(VolumeInUse):
        await agent.attachments.grow(DATA_UUID, 96 * MIB, OTHER_UUID)


async def test_a_sata_disk_waits_until_the_guest_is_off(agent: DiskAgent) -> None:
    disk = await agent.make(DATA_UUID)
    disk.bus = DiskBus.DISK_BUS_SATA
    await agent.start(_deaf_spec())
    with pytest.raises(DevicePlugUnsafe, match="off"):
        await agent.attachments.attach(GUEST_UUID, disk)
    assert await agent.has(disk) == (False, False)
    await agent.guests.destroy(GUEST_UUID)
    await agent.attachments.attach(GUEST_UUID, disk)
    await agent.guests.start(GUEST_UUID)
    assert await agent.has(disk) == (True, True)
    with pytest.raises(DevicePlugUnsafe, match="taken from a guest"):
        await agent.attachments.detach(GUEST_UUID, DATA_UUID, grace_seconds=2)


async def test_a_guest_without_a_free_port_refuses_one_disk_more(agent: DiskAgent) -> None:
    await agent.start(_deaf_spec())
    free = len((await agent.document()).free_ports())
    uuids = [f"{number:08x}-7e64-4a7e-9c60-0e2a4a7a7d13" for number in range(free + 1)]
    try:
        for uuid in uuids[:-1]:
            await agent.attachments.attach(GUEST_UUID, await agent.make(uuid, 1))
        with pytest.raises(DevicePlugUnsafe, match="port"):
            await agent.attachments.attach(GUEST_UUID, await agent.make(uuids[-1], 1))
        assert not (await agent.document()).free_ports()
    finally:
        await agent.definitions.ensure_removed(GUEST_UUID)
        for uuid in uuids:
            await agent.volumes.ensure_removed(uuid)


@needs_demo_image
async def test_what_is_in_the_drives_changes_while_the_guest_runs(agent: DiskAgent) -> None:
    for name in ("one", "two"):
        content = agent.directory / f"content-{name}"
        content.mkdir()
        (content / "marker").write_text(f"this is {name}\n")
        iso = agent.directory / f"img-{name}.iso"
        subprocess.run(["genisoimage", "-quiet", "-rock", "-output", iso, content], check=True)
    await agent.boot(drives=[a_drive(0), a_drive(1, "img-two")])
    mount = "mkdir -p /mnt; for d in /dev/sr*; do mount -t iso9660 -o ro $d /mnt 2>/dev/null || continue;"
    read = f"{mount} cat /mnt/marker 2>/dev/null; umount /mnt; done"
    assert await agent.run(read) == "this is two"

    started = time.monotonic()
    for _ in range(2):
        await agent.attachments.insert(GUEST_UUID, a_drive(0, "img-one"), force=False)
    assert time.monotonic() - started < QUICK_SECONDS
    assert sorted((await agent.run(read)).splitlines()) == ["this is one", "this is two"]
    assert await agent.media(2) == {"cdrom0": "img-one.iso", "cdrom1": "img-two.iso"}

    # Nothing is taken from under a mounted file system without the guest's consent, unless it is forced.
    await agent.run(f"{mount} grep one /mnt/marker && break; umount /mnt; done")
    with pytest.raises(MediumLocked):
        await agent.attachments.insert(GUEST_UUID, a_drive(0), force=False)
    assert await agent.run("cat /mnt/marker") == "this is one"
    assert await agent.media(0) == await agent.media(2) == {"cdrom0": "img-one.iso", "cdrom1": "img-two.iso"}
    for _ in range(2):
        await agent.attachments.insert(GUEST_UUID, a_drive(0), force=True)
    await agent.run("umount -l /mnt")
    assert await agent.run(read) == "this is two"
    await agent.attachments.insert(GUEST_UUID, a_drive(1), force=False)
    assert await agent.run(read) == ""
    assert await agent.media(0) == await agent.media(2) == {"cdrom0": "", "cdrom1": ""}
    with pytest.raises(DevicePlugUnsafe):
        await agent.attachments.insert(GUEST_UUID, a_drive(5, "img-one"), force=False)
