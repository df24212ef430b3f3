"""A file system that is really full while something is done to volumes: it is told, and nothing is lost or left."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from agent.errors import StorageExhausted
from agent.storage.base import VolumeSpec
from agent.storage.directory import DirectoryBackend
from agent.storage.snapshot_file import SnapshotFiles
from tests.unit.agent.storage_builder import MIB, nobody, qemu_img

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")

_ROOM_BYTES = 16 * MIB


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_ROOM_BYTES}", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.fixture
def volumes(disk: Path, monkeypatch: pytest.MonkeyPatch) -> DirectoryBackend:
    """In that file system, of which they only learn that it is full when they write to it."""
    backend = DirectoryBackend(
        disk / "volumes", owner="node-1", find_image=_no_image, find_users=nobody, reserved_bytes=0
    )
    backend.prepare()

    async def trust(_wanted_bytes: int) -> None:
        """There was room when it was looked at."""

    monkeypatch.setattr(backend, "require_space", trust)
    return backend


async def _no_image(_image_id: str) -> None:
    return None


class Ballast:
    """What somebody else has written there."""

    def __init__(self, disk: Path) -> None:
        self._file = disk / "ballast"

    def fill(self, left_bytes: int = 0) -> None:
        """So much is left."""
        self._file.write_bytes(b"")
        status = os.statvfs(self._file)
        self._file.write_bytes(b"\1" * (status.f_bavail * status.f_frsize - left_bytes))

    def drop(self) -> None:
        self._file.unlink()


def write(path: Path, text: str) -> None:
    """4 MiB, as a guest does."""
    command = ("qemu-io", "-f", "qcow2", "-c", f"write -P {ord(text)} 0 4M", str(path))
    subprocess.run(command, check=True, capture_output=True)


def first_byte(path: Path, target: Path) -> str:
    qemu_img("convert", "-f", "qcow2", "-O", "raw", str(path), str(target))
    with target.open("rb") as file:
        return chr(file.read(1)[0])


Act = Callable[[DirectoryBackend, str], Awaitable[Any]]


async def _create(volumes: DirectoryBackend, _uuid: str) -> None:
    await volumes.ensure_volume(VolumeSpec(str(uuid4()), 8 * MIB, "ssd"))


async def _copy(volumes: DirectoryBackend, uuid: str) -> None:
    spec = VolumeSpec(str(uuid4()), 8 * MIB, "ssd")
    [step async for step in SnapshotFiles(volumes).ensure_copied(spec, uuid, "")]


async def _take(volumes: DirectoryBackend, uuid: str) -> None:
    await SnapshotFiles(volumes).take(uuid, "late")


async def _grow(volumes: DirectoryBackend, uuid: str) -> None:
    # A disk that large has a larger table.
    await volumes.grow_volume(uuid, 1024**4, _nobody_runs)


async def _nobody_runs(_size_bytes: int) -> bool:
    return False


@pytest.mark.parametrize(
    ("act", "left_bytes"), [(_create, 0), (_copy, MIB), (_take, 0), (_grow, 0)], ids=["create", "copy", "take", "grow"]
)
async def test_what_cannot_be_done_leaves_everything_as_it_was(
    tmp_path: Path, disk: Path, volumes: DirectoryBackend, act: Act, left_bytes: int
) -> None:
    spec = VolumeSpec(str(uuid4()), 8 * MIB, "ssd")
    await volumes.ensure_volume(spec)
    path = (await volumes.describe_volume(spec.uuid)).path
    write(path, "A")
    before, ballast = sorted(it.name for it in path.parent.iterdir()), Ballast(disk)
    ballast.fill(left_bytes)
    with pytest.raises(StorageExhausted):
        await act(volumes, spec.uuid)
    assert sorted(it.name for it in path.parent.iterdir()) == before
    qemu_img("check", "-f", "qcow2", str(path))
    assert first_byte(path, tmp_path / "plain") == "A"
    assert await SnapshotFiles(volumes).list(spec.uuid) == []
    ballast.drop()
    await act(volumes, spec.uuid)
    assert first_byte(path, tmp_path / "plain") == "A"


async def test_a_state_comes_back_and_goes_on_a_disk_that_is_full(
    tmp_path: Path, disk: Path, volumes: DirectoryBackend
) -> None:
    """Both free what they take."""
    snapshots, spec, ballast = SnapshotFiles(volumes), VolumeSpec(str(uuid4()), 8 * MIB, "ssd"), Ballast(disk)
    await volumes.ensure_volume(spec)
    path = (await volumes.describe_volume(spec.uuid)).path
    write(path, "A")
    await snapshots.take(spec.uuid, "one")
    write(path, "B")
    ballast.fill()
    await snapshots.roll_back(spec.uuid, "one")
    qemu_img("check", "-f", "qcow2", str(path))
    assert first_byte(path, tmp_path / "plain") == "A"
    await snapshots.remove(spec.uuid, "one")
    qemu_img("check", "-f", "qcow2", str(path))
    assert first_byte(path, tmp_path / "plain") == "A"
