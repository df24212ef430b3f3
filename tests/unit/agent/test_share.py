"""A directory of volumes on a share: not mounted, silent, and back again. The silent one is a real FUSE file system."""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from agent.errors import StorageFailed
from agent.storage.base import StorageSpace, VolumeSpec
from agent.storage.choice import StorageChoice
from agent.storage.directory import DirectoryBackend
from agent.storage.share import Share, read_mount_points
from agent.storage.space import SpaceMeter
from tests.lab.waiting import wait_until
from tests.stopwatch import Stopwatch
from tests.unit.agent.storage_builder import MIB, nobody

PATIENCE_SECONDS = 1.0


def a_backend(directory: Path, share: Share) -> DirectoryBackend:
    async def no_image(_image_id: str) -> None:
        return None

    return DirectoryBackend(
        directory, owner="node-1", find_image=no_image, find_users=nobody, reserved_bytes=0, share=share
    )


def a_spec() -> VolumeSpec:
    return VolumeSpec(str(uuid4()), MIB, "hdd", shared=True)


async def test_nothing_is_written_below_a_share_that_is_not_mounted(tmp_path: Path) -> None:
    directory, mounts = tmp_path / "the volumes", tmp_path / "mountinfo"
    directory.mkdir()
    mounts.write_text("1 0 0:1 / / rw - ext4 /dev/vda rw\n")
    backend = a_backend(directory, Share(directory, mount_point=directory, mounts=mounts))
    backend.prepare()
    storage = StorageChoice(backend, {})
    for call in (backend.ensure_volume(a_spec()), backend.list_volumes(), backend.ensure_removed(str(uuid4()))):
        with pytest.raises(StorageFailed, match="nothing is mounted"):
            await call
    assert (await storage.capacity()).total_bytes == 0
    assert (await storage.storage_id(), list(directory.iterdir())) == ("", [])
    escaped = str(directory).replace(" ", "\\040")
    mounts.write_text(f"{mounts.read_text()}2 1 0:9 / {escaped} rw - nfs4 server:/volumes rw\n")
    assert directory in read_mount_points(mounts)
    made = await backend.ensure_volume(a_spec())
    assert [volume.uuid for volume in await storage.list_volumes()] == [made.uuid]
    assert ((await storage.capacity()).total_bytes > 0, bool(await storage.storage_id())) == (True, True)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A directory behind a process, and that process: while it is stopped the kernel waits for it, as for NFS."""
    if shutil.which("bindfs") is None or os.geteuid() != 0:
        pytest.skip("needs root and bindfs")
    mount, source = tmp_path / "share", tmp_path / "source"
    for path in (mount, source):
        path.mkdir()
    process = subprocess.Popen(["bindfs", "-f", source, mount], stderr=subprocess.PIPE)
    try:
        wait_until(lambda: process.poll() is not None or mount in read_mount_points(Path("/proc/self/mountinfo")), "up")
        if process.poll() is not None:
            pytest.skip("no FUSE here")
        yield mount, process.pid
    finally:
        process.send_signal(signal.SIGCONT)
        subprocess.run(["umount", "--lazy", mount], check=False)
        process.kill()
        process.wait()


async def test_a_share_that_does_not_answer_keeps_nobody_else_waiting(server: tuple[Path, int]) -> None:
    directory, pid = server
    backend = a_backend(directory, Share(directory, mount_point=directory, patience_seconds=PATIENCE_SECONDS))
    backend.prepare()
    made, storage = await backend.ensure_volume(a_spec()), StorageChoice(backend, {})
    storage_id = await storage.storage_id()
    os.kill(pid, signal.SIGSTOP)
    with Stopwatch() as watch:
        failures = await asyncio.gather(*(backend.find_volume(made.uuid) for _ in range(40)), return_exceptions=True)
        assert all(isinstance(failure, StorageFailed) for failure in failures)
        # Nor does what was being made when it fell silent.
        await backend.discard(backend.reserve(made.uuid))
        # What the node is told by stays, but it offers no room.
        assert ((await storage.capacity()).total_bytes, await storage.storage_id()) == (0, storage_id)
        # The threads that everything else shares are free.
        await asyncio.gather(*(asyncio.to_thread(os.getpid) for _ in range(40)))
    assert watch.seconds < 20 * PATIENCE_SECONDS
    os.kill(pid, signal.SIGCONT)

    async def is_back() -> bool:
        try:
            return await backend.find_volume(made.uuid) == made
        except StorageFailed:
            return False

    for _ in range(100):
        if await is_back():
            break
        await asyncio.sleep(0.1)
    assert await is_back()
    await backend.ensure_removed(made.uuid)


class _Silent:
    """A place that answers when the test says so."""

    def __init__(self) -> None:
        self.answers, self.free_bytes, self.asked = asyncio.Event(), 60, 0

    async def measure(self) -> StorageSpace:
        self.asked += 1
        await self.answers.wait()
        return StorageSpace("pool", "place", 100, self.free_bytes, 10, 20)


async def test_space_is_told_as_it_was_while_a_place_is_silent() -> None:
    place, now = _Silent(), 0.0
    meter = SpaceMeter(place, ["hdd"], patience_seconds=0.05, monotonic=lambda: now)
    unknown = await meter.read()
    assert (unknown.space, unknown.silent_since is None) == (None, False)
    place.answers.set()
    known = await meter.read()
    assert (known.volume_types, known.silent_since, known.space) == (("hdd",), None, await place.measure())
    place.answers.clear()
    now += 30
    silent = await meter.read()
    assert (silent.space, silent.silent_since is None) == (known.space, False)
    # However often it is asked for: one measurement waits, and nobody waits for that again.
    now += 30
    asked = place.asked
    with Stopwatch() as watch:
        assert [await meter.read() for _ in range(20)] == [silent] * 20
    assert (watch.seconds < 1, place.asked) == (True, asked)
    place.free_bytes = 50
    place.answers.set()
    back = await meter.read()
    assert (back.space and back.space.free_bytes, back.silent_since) == (50, None)
