"""Volumes in a directory: real qcow2 files, made by the real qemu-img."""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from agent.errors import (
    CapabilityMissing,
    ImageNotFound,
    RequestInvalid,
    SnapshotUnsupported,
    StorageExhausted,
    StorageFailed,
    VolumeInUse,
    VolumeNotFound,
)
from agent.storage import directory as directory_module
from agent.storage import qemu_img as qemu_img_module
from agent.storage.base import Volume, VolumeSpec
from agent.storage.directory import DirectoryBackend
from agent.storage.image_cache import ImageCache
from agent.storage.share import Share
from agent.storage.shared import ensure_storage_id
from agent.storage.snapshot_file import SnapshotFiles
from tests.unit.agent.storage_builder import (
    MIB,
    Source,
    a_cache,
    a_qcow2,
    a_ref,
    fetch,
    files_of,
    holding,
    nobody,
    qemu_img,
)


@pytest.fixture
async def images(tmp_path: Path) -> ImageCache:
    """A cache with one image of 4 MiB."""
    content = a_qcow2(tmp_path / "source.qcow2")
    cache = a_cache(tmp_path / "images", Source(img_1=content))
    await fetch(cache, a_ref(content))
    return cache


def a_backend(tmp_path: Path, images: ImageCache, **changes: object) -> DirectoryBackend:
    values: dict[str, object] = {
        "owner": "node-1",
        "find_image": images.find,
        "find_users": nobody,
        "reserved_bytes": 0,
    }
    backend = DirectoryBackend(tmp_path / "volumes", **(values | changes))  # type: ignore[arg-type]
    backend.prepare()
    return backend


def a_spec(**changes: object) -> VolumeSpec:
    values: dict[str, object] = {"uuid": str(uuid4()), "size_bytes": 8 * MIB, "volume_type": "ssd", "image_id": "img-1"}
    return VolumeSpec(**(values | changes))  # type: ignore[arg-type]


async def test_a_volume_is_an_overlay_on_its_image(tmp_path: Path, images: ImageCache) -> None:
    backend, spec = a_backend(tmp_path, images), a_spec()
    volume = await backend.ensure_volume(spec)
    assert (volume.size_bytes, volume.volume_type, volume.image_id) == (8 * MIB, "ssd", "img-1")
    source = await backend.describe_volume(spec.uuid)
    info = json.loads(qemu_img("info", "--output=json", source.path))
    assert (source.format, info["format"], info["virtual-size"]) == ("qcow2", "qcow2", 8 * MIB)
    assert info["full-backing-filename"] == str(tmp_path / "images/img-1.qcow2")
    qemu_img("check", "-q", source.path)


async def test_a_volume_without_an_image_is_empty(tmp_path: Path, images: ImageCache) -> None:
    backend = a_backend(tmp_path, images)
    volume = await backend.ensure_volume(a_spec(image_id=None, size_bytes=1000))
    assert (volume.size_bytes, volume.image_id) == (1024, None)
    assert await backend.ensure_volume(a_spec(image_id=None, size_bytes=1000, uuid=volume.uuid)) == volume


async def test_ensuring_again_keeps_the_data(tmp_path: Path, images: ImageCache) -> None:
    backend, spec = a_backend(tmp_path, images), a_spec()
    await backend.ensure_volume(spec)
    path = (await backend.describe_volume(spec.uuid)).path
    inode = path.stat().st_ino
    volumes = await asyncio.gather(*(backend.ensure_volume(spec) for _ in range(4)))
    assert path.stat().st_ino == inode
    assert await backend.list_volumes() == [volumes[0]]


async def test_callers_at_the_same_time_make_one_volume(tmp_path: Path, images: ImageCache) -> None:
    backend, spec = a_backend(tmp_path, images), a_spec()
    made: list[Volume] = await asyncio.gather(*(backend.ensure_volume(spec) for _ in range(4)))
    assert len(set(made)) == 1
    assert len(files_of(tmp_path / "volumes")) == 2


async def test_a_volume_grows_and_never_shrinks(tmp_path: Path, images: ImageCache) -> None:
    backend, spec = a_backend(tmp_path, images), a_spec()
    await backend.ensure_volume(spec)
    assert (await backend.ensure_volume(a_spec(uuid=spec.uuid, size_bytes=16 * MIB))).size_bytes == 16 * MIB
    with pytest.raises(RequestInvalid, match="size_bytes"):
        await backend.ensure_volume(spec)


async def test_a_volume_has_room_for_its_image(tmp_path: Path, images: ImageCache) -> None:
    with pytest.raises(RequestInvalid, match=r"size_bytes.*img-1"):
        await a_backend(tmp_path, images).ensure_volume(a_spec(size_bytes=MIB))


async def test_an_image_must_be_cached_first(tmp_path: Path, images: ImageCache) -> None:
    with pytest.raises(ImageNotFound):
        await a_backend(tmp_path, images).ensure_volume(a_spec(image_id="img-2"))


