"""Snapshots in the files of volumes: qcow2 keeps states of a disk beside the present one, in the same file.

So a volume stays one file with one name, whatever snapshots it has; they go with it wherever it goes, and nothing can
disagree about what there is. A state's name is the snapshot's id and a letter for what it was like. What is done here
is done to files that nobody has open; `agent.hypervisor.snapshot` does the same in guests that run.

Source: docs/interop/qcow2.txt of QEMU; https://www.qemu.org/docs/master/tools/qemu-img.html.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import structlog

from agent.errors import RequestInvalid, SnapshotNotFound, SnapshotUnsupported, StorageFailed, VolumeInUse
from agent.storage import qemu_img
from agent.storage.base import StorageBackend, Volume, VolumeSpec
from agent.storage.directory import DirectoryBackend
from agent.storage.image_format import DiskSnapshot, read_qcow2_snapshots

if TYPE_CHECKING:
    from collections.abc import Iterator

Consistency = Literal["crash", "file-system"]

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# In names of what has such a state: snapshots, copies.
LETTERS: Final[dict[Consistency, str]] = {"crash": "c", "file-system": "f"}
CONSISTENCIES: Final = {letter: consistency for consistency, letter in LETTERS.items()}

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class VolumeSnapshot:
    """A state of a volume that its file keeps."""

    snapshot_id: str
    volume_uuid: str
    size_bytes: int
    # Seconds since 1970.
    taken_at_seconds: int
    consistency: Consistency
    # Of the volume, with all of its snapshots.
    allocated_bytes: int
    # As QEMU knows it.
    name: str


def check_snapshot_id(snapshot_id: str) -> None:
    """Raises RequestInvalid for what is no id."""
    if not _ID.fullmatch(snapshot_id):
        raise RequestInvalid("snapshot_id: letters, digits, '.', '_' and '-', at most 64")


def name_snapshot(snapshot_id: str, consistency: Consistency) -> str:
    """What QEMU calls it."""
    return f"{snapshot_id}/{LETTERS[consistency]}"


class SnapshotFiles:
    """The snapshots of the volumes in a directory, and copies of them."""

    def __init__(self, volumes: DirectoryBackend, everywhere: StorageBackend | None = None) -> None:
        """`everywhere` knows the volumes of the node's other backends, too."""
        self._volumes = volumes
        self._everywhere = everywhere or volumes
        # Snapshots that are being copied from, which must stay, and those that are on their way out.
        self._read: Counter[tuple[str, str]] = Counter()
        self._leaving: Counter[tuple[str, str]] = Counter()

    async def path_of(self, uuid: str) -> Path:
        """The volume's file. Raises VolumeNotFound, SnapshotUnsupported."""
        await self._get(uuid)
        return (await self._volumes.describe_volume(uuid)).path

    async def list(self, uuid: str) -> list[VolumeSnapshot]:
        """All of a volume, the oldest first. Raises VolumeNotFound, SnapshotUnsupported, StorageFailed."""
        volume = await self._get(uuid)
        path = await self.path_of(uuid)
        try:
            found = await asyncio.to_thread(read_qcow2_snapshots, path)
        except (OSError, ValueError) as error:
            raise StorageFailed(f"volume {uuid}: {error}") from error
        return [_describe(volume, item) for item in found if item.name[-2:-1] == "/"]

    async def find(self, uuid: str, snapshot_id: str) -> VolumeSnapshot | None:
        """One of them, None when there is no such."""
        return next((item for item in await self.list(uuid) if item.snapshot_id == snapshot_id), None)

    async def get(self, uuid: str, snapshot_id: str) -> VolumeSnapshot:
        """The same. Raises SnapshotNotFound."""
        found = await self.find(uuid, snapshot_id)
        if found is None:
            raise SnapshotNotFound(f"volume {uuid} has no snapshot {snapshot_id}")
        return found

    async def take(self, uuid: str, snapshot_id: str) -> None:
        """The volume, which nobody has open, has the snapshot. Raises VolumeInUse, StorageExhausted."""
        async with self._volumes.lock(uuid):
            path = await self.path_of(uuid)
            await self._volumes.refuse_while_open(uuid)
            if await self.find(uuid, snapshot_id) is None:
                await qemu_img.take_snapshot(path, name_snapshot(snapshot_id, "file-system"))

    async def remove(self, uuid: str, snapshot_id: str) -> None:
        """The volume, which nobody has open, does not have the snapshot. Raises VolumeInUse."""
        with self.leaving(uuid, snapshot_id):
            async with self._volumes.lock(uuid):
                found = await self.find(uuid, snapshot_id)
                if found is None:
                    return
                await self._volumes.refuse_while_open(uuid)
                await qemu_img.delete_snapshot(await self.path_of(uuid), found.name)

    async def roll_back(self, uuid: str, snapshot_id: str) -> None:
        """The volume, which nobody has open, holds what it held then. Raises SnapshotNotFound, VolumeInUse."""
        async with self._volumes.lock(uuid):
            found, path = await self.get(uuid, snapshot_id), await self.path_of(uuid)
            await self._volumes.refuse_while_open(uuid)
            # Volumes never shrink: a call that is repeated finds what they had in the snapshots that were taken since.
            present = await self._volumes.get_volume(uuid)
            size_bytes = max(present.size_bytes, *(item.size_bytes for item in await self.list(uuid)))
            await qemu_img.apply_snapshot(path, found.name)
            if found.size_bytes < size_bytes:
                await qemu_img.grow(path, size_bytes)

    @contextmanager
    def leaving(self, uuid: str, snapshot_id: str) -> Iterator[None]:
        """No copy is made from the snapshot meanwhile. Raises VolumeInUse when one is being made."""
        if self._read[uuid, snapshot_id]:
            raise VolumeInUse(f"volume {uuid}: a copy is being made from snapshot {snapshot_id}")
        with _counted(self._leaving, (uuid, snapshot_id)):
            yield

    async def ensure_copied(
        self, spec: VolumeSpec, origin_uuid: str, snapshot_id: str
    ) -> AsyncGenerator[int | Volume, None]:
        """The volume exists, a copy of the origin's snapshot or of what it holds now; yields percentages, then it.

        `spec` names no image: it is the origin's. Raises VolumeNotFound, SnapshotNotFound, VolumeInUse,
        RequestInvalid (smaller than its origin), StorageExhausted, ImageNotFound.
        """
        async with self._volumes.lock(spec.uuid):
            present = await self._volumes.find_volume(spec.uuid)
            if present is None:
                with self.reading(origin_uuid, snapshot_id):
                    async with aclosing(self._copy(spec, origin_uuid, snapshot_id)) as percents:
                        async for percent in percents:
                            yield percent
            yield await self._volumes.get_volume(spec.uuid)

    async def _copy(self, spec: VolumeSpec, origin_uuid: str, snapshot_id: str) -> AsyncGenerator[int, None]:
        origin, path = await self._get(origin_uuid), await self.path_of(origin_uuid)
        found = await self.get(origin_uuid, snapshot_id) if snapshot_id else None
        if found is None:
            await self._volumes.refuse_while_open(origin_uuid, for_writing=True)
        least_bytes = found.size_bytes if found else origin.size_bytes
        if spec.size_bytes < least_bytes:
            raise RequestInvalid(f"size_bytes: {spec.size_bytes} is less than the {least_bytes} of its origin")
        image = await self._volumes.require_image(replace(spec, image_id=origin.image_id))
        await self._volumes.require_space(origin.allocated_bytes)
        temporary = self._volumes.reserve(spec.uuid)
        backing = (image.path, image.disk_format) if image else None
        name, size_bytes = found.name if found else "", spec.size_bytes
        try:
            copying = qemu_img.copy(path, temporary, snapshot=name, size_bytes=size_bytes, backing=backing)
            # Who stops listening knows that nobody reads the origin any more.
            async with aclosing(copying) as percents:
                async for percent in percents:
                    yield percent
            # A snapshot comes with the size that its volume has now.
            await qemu_img.set_size(temporary, least_bytes)
            await qemu_img.grow(temporary, size_bytes)
            await self._volumes.publish(temporary, replace(spec, image_id=origin.image_id), image)
        finally:
            await self._volumes.discard(temporary)

    async def _get(self, uuid: str) -> Volume:
        if found := await self._volumes.find_volume(uuid):
            if found.shared:
                raise SnapshotUnsupported(f"volume {uuid} is shared by guests, of which no one moment can be kept")
            return found
        await self._everywhere.describe_volume(uuid)
        raise SnapshotUnsupported(f"volume {uuid} is no file: no snapshots are taken of it yet")

    @contextmanager
    def reading(self, uuid: str, snapshot_id: str) -> Iterator[None]:
        """The snapshot is not removed meanwhile; empty: none is meant. Raises VolumeInUse when it is being removed."""
        if self._leaving[uuid, snapshot_id]:
            raise VolumeInUse(f"volume {uuid}: snapshot {snapshot_id} is being removed")
        with _counted(self._read, (uuid, snapshot_id)):
            yield


@contextmanager
def _counted(counts: Counter[tuple[str, str]], key: tuple[str, str]) -> Iterator[None]:
    counts[key] += 1
    try:
        yield
    finally:
        counts[key] -= 1
        if not counts[key]:
            del counts[key]


def _describe(volume: Volume, found: DiskSnapshot) -> VolumeSnapshot:
    snapshot_id, _, letter = found.name.rpartition("/")
    return VolumeSnapshot(
        snapshot_id=snapshot_id,
        volume_uuid=volume.uuid,
        size_bytes=found.size_bytes,
        taken_at_seconds=found.taken_at_seconds,
        consistency=CONSISTENCIES.get(letter, "crash"),
        allocated_bytes=volume.allocated_bytes,
        name=found.name,
    )


def list_partial(snapshots: Sequence[VolumeSnapshot | None]) -> list[VolumeSnapshot]:
    """Those that an interrupted call has left: some, but not all, of the volumes have them."""
    found = [item for item in snapshots if item is not None]
    return found if len(found) < len(snapshots) else []
