"""Images reach the cache whole and verified, or not at all."""

import asyncio
import errno
import os
import time
from contextlib import aclosing, suppress
from pathlib import Path

import pytest

from agent.errors import (
    ImageCorrupt,
    ImageFormatMismatch,
    ImageInUse,
    ImageNotFound,
    ImageSourceUnavailable,
    StorageExhausted,
)
from agent.storage import image_cache, image_transfer
from tests.unit.agent.storage_builder import MIB, Source, a_cache, a_qcow2, a_ref, fetch


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    """An image of some chunks."""
    return a_qcow2(tmp_path / "source.qcow2")


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_transfer, "_FIRST_RETRY_SECONDS", 0.001)


async def test_an_image_is_fetched_once_and_found_again_after_a_restart(tmp_path: Path, content: bytes) -> None:
    source = Source(img_1=content)
    told = await fetch(a_cache(tmp_path / "images", source), a_ref(content))
    assert told == sorted(told)
    again = a_cache(tmp_path / "images", source)
    assert await fetch(again, a_ref(content)) == [len(content)]
    assert source.offsets == [0]
    found = await again.find("img-1")
    assert found is not None
    assert (found.path.read_bytes(), found.virtual_size_bytes, found.disk_format) == (content, 4 * MIB, "qcow2")
    assert [image.ref for image in await again.list_images()] == [a_ref(content)]


async def test_a_broken_transfer_goes_on_where_it_ended(tmp_path: Path, content: bytes) -> None:
    source = Source(img_1=content)
    source.breaks = [64 * 1024, 64 * 1024]
    await fetch(a_cache(tmp_path, source), a_ref(content))
    assert source.offsets == [0, 64 * 1024, 128 * 1024]


async def test_what_was_fetched_survives_a_restart(tmp_path: Path, content: bytes) -> None:
    source = Source(img_1=content)
    source.breaks = [64 * 1024, 0, 0, 0, 0]
    with pytest.raises(ImageSourceUnavailable):
        await fetch(a_cache(tmp_path, source), a_ref(content))
    source.breaks, source.offsets = [], []
    cache = a_cache(tmp_path, source)
    await fetch(cache, a_ref(content))
    assert source.offsets == [64 * 1024]
    assert await cache.find("img-1")


async def test_several_callers_share_one_transfer(tmp_path: Path, content: bytes) -> None:
    source = Source(img_1=content)
    cache = a_cache(tmp_path, source)
    await asyncio.gather(*(fetch(cache, a_ref(content)) for _ in range(5)))
    assert source.offsets == [0]


async def test_a_transfer_goes_on_until_the_last_caller_leaves(tmp_path: Path, content: bytes) -> None:
    gate = asyncio.Event()
    source = Source(img_1=content)

    async def slowly(image_id: str, offset_bytes: int):  # type: ignore[no-untyped-def]
        async for chunk in source.read(image_id, offset_bytes):
            yield chunk
            await gate.wait()

    cache = a_cache(tmp_path, source, read_image=slowly)
    first, second = (cache.ensure_cached(a_ref(content)) for _ in range(2))
    await anext(first)
    await anext(second)
    await first.aclose()
    gate.set()
    async for _ in second:
        pass
    assert await cache.find("img-1")

    gate.clear()
    await cache.ensure_evicted("img-1")
    async with aclosing(cache.ensure_cached(a_ref(content))) as abandoned:
        await anext(abandoned)
    gate.set()
    await asyncio.sleep(0.05)
    assert await cache.find("img-1") is None
    assert len(source.offsets) <= 2


async def test_other_bytes_are_refused_and_nothing_is_kept(tmp_path: Path, content: bytes) -> None:
    cache = a_cache(tmp_path, Source(img_1=content[:-1] + b"x"))
    with pytest.raises(ImageCorrupt):
        await fetch(cache, a_ref(content))
    assert list(tmp_path.glob("img-1*")) == []


async def test_a_source_that_does_not_end_is_cut_off(tmp_path: Path, content: bytes) -> None:
    cache = a_cache(tmp_path, Source(img_1=content + bytes(10 * MIB)))
    with pytest.raises(ImageCorrupt, match="longer"):
        await fetch(cache, a_ref(content))
    assert list(tmp_path.glob("img-1*")) == []


async def test_content_of_another_format_is_refused_and_nothing_is_kept(tmp_path: Path) -> None:
    cache = a_cache(tmp_path, Source(img_1=bytes(MIB)))
    with pytest.raises(ImageFormatMismatch):
        await fetch(cache, a_ref(bytes(MIB)))
    assert list(tmp_path.glob("img-1*")) == []


