"""Logical volumes: the real LVM on a volume group of its own.

This kernel may have no device mapper, so that LVM keeps its metadata and activates nothing: files of the same size
stand in for the devices. What is written to them is real, by the real qemu-img.
"""

import asyncio
import os
import subprocess
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from agent.devices.wipe import wipe
from agent.errors import (
    CapabilityMissing,
    RequestInvalid,
    SnapshotUnsupported,
    StorageExhausted,
    StorageFailed,
    VolumeInUse,
    VolumeNotFound,
    VolumePresent,
)
from agent.storage import lvm as lvm_module
from agent.storage.base import Volume, VolumeSpec
from agent.storage.choice import StorageChoice
from agent.storage.copying import VolumeCopies
from agent.storage.directory import DirectoryBackend
from agent.storage.exporting import ExportOrder, Exports
from agent.storage.image_cache import ImageCache
from agent.storage.lvm import LvmBackend
from agent.storage.lvm_tool import LogicalVolume, LvmTool
from agent.storage.moving import ReceiveOrder
from agent.storage.snapshots import VolumeSnapshots
from agent.storage.volume_moving import VolumeMoves
from tests.loop_device import LoopDevicesUnavailable, loop_device
from tests.unit.agent.storage_builder import MIB, Source, a_cache, a_ref, fetch, nobody, qemu_img
from tests.unit.agent.test_exporting import NobodyRuns
from tests.unit.agent.transfer_node import UUID, Route, TransferNode

EXTENT = 4 * MIB
USED = b"what somebody else had on the disk"
_CONFIG = """global {{ activation = 0 locking_dir = "{lock}" }}
devices {{ use_devicesfile = 0 filter = [ "a|^{device}$|", "r|.*|" ] obtain_device_list_from_udev = 0
  external_device_info_source = "none" }}
backup {{ backup = 0 archive = 0 }}
"""


class FileTool(LvmTool):
    """LVM, with files that follow its volumes where a kernel would make devices."""

    def __init__(self, group: str, devices: Path) -> None:
        super().__init__(group)
        self._directory = devices / group
        self._directory.mkdir(parents=True)
        # The next call of this name ends with a failure, after it was done.
        self.failing = ""

    async def activate(self, name: str) -> None:
        await super().activate(name)
        [found] = await self.list_volumes(f"lv_name={name}")
        file = self._directory / name
        old = file.stat().st_size if file.exists() else 0
        with file.open("ab") as device:
            device.write((USED * (1 + (found.size_bytes - old) // len(USED)))[: found.size_bytes - old])
        self._fail("activate")

    async def create(self, name: str, size_bytes: int, tags: Sequence[str], pool: str) -> None:
        await super().create(name, size_bytes, tags, pool)
        self._fail("create")

    async def remove(self, name: str) -> None:
        await super().remove(name)
        (self._directory / name).unlink(missing_ok=True)

    async def extend(self, name: str, size_bytes: int) -> None:
        await super().extend(name, size_bytes)
        self._fail("extend")

    def _fail(self, call: str) -> None:
        if self.failing == call:
            self.failing = ""
            raise StorageFailed("injected")


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileTool]:
    """A group of 64 MiB."""
    disk, configuration = tmp_path / "disk", tmp_path / "lvm"
    with disk.open("wb") as file:
        file.truncate(64 * MIB + EXTENT)
    if os.geteuid() or subprocess.run(["which", "lvm", "losetup"], check=False, capture_output=True).returncode:
        pytest.skip("root, LVM and loop devices are needed")
    configuration.mkdir()
    try:
        with loop_device(disk) as device:
            (configuration / "lvm.conf").write_text(_CONFIG.format(lock=tmp_path / "lock", device=device))
            monkeypatch.setenv("LVM_SYSTEM_DIR", str(configuration))
            monkeypatch.setenv("LVM_SUPPRESS_FD_WARNINGS", "1")
            group = f"nwtest-{uuid4().hex[:8]}"
            subprocess.run(["lvm", "vgcreate", "-qq", group, device], check=True, capture_output=True)
            yield FileTool(group, tmp_path / "dev")
    except LoopDevicesUnavailable as error:
        pytest.skip(f"there are no loop devices here: {error}")


@pytest.fixture
async def images(tmp_path: Path) -> ImageCache:
    """A cache with one image of 4 MiB."""
    raw, source = tmp_path / "source.raw", tmp_path / "source.qcow2"
    raw.write_bytes(b"\7" * MIB + bytes(3 * MIB))
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, source], check=True)
    content = source.read_bytes()
    cache = a_cache(tmp_path / "images", Source(img_1=content))
    await fetch(cache, a_ref(content))
    return cache


