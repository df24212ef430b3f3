"""Snapshots in the files of volumes: real qcow2 files, changed by the real qemu-img."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from agent.domain_lock import DomainLocks
from agent.errors import (
    RequestInvalid,
    SnapshotNotFound,
    StorageFailed,
    VolumeInUse,
    VolumeNotFound,
)
from agent.snapshot import Snapshots
from agent.storage.base import Volume, VolumeSpec
from agent.storage.choice import StorageChoice
from agent.storage.directory import DirectoryBackend
from agent.storage.image_cache import ImageCache
from agent.storage.image_format import DiskSnapshot, read_qcow2_snapshots
from agent.storage.snapshot import check_snapshot_id, list_partial
from agent.storage.snapshot_file import SnapshotFiles
from agent.storage.snapshots import VolumeSnapshots
from tests.unit.agent.storage_builder import MIB, Source, a_cache, a_qcow2, a_ref, fetch, files_of, holding, nobody

ONE, TWO, THREE = "ecs.snapshot-1", "ecs.snapshot-2", "ecs.snapshot-3"


@pytest.fixture
async def images(tmp_path: Path) -> ImageCache:
    """A cache with one image of 4 MiB, its first full of 9s."""
    source = tmp_path / "source.qcow2"
    a_qcow2(source)
    write(source, 9)
    content = source.read_bytes()
    cache = a_cache(tmp_path / "images", Source(img_1=content))
    await fetch(cache, a_ref(content))
    return cache


@pytest.fixture
def volumes(tmp_path: Path, images: ImageCache) -> DirectoryBackend:
    backend = DirectoryBackend(
        tmp_path / "volumes", owner="node-1", find_image=images.find, find_users=nobody, reserved_bytes=0
    )
    backend.prepare()
    return backend


@pytest.fixture
def snapshots(volumes: DirectoryBackend) -> SnapshotFiles:
    return SnapshotFiles(volumes)


def write(path: Path, byte: int, mib: int = 0) -> None:
    """One MiB is full of this byte."""
    run_io(path, f"write -P {byte} {mib}M 1M")


def holds(path: Path, byte: int, mib: int = 0) -> bool:
    """Whether it is."""
    return "Pattern verification failed" not in run_io(path, f"read -P {byte} {mib}M 1M")


def run_io(path: Path, command: str) -> str:
    program = ["qemu-io", "-f", "qcow2", "-c", command, str(path)]
    return subprocess.run(program, check=False, capture_output=True, text=True).stdout


async def a_volume(volumes: DirectoryBackend, *, image: str | None = "img-1", size_mib: int = 8) -> tuple[str, Path]:
    uuid = str(uuid4())
    await volumes.ensure_volume(VolumeSpec(uuid, size_mib * MIB, "ssd", image))
    return uuid, (await volumes.describe_volume(uuid)).path


async def copy(snapshots: SnapshotFiles, origin: str, snapshot_id: str = "", size_mib: int = 8) -> tuple[str, Volume]:
    """A copy, and what was told of it last."""
    uuid = str(uuid4())
    told = [
        step async for step in snapshots.ensure_copied(VolumeSpec(uuid, size_mib * MIB, "ssd"), origin, snapshot_id)
    ]
    assert isinstance(told[-1], Volume)
    assert all(isinstance(step, int) and 0 <= step <= 100 for step in told[:-1])
    return uuid, told[-1]


async def test_what_a_volume_held_comes_back_whatever_became_of_other_snapshots(
    snapshots: SnapshotFiles, volumes: DirectoryBackend
) -> None:
    uuid, path = await a_volume(volumes)
    for byte, snapshot_id in enumerate((ONE, TWO, THREE), start=1):
        write(path, byte)
        await snapshots.take(uuid, snapshot_id)
        await snapshots.take(uuid, snapshot_id)
    write(path, 4)

    await snapshots.remove(uuid, TWO)
    await snapshots.remove(uuid, TWO)

    assert [item.snapshot_id for item in await snapshots.list(uuid)] == [ONE, THREE]
    assert {item.consistency for item in await snapshots.list(uuid)} == {"file-system"}
    assert holds(path, 4)
    await snapshots.roll_back(uuid, ONE)
    assert holds(path, 1)
    await snapshots.roll_back(uuid, THREE)
    assert holds(path, 3)
    await snapshots.roll_back(uuid, ONE)
    await snapshots.remove(uuid, ONE)
    await snapshots.remove(uuid, THREE)
    assert holds(path, 1)
    assert subprocess.run(["qemu-img", "check", "-q", str(path)], check=False).returncode == 0
    # As before: one file, on its image.
    volume = await volumes.get_volume(uuid)
    assert (volume.image_id, volume.size_bytes) == ("img-1", 8 * MIB)


async def test_a_volume_that_has_grown_keeps_its_size_when_it_goes_back(
    snapshots: SnapshotFiles, volumes: DirectoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid, path = await a_volume(volumes)
    write(path, 1)
    await snapshots.take(uuid, ONE)
    await volumes.ensure_volume(VolumeSpec(uuid, 16 * MIB, "ssd", "img-1"))
    await snapshots.take(uuid, TWO)

    async def die(_path: Path, _size_bytes: int, *, key: Path | None = None) -> None:
        raise StorageFailed("the power is gone")

    with monkeypatch.context() as patch:
        patch.setattr("agent.storage.qemu_img.grow", die)
        with pytest.raises(StorageFailed):
            await snapshots.roll_back(uuid, ONE)
    assert (await volumes.get_volume(uuid)).size_bytes == 8 * MIB
    await snapshots.roll_back(uuid, ONE)

    assert (await volumes.get_volume(uuid)).size_bytes == 16 * MIB
    assert [item.size_bytes for item in await snapshots.list(uuid)] == [8 * MIB, 16 * MIB]
    assert holds(path, 1)


@pytest.mark.parametrize("image", ["img-1", None])
async def test_a_copy_holds_what_its_origin_held_and_stands_alone(
    snapshots: SnapshotFiles, volumes: DirectoryBackend, image: str | None
) -> None:
    uuid, path = await a_volume(volumes, image=image)
    write(path, 1, mib=2)
    await snapshots.take(uuid, ONE)
    write(path, 2, mib=2)
    await volumes.ensure_volume(VolumeSpec(uuid, 16 * MIB, "ssd", image))

    old, told = await copy(snapshots, uuid, ONE, size_mib=12)
    async with holding(path):
        while_used, _ = await copy(snapshots, uuid, ONE)
        with pytest.raises(VolumeInUse):
            await copy(snapshots, uuid, size_mib=16)
    new, _ = await copy(snapshots, uuid, size_mib=16)
    await volumes.ensure_removed(uuid)

    assert (told.size_bytes, told.image_id, told.volume_type) == (12 * MIB, image, "ssd")
    for copied, byte in ((old, 1), (while_used, 1), (new, 2)):
        file = (await volumes.describe_volume(copied)).path
        assert holds(file, byte, mib=2)
        assert holds(file, 9 if image else 0)
        assert await snapshots.list(copied) == []
    # What the image holds is not copied.
    assert told.allocated_bytes < 2 * MIB


async def test_a_copy_that_is_given_up_leaves_nothing_and_keeps_its_snapshot_meanwhile(
    snapshots: SnapshotFiles, volumes: DirectoryBackend, tmp_path: Path
) -> None:
    uuid, path = await a_volume(volumes)
    write(path, 1)
    await snapshots.take(uuid, ONE)
    before = files_of(tmp_path / "volumes")

    copying = snapshots.ensure_copied(VolumeSpec(str(uuid4()), 8 * MIB, "ssd"), uuid, ONE)
    await anext(copying)
    with pytest.raises(VolumeInUse):
        await snapshots.remove(uuid, ONE)
    await copying.aclose()

    assert files_of(tmp_path / "volumes") == before
    with snapshots.leaving(uuid, ONE), pytest.raises(VolumeInUse, match="being removed"):
        await copy(snapshots, uuid, ONE)
    await snapshots.remove(uuid, ONE)


async def test_what_cannot_be_done_is_told(snapshots: SnapshotFiles, volumes: DirectoryBackend) -> None:
    uuid, path = await a_volume(volumes)
    await snapshots.take(uuid, ONE)
    async with holding(path):
        for attempt in (snapshots.take(uuid, TWO), snapshots.remove(uuid, ONE), snapshots.roll_back(uuid, ONE)):
            with pytest.raises(VolumeInUse):
                await attempt
    with pytest.raises(SnapshotNotFound):
        await snapshots.roll_back(uuid, TWO)
    with pytest.raises(SnapshotNotFound):
        await copy(snapshots, uuid, TWO)
    with pytest.raises(RequestInvalid, match="size_bytes"):
        await copy(snapshots, uuid, ONE, size_mib=4)
    with pytest.raises(VolumeNotFound):
        await snapshots.take(str(uuid4()), ONE)
    partial = [await snapshots.find(uuid, ONE), None]
    assert [item.snapshot_id for item in list_partial(partial)] == [ONE]
    assert list_partial(partial[:1]) == []


@pytest.mark.parametrize("snapshot_id", ["", "a/b", "-a", "a,b", "a" * 65, "é"])
def test_ids_go_into_names_of_qemu(snapshot_id: str) -> None:
    with pytest.raises(RequestInvalid, match="snapshot_id"):
        check_snapshot_id(snapshot_id)


async def test_a_broken_table_is_an_error_and_no_endless_list(
    snapshots: SnapshotFiles, volumes: DirectoryBackend
) -> None:
    uuid, path = await a_volume(volumes)
    await snapshots.take(uuid, ONE)
    [found] = read_qcow2_snapshots(path)
    assert found == DiskSnapshot(f"{ONE}/f", 8 * MIB, found.taken_at_seconds, found.table_offset, 1)

    def break_at(offset: int, content: bytes) -> Callable[[], None]:
        def run() -> None:
            with path.open("r+b") as file:
                file.seek(offset)
                file.write(content)

        return run

    for change in (break_at(60, b"\x00\x00\x00\x09"), break_at(60, b"\xff\xff\xff\xff")):
        change()
        with pytest.raises(StorageFailed):
            await snapshots.list(uuid)


async def test_disks_of_a_guest_that_hibernates_are_not_rolled_back_not_even_the_others(
    snapshots: SnapshotFiles, volumes: DirectoryBackend
) -> None:
    (free, free_path), (slept, slept_path) = await a_volume(volumes), await a_volume(volumes)
    for uuid, path in ((free, free_path), (slept, slept_path)):
        await snapshots.take(uuid, ONE)
        write(path, 2)
    sleepers = {slept_path: "ecs-1"}

    async def find_sleeper(path: Path) -> str:
        return sleepers.get(path, "")

    no_guest_runs: Any = None
    stores = VolumeSnapshots(StorageChoice(volumes, {}))
    whole = Snapshots(stores, no_guest_runs, no_guest_runs, no_guest_runs, DomainLocks(), find_sleeper)
    with pytest.raises(VolumeInUse, match=f"{slept}: domain ecs-1 hibernates with it"):
        await whole.roll_back(ONE, [free, slept])
    assert holds(free_path, 2)
    assert holds(slept_path, 2)
    sleepers.clear()
    await whole.roll_back(ONE, [free, slept])
    assert holds(free_path, 9)
    assert holds(slept_path, 9)
