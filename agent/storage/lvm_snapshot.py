"""Snapshots of thin logical volumes: thin volumes themselves, `nws-<volume>.<snapshot id>.<letter>`.

LVM makes one in one commit of its metadata, and the kernel holds the volume's writes for that moment. What is kept of
several volumes of a guest that runs is of one moment because the guest is held meanwhile. Volumes outside of a thin
pool have none: each write would be made twice, and a snapshot whose space is used up is lost.

Source: lvmthin(7).
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from agent.errors import SnapshotUnsupported
from agent.storage.lvm import LvmBackend
from agent.storage.lvm_tool import LogicalVolume
from agent.storage.snapshot import (
    CONSISTENCIES,
    LETTERS,
    Consistency,
    HeldSnapshots,
    ReadableState,
    VolumeSnapshot,
    refuse_shared,
)

_NAME: Final = re.compile(r"nws-(.{36})\.(.+)\.([cf])")


class LvmSnapshots(HeldSnapshots):
    """The snapshots of the volumes in one group."""

    most_by_guest = 0
    is_removed_by_guest = False

    def __init__(self, volumes: LvmBackend) -> None:
        super().__init__(volumes)
        self._group = volumes

    def name(self, uuid: str, snapshot_id: str, consistency: Consistency) -> str:
        """See SnapshotStore."""
        return f"nws-{uuid}.{snapshot_id}.{LETTERS[consistency]}"

    async def path_of(self, uuid: str) -> Path:
        """See SnapshotStore."""
        await self._require(uuid)
        return self._group.path_of(uuid)

    async def list(self, uuid: str) -> list[VolumeSnapshot]:
        """See SnapshotStore."""
        await self._require(uuid)
        volume = await self._group.get_volume(uuid)
        found = sorted(await self._group.list_snapshots(uuid), key=lambda item: item.made_at_seconds)
        return [_describe(item, volume.allocated_bytes) for item in found if _NAME.fullmatch(item.name)]

    @asynccontextmanager
    async def opening(self, found: VolumeSnapshot) -> AsyncGenerator[ReadableState]:
        """See SnapshotStore; its device is there meanwhile."""
        await self._group.tool.activate(found.name)
        try:
            yield ReadableState(str(self._group.device_of(found.name)), "raw")
        finally:
            await self._group.tool.deactivate(found.name)

    async def create(self, uuid: str, name: str) -> None:
        """See SnapshotStore."""
        await self._group.tool.take_snapshot((await self._require(uuid)).name, name)

    async def _delete(self, uuid: str, name: str) -> None:
        if await self._group.tool.list_volumes(f"lv_name={name}"):
            await self._group.tool.remove(name)

    async def _rename(self, uuid: str, name: str, new: str) -> None:
        await self._group.tool.rename(name, new)

    async def _apply(self, found: VolumeSnapshot, size_bytes: int) -> None:
        await self._group.become(found.volume_uuid, found.name, size_bytes)

    async def _require(self, uuid: str) -> LogicalVolume:
        found = await self._group.require(uuid)
        if (await self._group.get_volume(uuid)).shared:
            raise refuse_shared(uuid)
        if not found.pool:
            raise SnapshotUnsupported(
                f"volume {uuid} is a logical volume outside of a thin pool: it would write everything twice, "
                "and lose the snapshot when that is full"
            )
        return found


def _describe(item: LogicalVolume, allocated_bytes: int) -> VolumeSnapshot:
    found = _NAME.fullmatch(item.name)
    assert found is not None  # noqa: S101 - they were chosen by it
    return VolumeSnapshot(
        snapshot_id=found[2],
        volume_uuid=found[1],
        size_bytes=item.size_bytes,
        taken_at_seconds=item.made_at_seconds,
        consistency=CONSISTENCIES[found[3]],
        allocated_bytes=allocated_bytes,
        name=item.name,
    )
