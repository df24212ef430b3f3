"""Snapshots of images in Ceph: `nw.<snapshot id>.<letter>`, which Ceph keeps with the image.

Of its only one a guest that runs takes them itself, by the librbd in its QEMU, in one transaction with its other disks.
Other nodes that share the pool see the same. Copies are independent of what they were made from: so snapshots and
volumes go in whatever order.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from agent.errors import RequestInvalid
from agent.storage.base import Volume, VolumeSpec
from agent.storage.rbd import RbdBackend
from agent.storage.snapshot import CONSISTENCIES, LETTERS, Consistency, HeldSnapshots, ReadableState, VolumeSnapshot

_NAME: Final = re.compile(r"nw\.(.+)\.([cf])")


class RbdSnapshots(HeldSnapshots):
    """The snapshots of the volumes in one pool, and copies of them."""

    # Monitors number snapshots once a second: one after the other, each takes so long.
    most_by_guest = 1
    is_removed_by_guest = False

    def __init__(self, volumes: RbdBackend) -> None:
        super().__init__(volumes)
        self._pool = volumes
        self._tool = volumes.tool

    def name(self, uuid: str, snapshot_id: str, consistency: Consistency) -> str:
        """See SnapshotStore; the image tells whose it is."""
        return f"nw.{snapshot_id}.{LETTERS[consistency]}"

    async def path_of(self, uuid: str) -> Path:
        """See SnapshotStore."""
        await self._pool.require_volume(uuid)
        return self._pool.path_of(uuid)

    async def list(self, uuid: str) -> list[VolumeSnapshot]:
        """See SnapshotStore; what others have taken of the image is theirs."""
        volume = await self._pool.get_volume(uuid)
        snapshots = await self._tool.list_snapshots(self._pool.name_of(uuid))
        return [
            VolumeSnapshot(
                snapshot_id=found[1],
                volume_uuid=uuid,
                size_bytes=item.size_bytes,
                taken_at_seconds=item.taken_at_seconds,
                consistency=CONSISTENCIES[found[2]],
                allocated_bytes=volume.allocated_bytes,
                name=item.name,
            )
            for item in snapshots
            if (found := _NAME.fullmatch(item.name))
        ]

    @asynccontextmanager
    async def opening(self, found: VolumeSnapshot) -> AsyncGenerator[ReadableState]:
        """See SnapshotStore."""
        yield ReadableState(self._tool.address(self._pool.name_of(found.volume_uuid), found.name), "raw")

    async def create(self, uuid: str, name: str) -> None:
        """See SnapshotStore."""
        await self._tool.take_snapshot(self._pool.name_of(uuid), name)

    async def ensure_copied(
        self, spec: VolumeSpec, origin_uuid: str, snapshot_id: str, target: RbdBackend | None = None
    ) -> AsyncGenerator[int | Volume, None]:
        """The volume exists, a copy of the origin's snapshot or of what it holds while nobody has it open.

        It is in `target`, by default the origin's pool. Yields percentages, then it. Raises VolumeNotFound,
        SnapshotNotFound, VolumeInUse, RequestInvalid (smaller than its origin), StorageExhausted.
        """
        target = target or self._pool
        async with target.lock(spec.uuid):
            if await target.find_volume(spec.uuid) is None:
                with self.reading(origin_uuid, snapshot_id):
                    async with aclosing(self._copy(spec, origin_uuid, snapshot_id, target)) as percents:
                        async for percent in percents:
                            yield percent
            yield await target.get_volume(spec.uuid)

    async def _copy(
        self, spec: VolumeSpec, origin_uuid: str, snapshot_id: str, target: RbdBackend
    ) -> AsyncGenerator[int, None]:
        origin = await self._pool.get_volume(origin_uuid)
        found = await self.get(origin_uuid, snapshot_id) if snapshot_id else None
        if found is None:
            await self._pool.refuse_while_open(origin_uuid)
        least_bytes = found.size_bytes if found else origin.size_bytes
        if spec.size_bytes < least_bytes:
            raise RequestInvalid(f"size_bytes: {spec.size_bytes} is less than the {least_bytes} of its origin")
        source = (self._pool.name_of(origin_uuid), found.name if found else "")
        filling = target.fill_from(replace(spec, image_id=origin.image_id), self._tool, *source)
        async with aclosing(filling) as percents:
            async for percent in percents:
                yield percent

    async def _delete(self, uuid: str, name: str) -> None:
        await self._tool.remove_snapshot(self._pool.name_of(uuid), name)

    async def _rename(self, uuid: str, name: str, new: str) -> None:
        await self._tool.rename_snapshot(self._pool.name_of(uuid), name, new)

    async def _apply(self, found: VolumeSnapshot, size_bytes: int) -> None:
        image = self._pool.name_of(found.volume_uuid)
        await self._tool.roll_back(image, found.name)
        if found.size_bytes < size_bytes:
            await self._tool.resize(image, size_bytes)
