"""Volumes in a real Ceph of one node, in guests that run on real libvirt and QEMU: what they write is there again."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest

from agent.attachment import DiskAttachments
from agent.configure.host_profile import VolumeSource as ProfileSource
from agent.domain_lock import DomainLocks
from agent.errors import VolumeInUse
from agent.hypervisor.backup import Backups
from agent.hypervisor.description import PowerState
from agent.hypervisor.disk import find_disk_users
from agent.hypervisor.secret import ensure_secret
from agent.storage.base import VolumeSource, VolumeSpec
from agent.storage.choice import ANY_TYPE, StorageChoice
from agent.storage.image_cache import CachedImage
from agent.storage.image_transfer import ImageRef
from agent.storage.rbd import RbdBackend
from agent.storage.rbd_snapshot import RbdSnapshots
from agent.storage.rbd_tool import CephAccess, RbdTool
from agent.storage.snapshots import VolumeSnapshots
from protos.agent.v1.domain_pb2 import Disk
from tests.lab.ceph import POOL, USER, OneNodeCeph, find_ceph_gap
from tests.lab.host import Host
from tests.scenario.test_agent_disks import DiskAgent, needs_demo_image
from tests.scenario.test_agent_snapshots import (
    ONE,
    SIZES_MIB,
    THREE,
    TWO,
    UUIDS,
    WRITER,
    SnapshotAgent,
)
from tests.unit.agent.guest_builder import GUEST_UUID, VOLUME_UUID, a_spec
from tests.unit.agent.storage_builder import qemu_img

pytestmark = [
    pytest.mark.scenario,
    pytest.mark.xdist_group("ceph"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(bool(find_ceph_gap()), reason=find_ceph_gap() or "-"),
]

MIB = 1024**2
ROOT_UUID = f"{VOLUME_UUID[:-1]}1"
OTHER_UUID = "6b1e8c1e-7e64-4a7e-9c60-0e2a4a7a7d11"
TEXT = b"what the guest reads from Ceph\n\0"
# Reads the second sector of its disk, writes it to the third one, and the text in it to the serial port.
_BOOT_SECTOR = bytes.fromhex(
    "31c0 8ed8 8ec0"
    "b80102 bb0080 b90200 b600 cd13"
    "b80103 bb0080 b90300 b600 cd13"
    "be0080 ac 84c0 7406 baf803 ee ebf5"
    "f4 ebfd"
)
# Its monitor commits once a second.
CEPH_PAUSE_SECONDS = 3.0
# The cluster's address, and the host's on the same cable.
CLUSTER, HOST = "10.217.31.1", "10.217.31.2"


class RbdAgent(DiskAgent):
    """With all of its volumes in the pool."""

    def __init__(self, host: Host, ceph: OneNodeCeph) -> None:
        super().__init__(host)
        self.pool = self.pool_of("node-1", HOST, ceph)
        self.storage = StorageChoice(self.volumes, {ANY_TYPE: self.pool})
        self.attachments = DiskAttachments(
            self.disk_plugs,
            self.storage,
            self.images,
            self.read_profile,
            DomainLocks(),
            check_volume=self.storage.check_volume,
        )

    def pool_of(self, owner: str, address: str, ceph: OneNodeCeph) -> RbdBackend:
        """What a node with this address has in the pool."""
        return RbdBackend(
            RbdTool(CephAccess(ceph.config, USER), POOL),
            owner=owner,
            namespace="",
            find_image=self.find_image,
            find_users=partial(find_disk_users, self.connection),
            keep_key=partial(ensure_secret, self.connection),
            own_addresses=lambda: {address},
        )

    async def find_image(self, image_id: str) -> CachedImage:
        """A disk that a machine boots from, with the text behind the boot sector."""
        path = self.directory / f"{image_id}.raw"
        path.write_bytes((_BOOT_SECTOR.ljust(510, b"\0") + b"\x55\xaa" + TEXT).ljust(MIB, b"\0"))
        return CachedImage(ImageRef(image_id, "ab" * 32, "raw", MIB), path, MIB)

    async def wait_for(self, text: str, times: int) -> None:
        """The guest has written the text to its serial port so often."""
        log = (await self.read_profile()).serial_log(GUEST_UUID)
        deadline = time.monotonic() + 300
        while (log.read_text() if log.exists() else "").count(text) < times:
            assert time.monotonic() < deadline, f"the guest has not written {text!r}"
            await asyncio.sleep(0.5)

    async def describe_volume(self, uuid: str) -> VolumeSource:  # type: ignore[override]
        """As the agent does."""
        return await self.storage.describe_volume(uuid)

    async def check_image(self, path: Path, domain_uuid: str) -> None:
        """As the agent does."""
        await self.storage.check_image(path, domain_uuid)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    host = Host(1, tmp_path_factory.mktemp("agent-rbd"))
    host.start_libvirt()
    assert host.namespace.connect_here("ceph0", f"{HOST}/30", "nwceph0", f"{CLUSTER}/30")
    yield host
    host.end()


@pytest.fixture(scope="module")
def ceph(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneNodeCeph]:
    cluster = OneNodeCeph(tmp_path_factory.mktemp("ceph"), address=CLUSTER)
    yield cluster
    cluster.end()


@pytest.fixture
async def agent(host: Host, ceph: OneNodeCeph) -> AsyncIterator[RbdAgent]:
    agent = RbdAgent(host, ceph)
    await agent.connection.open()
    probing = asyncio.create_task(agent.prober.run())
    yield agent
    probing.cancel()
    await agent.definitions.ensure_removed(GUEST_UUID)
    await agent.connection.close()


class MixedAgent(SnapshotAgent):
    """With a volume in a file between two in the pool."""

    def __init__(self, host: Host, ceph: OneNodeCeph) -> None:
        super().__init__(host)
        self.pool = RbdBackend(
            RbdTool(CephAccess(ceph.config, USER), POOL),
            owner="node-1",
            namespace="",
            find_image=_no_image,
            find_users=partial(find_disk_users, self.connection),
            keep_key=partial(ensure_secret, self.connection),
            own_addresses=lambda: {HOST},
        )
        self.storage = StorageChoice(self.volumes, {"ssd": self.pool})
        self.stores = VolumeSnapshots(self.storage)
        self.snapshots = self.new_snapshots()

    async def make(self, uuid: str, size_mib: int = 64, *, shared: bool = False) -> Disk:
        """A volume where its type belongs."""
        volume_type = "hdd" if uuid == UUIDS[1] else "ssd"
        await self.storage.ensure_volume(VolumeSpec(uuid, size_mib * MIB, volume_type, shared=shared))
        return Disk(volume_uuid=uuid)

    async def describe_volume(self, uuid: str) -> ProfileSource:  # type: ignore[override]
        """As the agent does; the system disk is the demo guest's."""
        if await self.pool.has_volume(uuid):
            return await self.pool.describe_volume(uuid)
        return await super().describe_volume(uuid)

    async def check_image(self, path: Path, domain_uuid: str) -> None:
        """As the agent does."""
        await self.storage.check_image(path, domain_uuid)

    async def read(self, uuid: str, snapshot_id: str) -> Path:
        """A raw file with what the volume held, while the guest has it open."""
        store, raw = await self.stores.of(uuid), self.directory / "raw"
        async with store.opening(await store.get(uuid, snapshot_id)) as state:
            chosen = ["-U", "-l", f"snapshot.name={state.name}"] if state.name else []
            command = ["qemu-img", "convert", *chosen, "-f", state.format, "-O", "raw", state.address, raw]
            await asyncio.to_thread(subprocess.run, command, check=True)
        return raw


