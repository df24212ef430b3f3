"""Images reach the cache whole and verified, or not at all."""

import asyncio
from contextlib import aclosing
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
from agent.storage import image_transfer
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