async def test_an_image_that_was_evicted_meanwhile_leaves_no_volume(tmp_path: Path, images: ImageCache) -> None:
    answers = [await images.find("img-1"), None]

    async def find_image(_image_id: str) -> object:
        return answers.pop(0)

    backend = a_backend(tmp_path, images, find_image=find_image)
    with pytest.raises(ImageNotFound, match="evicted"):
        await backend.ensure_volume(a_spec())
    assert files_of(tmp_path / "volumes") == []


async def test_too_little_space_is_told_in_numbers(tmp_path: Path, images: ImageCache) -> None:
    backend = a_backend(tmp_path, images)
    with pytest.raises(StorageExhausted, match=rf"wanted {2**60} bytes, available \d+"):
        await backend.ensure_volume(a_spec(size_bytes=2**60))
    assert await backend.list_volumes() == []


async def test_a_used_volume_is_neither_removed_nor_grown(tmp_path: Path, images: ImageCache) -> None:
    users: list[str] = []

    async def find_users(_path: Path) -> list[str]:
        return users

    backend, spec = a_backend(tmp_path, images, find_users=find_users), a_spec()
    await backend.ensure_volume(spec)
    users.append("ecs-1")
    with pytest.raises(VolumeInUse, match="ecs-1"):
        await backend.ensure_removed(spec.uuid)
    with pytest.raises(VolumeInUse):
        await backend.ensure_volume(a_spec(uuid=spec.uuid, size_bytes=16 * MIB))
    assert await backend.list_volumes()


async def test_a_volume_that_qemu_has_open_on_any_host_is_neither_removed_nor_grown(
    tmp_path: Path, images: ImageCache
) -> None:
    """Another node's guest is none of this libvirt's domains: QEMU's locks on the file tell."""
    backend, spec = a_backend(tmp_path, images), a_spec()
    await backend.ensure_volume(spec)
    async with holding((await backend.describe_volume(spec.uuid)).path):
        with pytest.raises(VolumeInUse, match="open in QEMU"):
            await backend.ensure_removed(spec.uuid)
        with pytest.raises(VolumeInUse):
            await backend.ensure_volume(a_spec(uuid=spec.uuid, size_bytes=16 * MIB))
    await backend.ensure_removed(spec.uuid)


async def test_two_nodes_on_one_directory_make_one_volume(tmp_path: Path, images: ImageCache) -> None:
    nodes = [a_backend(tmp_path, images, owner=f"node-{index}") for index in range(3)]
    spec = a_spec()
    made = await asyncio.gather(*(node.ensure_volume(spec) for node in nodes for _ in range(2)))
    assert len(set(made)) == 1
    assert len(files_of(tmp_path / "volumes")) == 2
    await asyncio.gather(*(node.ensure_removed(spec.uuid) for node in nodes))
    assert files_of(tmp_path / "volumes") == []


