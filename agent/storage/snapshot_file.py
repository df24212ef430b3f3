"""Snapshots in the files of volumes: qcow2 keeps states of a disk beside the present one, in the same file.

So a volume stays one file with one name, whatever snapshots it has; they go with it wherever it goes, and nothing can
disagree about what there is. A state's name is the snapshot's id and a letter for what it was like. What is done here
is done to files that nobody has open; `agent.hypervisor.snapshot` does the same in guests that run.

Source: docs/interop/qcow2.txt of QEMU; https://www.qemu.org/docs/master/tools/qemu-img.html.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from agent.errors import RequestInvalid, StorageFailed
from agent.storage import qemu_img
from agent.storage.base import Volume, VolumeSpec, refuse_encrypted
from agent.storage.directory import DirectoryBackend
from agent.storage.image_format import DiskSnapshot, read_qcow2_snapshots
from agent.storage.snapshot import (
    CONSISTENCIES,
    LETTERS,
    Consistency,
    ReadableState,
    SnapshotStore,
    VolumeSnapshot,
    refuse_shared,
)


class SnapshotFiles(SnapshotStore):
    """The snapshots of the volumes in a directory, and copies of them."""

    most_by_guest = sys.maxsize
    is_removed_by_guest = True

    def __init__(self, volumes: DirectoryBackend) -> None:
        super().__init__(volumes)
        self._directory = volumes

    def name(self, uuid: str, snapshot_id: str, consistency: Consistency) -> str:
        """See SnapshotStore; the file tells whose it is."""
        return f"{snapshot_id}/{LETTERS[consistency]}"

    async def path_of(self, uuid: str) -> Path:
        """See SnapshotStore."""
        await self._get(uuid)
        return (await self._directory.describe_volume(uuid)).path

    async def list(self, uuid: str) -> list[VolumeSnapshot]:
        """See SnapshotStore."""
        volume = await self._get(uuid)
        path = await self.path_of(uuid)
        try:
            found = await asyncio.to_thread(read_qcow2_snapshots, path)
        except (OSError, ValueError) as error:
            raise StorageFailed(f"volume {uuid}: {error}") from error
        return [_describe(volume, item) for item in found if item.name[-2:-1] == "/"]

    @asynccontextmanager
    async def opening(self, found: VolumeSnapshot) -> AsyncGenerator[ReadableState]:
        """See SnapshotStore."""
        refuse_encrypted(await self._get(found.volume_uuid))
        yield ReadableState(str(await self.path_of(found.volume_uuid)), "qcow2", found.name)

    async def create(self, uuid: str, name: str) -> None:
        """See SnapshotStore; nobody has the file open."""
        await qemu_img.take_snapshot(await self.path_of(uuid), name, key=await self._find_key(uuid))

    async def _delete(self, uuid: str, name: str) -> None:
        await qemu_img.delete_snapshot(await self.path_of(uuid), name, key=await self._find_key(uuid))

    async def _apply(self, found: VolumeSnapshot, size_bytes: int) -> None:
        path, key = await self.path_of(found.volume_uuid), await self._find_key(found.volume_uuid)
        await qemu_img.apply_snapshot(path, found.name, key=key)
        if found.size_bytes < size_bytes:
            await qemu_img.grow(path, size_bytes, key=key)

    async def ensure_copied(
        self, spec: VolumeSpec, origin_uuid: str, snapshot_id: str
    ) -> AsyncGenerator[int | Volume, None]:
        """The volume exists, a copy of the origin's snapshot or of what it holds now; yields percentages, then it.

        `spec` names no image: it is the origin's. Raises VolumeNotFound, SnapshotNotFound, VolumeInUse,
        RequestInvalid (smaller than its origin), StorageExhausted, ImageNotFound.
        """
        async with self._directory.lock(spec.uuid):
            present = await self._directory.find_volume(spec.uuid)
            if present is None:
                with self.reading(origin_uuid, snapshot_id):
                    async with aclosing(self._copy(spec, origin_uuid, snapshot_id)) as percents:
                        async for percent in percents:
                            yield percent
            yield await self._directory.get_volume(spec.uuid)

    async def _copy(self, spec: VolumeSpec, origin_uuid: str, snapshot_id: str) -> AsyncGenerator[int, None]:
        origin, path = await self._get(origin_uuid), await self.path_of(origin_uuid)
        refuse_encrypted(origin)
        found = await self.get(origin_uuid, snapshot_id) if snapshot_id else None
        if found is None:
            await self._directory.refuse_while_open(origin_uuid, for_writing=True)
        least_bytes = found.size_bytes if found else origin.size_bytes
        if spec.size_bytes < least_bytes:
            raise RequestInvalid(f"size_bytes: {spec.size_bytes} is less than the {least_bytes} of its origin")
        image = await self._directory.require_image(replace(spec, image_id=origin.image_id))
        await self._directory.require_space(origin.allocated_bytes)
        temporary = self._directory.reserve(spec.uuid)
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
            await self._directory.publish(temporary, replace(spec, image_id=origin.image_id), image)
        finally:
            await self._directory.discard(temporary)

    async def _find_key(self, uuid: str) -> Path | None:
        return await self._directory.find_key(await self._get(uuid))

    async def _get(self, uuid: str) -> Volume:
        found = await self._directory.get_volume(uuid)
        if found.shared:
            raise refuse_shared(uuid)
        return found


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