@pytest.fixture
def volumes(tmp_path: Path, tool: FileTool, images: ImageCache) -> LvmBackend:
    return LvmBackend(tool, pool="", find_image=images.find, find_users=nobody, devices=tmp_path / "dev")


def a_spec(uuid: str = "", *, size_mib: int = 8, image_id: str | None = None) -> VolumeSpec:
    return VolumeSpec(uuid or str(uuid4()), size_mib * MIB, "essd", image_id)


async def read(volumes: LvmBackend, uuid: str) -> bytes:
    source = await volumes.describe_volume(uuid)
    assert (source.format, source.kind) == ("raw", "block")
    return source.path.read_bytes()


async def unseen(_size_bytes: int) -> bool:
    """No guest runs with it."""
    return False


async def test_a_volume_holds_zeros_or_its_image_and_nothing_of_what_was_there_before(volumes: LvmBackend) -> None:
    empty, system = a_spec(size_mib=6), a_spec(image_id="img-1")
    made = await volumes.ensure_volume(empty)
    assert made == Volume(empty.uuid, 8 * MIB, 8 * MIB, "essd", None, backend="lvm")
    assert await volumes.ensure_volume(empty) == made
    assert await read(volumes, empty.uuid) == bytes(8 * MIB)
    assert (await volumes.ensure_volume(system)).image_id == "img-1"
    assert await read(volumes, system.uuid) == b"\7" * MIB + bytes(7 * MIB)
    assert {volume.uuid for volume in await volumes.list_volumes()} == {empty.uuid, system.uuid}
    assert (await volumes.capacity()).free_bytes == (await volumes.capacity()).total_bytes - 16 * MIB
    await volumes.ensure_removed(empty.uuid)
    await volumes.ensure_removed(empty.uuid)
    assert await volumes.find_volume(empty.uuid) is None
    for wrong in (a_spec(system.uuid, size_mib=4, image_id="img-1"), a_spec(system.uuid), a_spec(image_id="img-2")):
        with pytest.raises(Exception, match=r"smaller|was made from|not in the cache"):
            await volumes.ensure_volume(wrong)
    with pytest.raises(StorageExhausted):
        await volumes.ensure_volume(a_spec(size_mib=128))
    with pytest.raises(VolumeNotFound):
        await volumes.describe_volume(empty.uuid)