async def test_an_image_that_the_coordinator_lacks_is_not_asked_for_twice(tmp_path: Path, content: bytes) -> None:
    source = Source()
    with pytest.raises(ImageNotFound):
        await fetch(a_cache(tmp_path, source), a_ref(content))
    assert source.offsets == [0]


async def test_too_little_space_is_told_before_the_transfer(tmp_path: Path, content: bytes) -> None:
    source = Source(img_1=content)
    cache = a_cache(tmp_path, source, reserved_bytes=2**60)
    with pytest.raises(StorageExhausted, match=f"wanted {len(content)} bytes, available 0"):
        await fetch(cache, a_ref(content))
    assert source.offsets == []


async def test_one_id_never_stands_for_two_contents(tmp_path: Path, content: bytes) -> None:
    other = a_qcow2(tmp_path / "other.qcow2", 8 * MIB)
    source, users = Source(img_1=content), ["volume"]

    async def find_users(_image_id: str) -> list[str]:
        return users

    cache = a_cache(tmp_path / "images", source, find_users=find_users)
    await fetch(cache, a_ref(content))
    source.images["img-1"] = other
    with pytest.raises(ImageInUse):
        await fetch(cache, a_ref(other))
    users.clear()
    await fetch(cache, a_ref(other))
    found = await cache.find("img-1")
    assert found is not None
    assert found.path.read_bytes() == other


async def test_an_image_goes_when_no_volume_is_backed_by_it(tmp_path: Path, content: bytes) -> None:
    cache = a_cache(tmp_path, Source(img_1=content))
    await fetch(cache, a_ref(content))
    await cache.ensure_evicted("img-1")
    await cache.ensure_evicted("img-1")
    assert list(tmp_path.glob("img-1*")) == []


async def test_a_start_removes_what_a_crash_left_but_not_what_can_go_on(tmp_path: Path, content: bytes) -> None:
    cache = a_cache(tmp_path, Source(img_1=content))
    await fetch(cache, a_ref(content))
    (tmp_path / ".new-12345678-img-2.json").write_text("{")
    (tmp_path / "img-3.qcow2").write_bytes(content)
    (tmp_path / "img-4.0123456789abcdef.part").write_bytes(content)
    cache.prepare()
    assert sorted(path.name for path in tmp_path.glob("*img-*")) == [
        "img-1.json",
        "img-1.qcow2",
        "img-4.0123456789abcdef.part",
    ]


_PART = "img-1.*.part"
_LONG_AGO = time.time() - 2 * 24 * 3600


def _grow_old(path: Path) -> None:
    os.utime(path, (_LONG_AGO, _LONG_AGO))


def _fail(number: int) -> None:
    raise OSError(number, os.strerror(number))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
