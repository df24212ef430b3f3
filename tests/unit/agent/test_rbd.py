"""Volumes in a real Ceph of one node (`tests/lab/ceph.py`), by the real rbd and qemu-img."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from agent.config import AgentConfig
from agent.errors import (
    ImageNotFound,
    RequestInvalid,
    SnapshotNotFound,
    StorageFailed,
    StorageUnavailable,
    VolumeInUse,
    VolumeNotFound,
)
from agent.pool_check import examine_pools
from agent.storage import rbd as rbd_module
from agent.storage.base import Volume, VolumeSpec
from agent.storage.choice import ANY_TYPE, StorageChoice
from agent.storage.directory import DirectoryBackend
from agent.storage.exporting import ExportOrder, Exports
from agent.storage.image_cache import ImageCache
from agent.storage.rbd import RbdBackend
from agent.storage.rbd_snapshot import RbdSnapshots
from agent.storage.rbd_tool import CephAccess, RbdTool
from agent.storage.snapshots import VolumeSnapshots
from tests.lab.ceph import POOL, USER, OneNodeCeph, find_ceph_gap
from tests.unit.agent.storage_builder import MIB, Source, a_cache, a_ref, fetch, nobody, qemu_img
from tests.unit.agent.test_exporting import NobodyRuns

pytestmark = [
    pytest.mark.skipif(bool(find_ceph_gap()), reason=find_ceph_gap() or "-"),
    pytest.mark.xdist_group("ceph"),
]


@pytest.fixture(scope="module")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneNodeCeph]:
    cluster = OneNodeCeph(tmp_path_factory.mktemp("ceph"))
    yield cluster
    cluster.end()


@pytest.fixture
async def images(tmp_path: Path) -> ImageCache:
    """A cache with one image of 8 MiB."""
    raw, source = tmp_path / "source.raw", tmp_path / "source.qcow2"
    raw.write_bytes(b"\7" * MIB + bytes(7 * MIB))
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, source], check=True)
    content = source.read_bytes()
    cache = a_cache(tmp_path / "images", Source(img_1=content))
    await fetch(cache, a_ref(content))
    return cache


class Node:
    """A node's volumes in the pool, and what libvirt was given to keep."""

    def __init__(self, ceph: OneNodeCeph, images: ImageCache, name: str = "node-1", namespace: str = "") -> None:
        self.keys: list[tuple[str, str, str]] = []
        self.addresses: set[str] = set()
        self.users: list[str] = []
        self.tool = RbdTool(CephAccess(ceph.config, USER), POOL)
        self.volumes = RbdBackend(
            self.tool,
            owner=name,
            namespace=namespace,
            find_image=images.find,
            find_users=self._find_users,
            keep_key=self._keep_key,
            own_addresses=lambda: self.addresses,
        )

    def read(self, uuid: str) -> bytes:
        """What the volume holds."""
        address = self.tool.address(self.volumes.name_of(uuid))
        command = ["qemu-img", "convert", "-f", "raw", "-O", "raw", address, "/dev/stdout"]
        target = self.tool.access.config.with_name(f"{uuid}.raw")
        subprocess.run([*command[:-1], target], check=True, capture_output=True)
        try:
            return target.read_bytes()
        finally:
            target.unlink()

    @asynccontextmanager
    async def writing(self, uuid: str, text: str) -> AsyncIterator[None]:
        """QEMU has the volume open, and has written to it."""
        program = ("qemu-io", "-f", "raw", self.tool.address(self.volumes.name_of(uuid)))
        process = await asyncio.create_subprocess_exec(*program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin is not None
        assert process.stdout is not None
        # It reads commands only when the image is open.
        process.stdin.write(f"{text}\nflush\nlength\n".encode())
        while b"MiB" not in (line := await process.stdout.readline()):
            assert line, "qemu-io has ended"
        try:
            yield
        finally:
            await process.communicate(b"quit\n")

    async def _find_users(self, _path: Path, _besides_uuid: str) -> list[str]:
        return self.users

    async def _keep_key(self, uuid: str, name: str, key: str) -> None:
        self.keys.append((uuid, name, key))


@pytest.fixture
def node(ceph: OneNodeCeph, images: ImageCache) -> Node:
    return Node(ceph, images)


def a_spec(uuid: str = "", *, size_mib: int = 12, image_id: str | None = None) -> VolumeSpec:
    return VolumeSpec(uuid or str(uuid4()), size_mib * MIB, "essd", image_id)


def a_directory(tmp_path: Path, images: ImageCache) -> DirectoryBackend:
    """Files beside the pool."""
    directory = DirectoryBackend(
        tmp_path / "volumes", owner="node-1", find_image=images.find, find_users=nobody, reserved_bytes=0
    )
    directory.prepare()
    return directory


async def unseen(_size_bytes: int) -> bool:
    """No guest runs with it."""
    return False


async def test_volumes_are_made_found_grown_and_removed(node: Node, ceph: OneNodeCeph, images: ImageCache) -> None:
    volumes, empty, system = node.volumes, a_spec(), a_spec(image_id="img-1")
    made = await volumes.ensure_volume(empty)
    assert (made.size_bytes, made.volume_type, made.image_id, made.allocated_bytes) == (12 * MIB, "essd", None, 0)
    assert await volumes.ensure_volume(empty) == made
    assert node.read(empty.uuid) == bytes(12 * MIB)
    assert (await volumes.ensure_volume(system)).image_id == "img-1"
    assert node.read(system.uuid) == b"\7" * MIB + bytes(11 * MIB)
    assert {volume.uuid for volume in await volumes.list_volumes()} == {empty.uuid, system.uuid}
    source = await volumes.describe_volume(system.uuid)
    assert (source.kind, source.format, str(source.path)) == ("network", "raw", f"{POOL}/nw-{system.uuid}")
    assert source.rbd is not None
    [(secret_uuid, name, key)] = node.keys
    assert (source.rbd.secret_uuid, source.rbd.user) == (secret_uuid, USER)
    assert key == ceph.ceph("auth", "get-key", f"client.{USER}").strip()
    assert key not in name

    assert (await volumes.grow_volume(system.uuid, 16 * MIB, unseen)).size_bytes == 16 * MIB
    assert (await volumes.ensure_volume(replace(system, size_bytes=20 * MIB))).size_bytes == 20 * MIB
    for wrong in (replace(system, size_bytes=8 * MIB), a_spec(system.uuid, size_mib=20)):
        with pytest.raises(RequestInvalid):
            await volumes.ensure_volume(wrong)
    with pytest.raises(ImageNotFound):
        await volumes.ensure_volume(a_spec(image_id="img-2"))
    with pytest.raises(VolumeNotFound):
        await volumes.describe_volume(str(uuid4()))
    # The image stays for the next one as long as the node has it, and no longer.
    for spec in (empty, empty, system):
        await volumes.ensure_removed(spec.uuid)
    [base] = await node.tool.list_images("nwi-")
    assert base.startswith("nwi-img-1.")
    assert await volumes.list_volumes() == []
    await images.ensure_evicted("img-1")
    await volumes.sweep()
    assert ceph.rbd("ls", POOL) == ""


async def test_nodes_share_volumes_and_images_or_have_their_own(
    node: Node, ceph: OneNodeCeph, images: ImageCache
) -> None:
    other, alone = Node(ceph, images, "node-2"), Node(ceph, images, "node-3", "alone")
    spec, second = a_spec(image_id="img-1"), a_spec(image_id="img-1")
    await node.volumes.ensure_volume(spec)
    assert (await other.volumes.get_volume(spec.uuid)).image_id == "img-1"
    assert await node.volumes.storage_id() == await other.volumes.storage_id() != await alone.volumes.storage_id()
    await other.volumes.ensure_volume(second)
    assert len(await node.tool.list_images("nwi-")) == 1
    assert await alone.volumes.find_volume(spec.uuid) is None
    # It may be told to remove what it has not: that is nobody else's.
    await alone.volumes.ensure_volume(spec)
    await alone.volumes.ensure_removed(spec.uuid)
    assert node.read(spec.uuid)[:MIB] == b"\7" * MIB
    # The last one takes the image along, on whatever node: it is not the one that brought it.
    await images.ensure_evicted("img-1")
    await node.volumes.ensure_removed(spec.uuid)
    await other.volumes.ensure_removed(second.uuid)
    assert ceph.rbd("ls", POOL) == ""


async def test_what_is_open_is_neither_removed_nor_opened_twice(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rbd_module, "_FORGET_SECONDS", 1.0)
    spec = a_spec()
    await node.volumes.ensure_volume(spec)
    async with node.writing(spec.uuid, "write -P 9 0 1M"):
        for refused in (node.volumes.ensure_removed(spec.uuid), node.volumes.grow_volume(spec.uuid, 16 * MIB, unseen)):
            with pytest.raises(VolumeInUse, match="open at"):
                await refused
        # A guest that died here may still be known to Ceph: that keeps nobody from its start.
        await node.volumes.refuse_while_others_have(spec.uuid, "6b1e8c1e-7e64-4a7e-9c60-0e2a4a7a7d11")
    node.users = ["ecs-1"]
    with pytest.raises(VolumeInUse, match="ecs-1"):
        await node.volumes.refuse_while_others_have(spec.uuid, "6b1e8c1e-7e64-4a7e-9c60-0e2a4a7a7d11")
    node.users = []
    assert node.read(spec.uuid)[:MIB] == b"\t" * MIB
    assert (await node.volumes.get_volume(spec.uuid)).allocated_bytes >= MIB
    await node.volumes.ensure_removed(spec.uuid)


async def copied(snapshots: RbdSnapshots, spec: VolumeSpec, origin: str, snapshot_id: str = "") -> Volume:
    """The copy, when it is done."""
    steps = [step async for step in snapshots.ensure_copied(spec, origin, snapshot_id)]
    assert isinstance(steps[-1], Volume)
    return steps[-1]


async def test_what_an_image_held_is_kept_copied_and_comes_back(
    node: Node, ceph: OneNodeCeph, images: ImageCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rbd_module, "_FORGET_SECONDS", 1.0)
    snapshots, spec, copy = RbdSnapshots(node.volumes), a_spec(image_id="img-1"), a_spec(size_mib=16)
    await node.volumes.ensure_volume(spec)
    ceph.rbd("snap", "create", f"{POOL}/nw-{spec.uuid}@somebody.f")
    for byte, name in ((1, "ecs.snapshot-1"), (2, "ecs.snapshot-2")):
        async with node.writing(spec.uuid, f"write -P {byte} 4M 1M"):
            with pytest.raises(VolumeInUse):
                await snapshots.take(spec.uuid, name)
        await snapshots.take(spec.uuid, name)
        await snapshots.take(spec.uuid, name)
    await node.volumes.grow_volume(spec.uuid, 16 * MIB, unseen)
    first, second = (b"\7" * MIB + bytes(3 * MIB) + bytes((byte,)) * MIB + bytes(7 * MIB) for byte in (1, 2))
    told = [(it.snapshot_id, it.size_bytes, it.consistency) for it in await snapshots.list(spec.uuid)]
    assert told == [(f"ecs.snapshot-{number}", 12 * MIB, "file-system") for number in (1, 2)]
    assert time.time() - 60 < (await snapshots.get(spec.uuid, "ecs.snapshot-1")).taken_at_seconds < time.time() + 60

    # A copy of what was then is made whoever has the image open, and stands alone.
    async with node.writing(spec.uuid, "write -P 3 4M 1M"):
        cut_off = snapshots.ensure_copied(copy, spec.uuid, "ecs.snapshot-1")
        monkeypatch.setattr(node.tool, "note", None)
        with pytest.raises(TypeError):
            [step async for step in cut_off]
        monkeypatch.undo()
        monkeypatch.setattr(rbd_module, "_FORGET_SECONDS", 1.0)
        assert await node.volumes.find_volume(copy.uuid) is None
        made = await copied(snapshots, copy, spec.uuid, "ecs.snapshot-1")
        assert (made.size_bytes, made.image_id) == (16 * MIB, "img-1")
        assert node.read(copy.uuid) == first + bytes(4 * MIB)
        for refused in (
            copied(snapshots, a_spec(size_mib=16), spec.uuid),
            snapshots.roll_back(spec.uuid, "ecs.snapshot-1"),
        ):
            with pytest.raises(VolumeInUse):
                await refused
    with pytest.raises(RequestInvalid, match="size_bytes"):
        await copied(snapshots, a_spec(size_mib=8), spec.uuid, "ecs.snapshot-1")
    with pytest.raises(SnapshotNotFound):
        await copied(snapshots, a_spec(), spec.uuid, "none")

    # So are images of the coordinator, of a snapshot and of what it holds.
    choice = StorageChoice(a_directory(tmp_path, images), {"essd": node.volumes})
    exports = Exports(
        tmp_path / "exports", choice, VolumeSnapshots(choice), NobodyRuns(), find_image=images.find, reserved_bytes=0
    )
    for name, snapshot_id, content in (("old", "ecs.snapshot-2", second), ("new", "", first[: 4 * MIB] + b"\3" * MIB)):
        *_, last = [it async for it in exports.ensure(ExportOrder(spec.uuid, name, snapshot_id=snapshot_id))]
        assert last.consistency == "file-system"
        raw = tmp_path / "raw"
        qemu_img("convert", "-O", "raw", tmp_path / "exports" / f"{name}.f.qcow2", raw)
        assert raw.read_bytes().startswith(content)
    assert (tmp_path / "exports" / "old.f.qcow2").exists()

    async with node.writing(spec.uuid, "write -P 4 4M 1M"):
        await snapshots.remove(spec.uuid, "ecs.snapshot-2")
    await snapshots.roll_back(spec.uuid, "ecs.snapshot-1")
    assert node.read(spec.uuid) == first + bytes(4 * MIB)
    assert [it.snapshot_id for it in await snapshots.list(spec.uuid)] == ["ecs.snapshot-1"]
    for uuid in (spec.uuid, copy.uuid):
        await node.volumes.ensure_removed(uuid)
    await images.ensure_evicted("img-1")
    await node.volumes.sweep()
    assert ceph.rbd("ls", POOL) == ""


@pytest.mark.parametrize("call", ["clone", "write", "take_snapshot"])
async def test_what_was_cut_off_is_made_by_the_next_call(
    node: Node, ceph: OneNodeCeph, images: ImageCache, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = getattr(node.tool, call)

    async def cut_off(*arguments: object) -> None:
        await done(*arguments)
        raise StorageFailed("injected")

    spec = a_spec(image_id="img-1")
    monkeypatch.setattr(node.tool, call, cut_off)
    with pytest.raises(StorageFailed, match="injected"):
        await node.volumes.ensure_volume(spec)
    monkeypatch.undo()
    assert await node.volumes.find_volume(spec.uuid) is None
    assert (await node.volumes.ensure_volume(spec)).size_bytes == 12 * MIB
    assert node.read(spec.uuid) == b"\7" * MIB + bytes(11 * MIB)
    await images.ensure_evicted("img-1")
    await node.volumes.ensure_removed(spec.uuid)
    assert ceph.rbd("ls", POOL) == ""


async def test_a_cluster_that_is_away_is_told_in_time_and_harms_no_files(
    node: Node, ceph: OneNodeCeph, tmp_path: Path, images: ImageCache
) -> None:
    directory = a_directory(tmp_path, images)
    choice, everything = (
        StorageChoice(directory, {"essd": node.volumes}),
        StorageChoice(directory, {ANY_TYPE: node.volumes}),
    )
    spec, plain = a_spec(), VolumeSpec(str(uuid4()), 8 * MIB, "hdd")
    await choice.ensure_volume(spec)
    await choice.ensure_volume(plain)
    assert (await choice.describe_volume(plain.uuid)).kind == "file"
    assert (await everything.capacity()) == await node.volumes.capacity()
    assert await choice.storage_id() == await directory.storage_id() != await everything.storage_id()
    ceph.kill("osd")
    try:
        began = time.monotonic()
        with pytest.raises(StorageUnavailable, match="has not answered for 20 s"):
            await choice.describe_volume(spec.uuid)
        with pytest.raises(StorageUnavailable):
            await choice.ensure_volume(VolumeSpec(str(uuid4()), 8 * MIB, "hdd"))
        assert time.monotonic() - began < 120
        await choice.prepare()
        assert (await choice.grow_volume(plain.uuid, 16 * MIB, unseen)).size_bytes == 16 * MIB
    finally:
        ceph.start("osd")
    assert (await choice.describe_volume(spec.uuid)).kind == "network"
    await choice.ensure_removed(spec.uuid)
    config = AgentConfig(volume_backends={"a": f"rbd:{POOL}", "b": "rbd:none"}, ceph_config=ceph.config)
    assert [(it.check, it.verdict) for it in await examine_pools(config)] == [
        ("pool guests", "ok"),
        ("pool none", "fail"),
    ]
    # What is wrong with the key or the pool is told, and is no absence.
    lost = Node(ceph, images)
    lost.tool.pool = "none"
    with pytest.raises(StorageFailed, match="none"):
        await lost.volumes.ensure_removed(spec.uuid)
    lost = Node(ceph, images)
    lost.tool.access = replace(lost.tool.access, user="nobody")
    with pytest.raises(StorageFailed):
        await lost.volumes.ensure_removed(spec.uuid)
    with pytest.raises(StorageFailed, match=r"ceph\.client\.nobody\.keyring"):
        await lost.volumes.prepare()