@pytest.mark.parametrize("failing", ["activate", "extend"])
async def test_what_a_crash_leaves_is_set_right_before_anybody_sees_it(
    volumes: LvmBackend, tool: FileTool, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = a_spec()
    if failing == "extend":
        await volumes.ensure_volume(spec)
    else:  # as if killed: nothing is cleaned up
        monkeypatch.setattr(volumes, "_discard", nobody)
    tool.failing = failing
    with pytest.raises(StorageFailed, match="injected"):
        await volumes.ensure_volume(a_spec(spec.uuid, size_mib=12))
    monkeypatch.undo()
    monkeypatch.setenv("LVM_SYSTEM_DIR", str(tool._directory.parents[1] / "lvm"))
    await volumes.prepare()
    if failing == "activate":
        assert await tool.list_volumes() == []
    else:
        assert await read(volumes, spec.uuid) == bytes(12 * MIB)
    assert (await volumes.ensure_volume(a_spec(spec.uuid, size_mib=12))).size_bytes == 12 * MIB
    assert await read(volumes, spec.uuid) == bytes(12 * MIB)


async def test_a_call_that_is_cut_off_is_gone_on_with(
    volumes: LvmBackend, tool: FileTool, monkeypatch: pytest.MonkeyPatch
) -> None:
    begins: list[int] = []

    async def cut_off(path: Path, begin_bytes: int) -> AsyncGenerator[tuple[int, int]]:
        begins.append(begin_bytes)
        async for done in wipe(path, begin_bytes, chunk_bytes=EXTENT):
            yield done
            if len(begins) < 3 and done[0] == len(begins) * EXTENT:
                raise asyncio.CancelledError

    monkeypatch.setattr(lvm_module, "wipe", cut_off)
    monkeypatch.setattr(lvm_module, "_MARK_BYTES", EXTENT)
    spec = a_spec(size_mib=16, image_id="img-1")
    for _ in range(2):
        with pytest.raises(asyncio.CancelledError):
            await volumes.ensure_volume(spec)
        assert await volumes.list_volumes() == []
    await volumes.ensure_volume(spec)
    assert begins == [0, EXTENT, 2 * EXTENT]
    assert await read(volumes, spec.uuid) == b"\7" * MIB + bytes(15 * MIB)
    [made] = await tool.list_volumes()
    assert made.tags == {"nodewright", "nodewright_type_essd", "nodewright_image_img-1"}


async def test_nobody_gets_what_a_transfer_has_left(
    volumes: LvmBackend, tool: FileTool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = a_spec()
    for content in (b"half of a volume", b"less"):
        # As if LVM had not removed what the transfer before had reserved.
        with monkeypatch.context() as patched:
            patched.setattr(volumes, "_discard", nobody)
            path = await volumes.reserve(spec, 4 * MIB)
        with path.open("r+b") as device:
            device.write(content)
        [reserved] = await tool.list_volumes()
        assert reserved.tags >= {"nodewright_making", "nodewright_reserved", f"nodewright_zero_{4 * MIB}"}
    tool.failing = "create"
    with monkeypatch.context() as patched:
        patched.setattr(volumes, "_discard", nobody)
        with pytest.raises(StorageFailed):
            await volumes.ensure_volume(spec)
    # What a creation is cut off with tells at once that it is not zeros.
    assert [set(left.tags) for left in await tool.list_volumes()] == [
        {"nodewright_making", "nodewright_zero_0", "nodewright_type_essd"}
    ]
    await volumes.ensure_volume(spec)
    assert await read(volumes, spec.uuid) == bytes(8 * MIB)


async def test_a_pool_that_gives_out_what_others_wrote_is_refused(
    tool: FileTool, images: ImageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def list_volumes(*selection: str) -> list[LogicalVolume]:
        return [LogicalVolume("pool", 64 * MIB, frozenset(), 25.0)] if "lv_name=pool" in selection else []

    monkeypatch.setattr(tool, "list_volumes", list_volumes)
    volumes = LvmBackend(tool, pool="pool", find_image=images.find, find_users=nobody)
    with pytest.raises(StorageFailed, match="--zero y"):
        await volumes.ensure_volume(a_spec())


async def test_a_volume_grows_under_its_guest_which_sees_zeros(volumes: LvmBackend, tool: FileTool) -> None:
    spec = a_spec()
    await volumes.ensure_volume(spec)
    seen: list[bytes] = []

    async def resize(size_bytes: int) -> bool:
        seen.append((tool._directory / f"nw-{spec.uuid}").read_bytes())
        return size_bytes == 12 * MIB

    assert (await volumes.grow_volume(spec.uuid, 12 * MIB, resize)).size_bytes == 12 * MIB
    assert seen == [bytes(12 * MIB)]
    with pytest.raises(RequestInvalid):
        await volumes.grow_volume(spec.uuid, 4 * MIB, unseen)
    with pytest.raises(StorageExhausted):
        await volumes.grow_volume(spec.uuid, 1024 * MIB, unseen)


async def test_types_decide_where_new_volumes_go_and_a_group_that_is_away_harms_no_files(
    tmp_path: Path, volumes: LvmBackend, tool: FileTool, images: ImageCache
) -> None:
    directory = DirectoryBackend(
        tmp_path / "volumes", owner="node-1", find_image=images.find, find_users=nobody, reserved_bytes=0
    )
    directory.prepare()
    away = LvmBackend(LvmTool("nwtest-away"), pool="", find_image=images.find, find_users=nobody)
    choice = StorageChoice(directory, {"essd": volumes})
    fast, plain = a_spec(), VolumeSpec(str(uuid4()), 8 * MIB, "hdd")
    await choice.ensure_volume(fast)
    await choice.ensure_volume(plain)
    assert await volumes.find_volume(fast.uuid)
    assert await directory.find_volume(plain.uuid)
    assert (await choice.describe_volume(plain.uuid)).kind == "file"
    assert (await choice.capacity()).total_bytes > (await directory.capacity()).total_bytes
    assert {volume.uuid for volume in await choice.list_volumes()} == {fast.uuid, plain.uuid}
    files, group = await choice.places()
    assert (files.volume_types, group.volume_types) == (("*",), ("essd",))
    assert group.space == await volumes.measure() != files.space
    assert group.space
    assert group.space.free_bytes + group.space.allocated_bytes == group.space.total_bytes
    assert await choice.locate([fast.uuid, str(uuid4())]) == {fast.uuid: group.space.storage_id}
    assert await choice.local_bytes() == 0
    with pytest.raises(CapabilityMissing):
        await choice.ensure_volume(VolumeSpec(str(uuid4()), 8 * MIB, "elasticity"))
    # What is there stays where it is when its type is mapped anew.
    moved = StorageChoice(directory, {"hdd": volumes})
    assert (await moved.ensure_volume(plain)).uuid == plain.uuid
    assert not await volumes.find_volume(plain.uuid)
    lame = StorageChoice(directory, {"essd": volumes, "ssd": away})
    await lame.prepare()
    assert (await lame.grow_volume(plain.uuid, 16 * MIB, unseen)).size_bytes == 16 * MIB
    assert (await lame.capacity()).total_bytes == (await choice.capacity()).total_bytes
    # It may be in there.
    with pytest.raises(StorageFailed, match="nwtest-away"):
        await lame.ensure_volume(VolumeSpec(str(uuid4()), 8 * MIB, "hdd"))
    await lame.ensure_removed(plain.uuid)
    with pytest.raises(StorageFailed, match="nwtest-away"):
        await lame.ensure_removed(fast.uuid)
    await choice.ensure_removed(fast.uuid)
    assert await choice.list_volumes() == []


@pytest.fixture
def choice(tmp_path: Path, volumes: LvmBackend, images: ImageCache) -> StorageChoice:
    """Files beside the group, which has the type `essd`."""
    directory = DirectoryBackend(
        tmp_path / "volumes", owner="node-1", find_image=images.find, find_users=nobody, reserved_bytes=0
    )
    directory.prepare()
    return StorageChoice(directory, {"essd": volumes})


async def test_a_logical_volume_is_copied_where_the_type_of_the_copy_belongs(
    tmp_path: Path, volumes: LvmBackend, tool: FileTool, choice: StorageChoice, images: ImageCache
) -> None:
    files = choice._directory
    copies = VolumeCopies(files, choice, VolumeSnapshots(choice))
    origin, same, plain = a_spec(image_id="img-1"), a_spec(size_mib=12), VolumeSpec(str(uuid4()), 12 * MIB, "hdd")
    await volumes.ensure_volume(origin)
    (await volumes.describe_volume(origin.uuid)).path.open("r+b").write(b"guest's")
    content = await read(volumes, origin.uuid)
    for spec in (same, plain, same):
        steps = [step async for step in copies.ensure(spec, origin.uuid, "")]
        assert isinstance(steps[-1], Volume)
        assert (steps[-1].size_bytes, steps[-1].transfer_id) == (12 * MIB, "")
    assert await read(volumes, same.uuid) == content + bytes(4 * MIB)
    raw = tmp_path / "raw"
    qemu_img("convert", "-O", "raw", (await files.describe_volume(plain.uuid)).path, raw)
    assert raw.read_bytes() == content + bytes(4 * MIB)
    exports = Exports(
        tmp_path / "exports",
        choice,
        VolumeSnapshots(choice),
        NobodyRuns(),
        find_image=images.find,
        reserved_bytes=0,
    )
    async for _ in exports.ensure(ExportOrder(origin.uuid, "img-2")):
        pass
    [copy] = (tmp_path / "exports").glob("img-2.*")
    qemu_img("compare", "-f", "raw", "-F", "qcow2", volumes.path_of(origin.uuid), copy)
    for wrong, snapshot_id, told in ((a_spec(size_mib=4), "", RequestInvalid), (a_spec(), "s", SnapshotUnsupported)):
        with pytest.raises(told):
            [step async for step in copies.ensure(wrong, origin.uuid, snapshot_id)]
    tool.failing = "activate"
    with pytest.raises(StorageFailed, match="injected"):
        [step async for step in copies.ensure(a_spec(), origin.uuid, "")]
    assert {volume.uuid for volume in await choice.list_volumes()} == {origin.uuid, same.uuid, plain.uuid}
    assert len(await tool.list_volumes()) == 2


async def test_a_logical_volume_moves_to_another_node_with_or_without_a_group(
    tmp_path: Path, volumes: LvmBackend, tool: FileTool, choice: StorageChoice, images: ImageCache
) -> None:
    spec = VolumeSpec(UUID, 8 * MIB, "essd", "img-1")
    await volumes.ensure_volume(spec)
    content = await read(volumes, UUID)
    for name in ("node-1", "node-2"):
        (tmp_path / name).mkdir()
    async with (
        TransferNode("node-1", tmp_path / "node-1", b"", everywhere=choice).serving() as source,
        TransferNode("node-2", tmp_path / "node-2", b"").serving() as target,
    ):
        moved = await Route(source, target).move("t-1")
        assert (moved.size_bytes, moved.image_id, moved.volume_type) == (8 * MIB, "", "essd")
        qemu_img("compare", "-f", "raw", "-F", "qcow2", volumes.path_of(UUID), target.volume_path())
        assert target.half_made() == []
    # Back into a group: what the bytes do not reach is zeros.
    await volumes.ensure_removed(UUID)
    moves = VolumeMoves(choice._directory, choice, find_image=images.find)
    order = ReceiveOrder("t-2", replace(spec, image_id=None), 7 * MIB, 7 * MIB, None, "", None, is_raw=True)
    await moves.discard(await moves.reserve(order))
    assert await tool.list_volumes() == []
    device = await moves.reserve(order)
    with device.open("r+b") as file:
        file.write(content[: 7 * MIB])
    assert await moves.find_brought(UUID, "t-2") is None
    assert (await moves.adopt(order, device)).transfer_id == "t-2"
    await moves.discard(device)
    assert await read(volumes, UUID) == content[: 7 * MIB] + bytes(MIB)
    assert (await moves.find_brought(UUID, "t-2")) == await volumes.get_volume(UUID)
    with pytest.raises(VolumePresent):
        await moves.find_brought(UUID, "t-3")


async def test_a_volume_in_use_stays(tmp_path: Path, tool: FileTool, images: ImageCache) -> None:
    async def users(_path: Path) -> list[str]:
        return ["ecs-1"]

    volumes = LvmBackend(tool, pool="", find_image=images.find, find_users=users, devices=tmp_path / "dev")
    spec = a_spec()
    await volumes.ensure_volume(spec)
    with pytest.raises(VolumeInUse, match="ecs-1"):
        await volumes.ensure_removed(spec.uuid)


async def test_a_group_for_elastic_local_disks_is_counted_by_itself(
    tmp_path: Path, volumes: LvmBackend, images: ImageCache
) -> None:
    directory = DirectoryBackend(
        tmp_path / "volumes", owner="node-1", find_image=images.find, find_users=nobody, reserved_bytes=0
    )
    directory.prepare()
    choice = StorageChoice(directory, {"elasticity": volumes})
    assert (await choice.capacity()).total_bytes == (await directory.capacity()).total_bytes
    all_bytes = await choice.local_bytes()
    assert all_bytes == (await volumes.capacity()).free_bytes > 0
    await choice.ensure_volume(VolumeSpec(str(uuid4()), 8 * MIB, "elasticity"))
    assert await choice.local_bytes() == all_bytes > (await volumes.capacity()).free_bytes
    away = LvmBackend(LvmTool("nwtest-away"), pool="", find_image=images.find, find_users=nobody)
    assert await StorageChoice(directory, {"elasticity": away}).local_bytes() == 0