async def test_a_volume_that_another_node_made_meanwhile_is_kept_where_locks_do_not_reach(
    tmp_path: Path, images: ImageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [a_backend(tmp_path, images, owner=f"node-{index}") for index in range(2)]
    spec, create = a_spec(), qemu_img_module.create_overlay

    async def create_late(*arguments: object, key: Path | None = None) -> None:
        monkeypatch.setattr(qemu_img_module, "create_overlay", create)
        await nodes[1].ensure_volume(spec)
        await create(*arguments)  # type: ignore[arg-type]

    @contextlib.asynccontextmanager
    async def unlocked(_directory: Path, _name: str, _share: Share) -> AsyncIterator[None]:
        yield

    monkeypatch.setattr(directory_module, "locked", unlocked)
    monkeypatch.setattr(qemu_img_module, "create_overlay", create_late)
    await nodes[0].ensure_volume(spec)
    path = (await nodes[0].describe_volume(spec.uuid)).path
    assert path.stat().st_nlink == 1
    assert len(files_of(tmp_path / "volumes")) == 2
    assert {volume.uuid for volume in await nodes[1].list_volumes()} == {spec.uuid}


async def test_a_node_that_starts_leaves_unfinished_files_of_others_alone(tmp_path: Path, images: ImageCache) -> None:
    backend = a_backend(tmp_path, images)
    mine, others, stale = (
        tmp_path / f"volumes/.new-{name}-{uuid4()}.qcow2"
        for name in ("node-1.00000000", "node-2.00000000", "node-3.00000000")
    )
    for path in (mine, others, stale):
        path.touch()
    os.utime(stale, (0, 0))
    backend.prepare()
    assert [path.exists() for path in (mine, others, stale)] == [False, True, False]


async def test_nodes_that_share_a_directory_tell_the_same_storage(tmp_path: Path, images: ImageCache) -> None:
    nodes = [a_backend(tmp_path, images, owner=f"node-{index}") for index in range(2)]
    told = {await node.storage_id() for node in nodes}
    assert len(told) == 1
    elsewhere = a_backend(tmp_path / "elsewhere", images)
    assert await elsewhere.storage_id() not in told


def test_one_of_several_identities_that_are_made_at_once_counts(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        for index in range(20):
            (directory := tmp_path / str(index)).mkdir()
            told = set(pool.map(lambda owner, at=directory: ensure_storage_id(at, f"node-{owner}"), range(16)))
            assert len(told) == 1
            assert [path.name for path in directory.iterdir()] == [".storage-id"]


def test_a_storage_whose_identity_is_damaged_is_told(tmp_path: Path) -> None:
    (tmp_path / ".storage-id").write_text("half")
    with pytest.raises(StorageFailed, match="storage-id"):
        ensure_storage_id(tmp_path, "node-1")


async def test_removal_leaves_nothing_and_may_be_repeated(tmp_path: Path, images: ImageCache) -> None:
    backend, spec = a_backend(tmp_path, images), a_spec()
    await backend.ensure_volume(spec)
    await backend.ensure_removed(spec.uuid)
    await backend.ensure_removed(spec.uuid)
    assert files_of(tmp_path / "volumes") == []
    with pytest.raises(VolumeNotFound):
        await backend.describe_volume(spec.uuid)


async def test_a_half_made_volume_is_made_anew(tmp_path: Path, images: ImageCache) -> None:
    """A crash may leave the temporary file and the description, but no file with the volume's name."""
    backend, spec = a_backend(tmp_path, images), a_spec()
    (tmp_path / f"volumes/.new-00000000-{spec.uuid}.qcow2").write_bytes(b"half")
    (tmp_path / f"volumes/{spec.uuid}.json").write_text('{"volumeType": "hdd"}')
    assert await backend.list_volumes() == []
    backend.prepare()
    volume = await backend.ensure_volume(spec)
    assert (volume.size_bytes, volume.volume_type) == (8 * MIB, "ssd")
    assert len(files_of(tmp_path / "volumes")) == 2


async def test_a_failure_of_qemu_img_leaves_nothing(
    tmp_path: Path, images: ImageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = a_backend(tmp_path, images)
    monkeypatch.setattr(qemu_img_module, "_LIMITS", ("false",))
    with pytest.raises(StorageFailed, match="qemu-img create: exit status 1"):
        await backend.ensure_volume(a_spec())
    monkeypatch.setattr(qemu_img_module, "_LIMITS", ("sleep", "60", ";"))
    monkeypatch.setattr(qemu_img_module, "_TIMEOUT_SECONDS", 0.05)
    with pytest.raises(StorageFailed):
        await backend.ensure_volume(a_spec())
    assert files_of(tmp_path / "volumes") == []


async def test_images_know_the_volumes_that_they_back(tmp_path: Path, images: ImageCache) -> None:
    backend, spec = a_backend(tmp_path, images), a_spec()
    await backend.ensure_volume(spec)
    await backend.ensure_volume(a_spec(image_id=None))
    assert await backend.volumes_backed_by("img-1") == [spec.uuid]


async def test_an_overlay_costs_no_time_worth_mentioning(tmp_path: Path, images: ImageCache) -> None:
    """60 ms were set as the goal; the best of five, as the machine may be busy with something else."""
    backend = a_backend(tmp_path, images)
    seconds = []
    for _ in range(5):
        began = time.monotonic()
        await backend.ensure_volume(a_spec())
        seconds.append(time.monotonic() - began)
    assert min(seconds) < 0.06


async def test_a_shared_volume_is_raw_and_grows_under_whoever_has_it(tmp_path: Path, images: ImageCache) -> None:
    async def find_users(_path: Path) -> list[str]:
        return ["ecs-one", "ecs-two"]

    backend, spec = a_backend(tmp_path, images, find_users=find_users), a_spec(image_id=None, shared=True)
    made = await backend.ensure_volume(spec)
    assert (made.shared, made.size_bytes, made.allocated_bytes) == (True, 8 * MIB, 0)
    source = await backend.describe_volume(spec.uuid)
    assert (source.path.suffix, source.format, source.shared) == (".raw", "raw", True)
    assert [volume.uuid for volume in await backend.list_volumes()] == [spec.uuid]
    told = []

    async def resize(size_bytes: int) -> bool:
        told.append(size_bytes)
        return True

    for _ in range(2):
        # The second guest is told, too.
        assert (await backend.grow_volume(spec.uuid, 16 * MIB, resize)).size_bytes == 16 * MIB
    assert told == [16 * MIB, 16 * MIB]
    with pytest.raises(RequestInvalid, match="shared"):
        await backend.ensure_volume(a_spec(uuid=spec.uuid, image_id=None, size_bytes=16 * MIB))
    with pytest.raises(VolumeInUse):
        await backend.ensure_removed(spec.uuid)
    with pytest.raises(SnapshotUnsupported, match="shared"):
        await SnapshotFiles(backend).path_of(spec.uuid)
    own = a_backend(tmp_path, images)
    await own.ensure_removed(spec.uuid)
    assert await own.find_volume(spec.uuid) is None


async def test_no_volume_is_shared_where_files_go_through_the_page_cache(
    tmp_path: Path, images: ImageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory_module, "supports_direct_io", lambda _: False)
    with pytest.raises(CapabilityMissing, match="page cache"):
        await a_backend(tmp_path, images).ensure_volume(a_spec(image_id=None, shared=True))