@pytest.mark.timeout(600)
@needs_demo_image
async def test_files_and_images_are_kept_at_one_moment_while_the_guest_writes(
    host: Host, ceph: OneNodeCeph, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = MixedAgent(host, ceph)
    await agent.connection.open()
    probing = asyncio.create_task(agent.prober.run())
    try:
        await agent.boot_with_disks()
        before = await agent.fill()
        pauses = [await agent.take(ONE)]
        await agent.run(
            f"cat > /tmp/writer <<'END'\n{WRITER % ' '.join(agent.names)}\nEND\nsh /tmp/writer > /tmp/log 2>&1 &"
        )
        await asyncio.sleep(2)
        # Also of what a call that died half-way has left.
        await RbdSnapshots(agent.pool).create(UUIDS[2], f"nw.{TWO}.c")
        for snapshot_id, most_by_guest in ((TWO, 2), (THREE, 1)):
            # Those of several images are taken while the guest is held.
            monkeypatch.setattr(RbdSnapshots, "most_by_guest", most_by_guest)
            pauses.append(await agent.take(snapshot_id, quiesces=False))
            assert (await agent.guests.get(GUEST_UUID)).power_state is PowerState.RUNNING
            await asyncio.sleep(1)
        await agent.run("touch /tmp/stop; while [ ! -e /tmp/stopped ]; do sleep 0.1; done")
        count, longest = map(int, (await agent.run("cat /tmp/written")).split())
        for snapshot_id in (TWO, THREE):
            numbers = await agent.numbers(snapshot_id)
            # The first disk is written first: none can know of more than those before it.
            assert sorted(numbers, reverse=True) == numbers
            assert 0 < numbers[0] - 1 <= numbers[2] <= count
        print(f"{count} rounds of writes, the longest write {longest * 10} ms, pauses {pauses}")
        await agent.snapshots.remove(TWO, UUIDS)
        # An image of the coordinator is made of what it holds, while it runs.
        backups, target = Backups(agent.connection, agent.freezes, DomainLocks()), agent.directory / "image"
        async with backups.copying(GUEST_UUID, UUIDS[0], target, quiesces=False) as copy:
            assert [percent async for percent in copy.percents()][-1:] != [0]
        assert json.loads(qemu_img("info", "--output=json", target))["virtual-size"] == SIZES_MIB[0] * MIB
        qemu_img("convert", "-O", "raw", target, agent.directory / "raw")
        assert int((agent.directory / "raw").read_bytes()[:512].strip(b"\0 ")) == count
        await agent.fill()
        with pytest.raises(VolumeInUse):
            await agent.snapshots.roll_back(ONE, UUIDS)
        await agent.guests.destroy(GUEST_UUID)
        await agent.snapshots.roll_back(ONE, UUIDS)
        await agent.boot_again()
        assert await agent.sums() == before
        assert max(pause or 0 for pause in pauses) < CEPH_PAUSE_SECONDS
        assert [it.snapshot_id for it in await (await agent.stores.of(UUIDS[0])).list(UUIDS[0])] == [ONE, THREE]
    finally:
        probing.cancel()
        await agent.definitions.ensure_removed(GUEST_UUID)
        for uuid in UUIDS:
            await agent.storage.ensure_removed(uuid)
        await agent.connection.close()
    assert [name for name in ceph.rbd("ls", POOL).split() if name.startswith("nw-")] == []


async def _no_image(_image_id: str) -> CachedImage | None:
    return None


async def test_a_guest_boots_from_ceph_and_writes_to_it(agent: RbdAgent, host: Host, ceph: OneNodeCeph) -> None:
    await agent.storage.ensure_volume(VolumeSpec(ROOT_UUID, 8 * MIB, "ssd", "img-boot"))
    root = Disk(volume_uuid=ROOT_UUID, boot_index=1)
    spec = a_spec(vcpus=1, memory_bytes=64 * MIB, nics=[], disks=[root])
    spec.ClearField("cloud_init")
    await agent.start(spec)
    await agent.wait_for("reads from Ceph", 1)

    # Nobody gets the key out of libvirt.
    key = ceph.ceph("auth", "get-key", f"client.{USER}").strip()
    assert key not in host.virsh("dumpxml", "--security-info", GUEST_UUID)
    [secret] = [line.split()[0] for line in host.virsh("secret-list").splitlines() if "ceph" in line]
    with pytest.raises(AssertionError, match="private"):
        host.virsh("secret-get-value", secret)

    # Ceph would let others write, too.
    with pytest.raises(VolumeInUse, match="running domain"):
        await agent.storage.check_volume(ROOT_UUID, OTHER_UUID)
    with pytest.raises(VolumeInUse, match=f"open at {HOST}, on another node"):
        await agent.pool_of("node-2", CLUSTER, ceph).refuse_while_others_have(ROOT_UUID, GUEST_UUID)
    with pytest.raises(VolumeInUse, match="running domain"):
        await agent.storage.ensure_removed(ROOT_UUID)
    await agent.attachments.grow(ROOT_UUID, 12 * MIB, GUEST_UUID)
    assert f"{12 * MIB}" in host.virsh("domblkinfo", GUEST_UUID, "vda").splitlines()[0]

    # Killed and started: what Ceph remembers of the dead one keeps nobody from it.
    await agent.guests.destroy(GUEST_UUID)
    await agent.definitions.check_startable(GUEST_UUID)
    await agent.guests.start(GUEST_UUID)
    await agent.wait_for("reads from Ceph", 2)
    await agent.definitions.ensure_removed(GUEST_UUID)
    export = agent.directory / "export"
    ceph.rbd("export", "--no-progress", f"{POOL}/nw-{ROOT_UUID}", str(export))
    assert export.read_bytes()[1024:].startswith(TEXT)
    await agent.storage.ensure_removed(ROOT_UUID)
    assert [name for name in ceph.rbd("ls", POOL).split() if name.startswith("nw-")] == []