async def test_a_transfer_that_fills_the_disk_gives_the_space_back(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    write = image_transfer._write

    def write_a_little(file, digest, chunk) -> None:  # type: ignore[no-untyped-def]
        write(file, digest, chunk[:1024])
        _fail(number)

    cache = a_cache(tmp_path / "images", Source(img_1=content))
    with monkeypatch.context() as patch:
        patch.setattr(image_transfer, "_write", write_a_little)
        with pytest.raises(StorageExhausted, match=f"wanted {len(content)} bytes"):
            await fetch(cache, a_ref(content))
    assert list((tmp_path / "images").iterdir()) == []
    await fetch(cache, a_ref(content))
    assert await cache.find("img-1")


async def test_another_failure_of_the_disk_keeps_what_was_fetched(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_transfer, "_write", lambda *_: _fail(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        await fetch(a_cache(tmp_path, Source(img_1=content)), a_ref(content))
    assert len(list(tmp_path.glob(_PART))) == 1


async def test_half_an_image_that_has_no_room_for_the_rest_goes(tmp_path: Path, content: bytes) -> None:
    source = Source(img_1=content)
    source.breaks = [64 * 1024, 0, 0, 0, 0]
    with pytest.raises(ImageSourceUnavailable):
        await fetch(a_cache(tmp_path, source), a_ref(content))
    assert list(tmp_path.glob(_PART))
    with pytest.raises(StorageExhausted):
        await fetch(a_cache(tmp_path, source, reserved_bytes=2**60), a_ref(content))
    assert list(tmp_path.glob("img-1*")) == []


async def test_an_image_whose_description_has_no_room_goes(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_cache, "write_file", lambda *_: _fail(errno.ENOSPC))
    with pytest.raises(StorageExhausted):
        await fetch(a_cache(tmp_path, Source(img_1=content)), a_ref(content))
    assert list(tmp_path.glob("img-1*")) == []


async def test_transfers_that_nobody_resumes_go_while_the_agent_runs(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = a_cache(tmp_path / "images", Source(img_1=content))
    await fetch(cache, a_ref(content))
    old, young = (tmp_path / "images" / f"img-{number}.0123456789abcdef.part" for number in (2, 3))
    for path in (old, young):
        path.write_bytes(content)
    _grow_old(old)
    monkeypatch.setattr(image_cache, "_SWEEP_SECONDS", 0.01)
    sweeping = asyncio.create_task(cache.run())
    async with asyncio.timeout(60):
        while len(list((tmp_path / "images").iterdir())) != 3:
            await asyncio.sleep(0.01)
    sweeping.cancel()
    with suppress(asyncio.CancelledError):
        await sweeping
    assert not old.exists()
    assert young.exists()
    assert await cache.find("img-1")


async def test_a_transfer_that_is_resumed_after_a_long_time_is_not_swept_away(tmp_path: Path, content: bytes) -> None:
    source = Source(img_1=content)
    source.breaks = [64 * 1024, 0, 0, 0, 0]
    with pytest.raises(ImageSourceUnavailable):
        await fetch(a_cache(tmp_path, source), a_ref(content))
    (part,) = tmp_path.glob(_PART)
    gate, source.breaks, source.offsets = asyncio.Event(), [], []

    async def later(image_id: str, offset_bytes: int):  # type: ignore[no-untyped-def]
        await gate.wait()
        async for chunk in source.read(image_id, offset_bytes):
            yield chunk

    cache = a_cache(tmp_path, source, read_image=later)
    _grow_old(part)
    resumed = asyncio.create_task(fetch(cache, a_ref(content)))
    await asyncio.sleep(0.01)
    _grow_old(part)
    await cache.sweep()
    gate.set()
    await resumed
    assert source.offsets == [64 * 1024]
    assert await cache.find("img-1")


async def test_what_nobody_has_needed_for_long_is_evicted(tmp_path: Path, content: bytes) -> None:
    needed = {"img-2": ["ecs-web"]}

    async def find_users(image_id: str) -> list[str]:
        return needed.get(image_id, [])

    source = Source(img_1=content, img_2=content, img_3=content)
    cache = a_cache(tmp_path, source, find_users=find_users, unused_life_seconds=3600)
    for image_id in ("img-1", "img-2", "img-3"):
        await fetch(cache, a_ref(content, image_id=image_id))
    await cache.evict_unused()
    assert len(await cache.list_images()) == 3
    long_ago = time.time() - 3601
    for image_id in ("img-1", "img-2", "img-3"):
        os.utime(tmp_path / f"{image_id}.json", (long_ago, long_ago))
    # Who asks for it needs it, though it was there.
    await fetch(cache, a_ref(content, image_id="img-3"))
    await cache.evict_unused()
    assert [image.ref.image_id for image in await cache.list_images()] == ["img-2", "img-3"]
    assert list(tmp_path.glob("img-1*")) == []
    with pytest.raises(ImageInUse):
        await cache.ensure_evicted("img-2")


async def test_what_is_asked_for_while_others_are_evicted_stays(tmp_path: Path, content: bytes) -> None:
    asked: list[int] = []

    async def find_users(_image_id: str) -> list[str]:
        if not asked:  # the first is on its way out
            asked.extend(await fetch(cache, a_ref(content, image_id="img-2")))
        return []

    source = Source(img_1=content, img_2=content)
    cache = a_cache(tmp_path, source, find_users=find_users, unused_life_seconds=3600)
    for age_seconds, image_id in ((5000, "img-1"), (4000, "img-2")):
        await fetch(cache, a_ref(content, image_id=image_id))
        long_ago = time.time() - age_seconds
        os.utime(tmp_path / f"{image_id}.json", (long_ago, long_ago))
    await cache.evict_unused()
    assert asked == [len(content)]
    assert [image.ref.image_id for image in await cache.list_images()] == ["img-2"]


async def test_room_is_made_by_what_nobody_needs(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source(img_1=content, img_2=content, img_3=content)
    cache = a_cache(tmp_path, source)
    for age_seconds, image_id in ((5000, "img-1"), (4000, "img-2")):
        await fetch(cache, a_ref(content, image_id=image_id))
        asked_at = time.time() - age_seconds
        os.utime(tmp_path / f"{image_id}.json", (asked_at, asked_at))
    real = os.statvfs(tmp_path)

    class Full:
        f_frsize = 1
        f_blocks = real.f_blocks

        @property
        def f_bavail(self) -> int:
            """As if there were room for two images."""
            return max(0, 2 * len(content) - sum(path.stat().st_size for path in tmp_path.glob("*.qcow2")))

    monkeypatch.setattr(os, "statvfs", lambda _path: Full())
    await fetch(cache, a_ref(content, image_id="img-3"))
    assert [image.ref.image_id for image in await cache.list_images()] == ["img-2", "img-3"]
