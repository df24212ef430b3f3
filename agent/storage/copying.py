"""Independent copies of volumes, of what they hold or of what their snapshots have kept."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from pathlib import Path

from agent.errors import RequestInvalid
from agent.storage import qemu_img
from agent.storage.base import Volume, VolumeSpec
from agent.storage.choice import StorageChoice
from agent.storage.directory import DirectoryBackend
from agent.storage.lvm import LvmBackend
from agent.storage.rbd_snapshot import RbdSnapshots
from agent.storage.snapshot import SnapshotStore
from agent.storage.snapshot_file import SnapshotFiles
from agent.storage.snapshots import VolumeSnapshots


class VolumeCopies:
    """All copies that a node makes."""

    def __init__(self, files: DirectoryBackend, everywhere: StorageChoice, snapshots: VolumeSnapshots) -> None:
        self._files = files
        self._everywhere = everywhere
        self._snapshots = snapshots

    async def ensure(self, spec: VolumeSpec, origin_uuid: str, snapshot_id: str) -> AsyncGenerator[int | Volume, None]:
        """The volume exists, a copy of the origin's snapshot or of what it holds now; yields percentages, then it.

        A copy of a logical volume is made where its type belongs; one of a file is a file, and what is in Ceph stays
        there. Raises VolumeNotFound, SnapshotNotFound, VolumeInUse, RequestInvalid (smaller than its origin),
        StorageExhausted, ImageNotFound, SnapshotUnsupported.
        """
        store = await self._snapshots.of(origin_uuid)
        if isinstance(store, SnapshotFiles):
            steps = store.ensure_copied(spec, origin_uuid, snapshot_id)
        elif isinstance(store, RbdSnapshots):
            target = self._everywhere.pool_of(spec.volume_type)
            steps = store.ensure_copied(spec, origin_uuid, snapshot_id, target)
        else:
            steps = self._copy(spec, store, origin_uuid, snapshot_id)
        async with aclosing(steps):
            async for step in steps:
                yield step

    async def _copy(
        self, spec: VolumeSpec, store: SnapshotStore, origin_uuid: str, snapshot_id: str
    ) -> AsyncGenerator[int | Volume, None]:
        """Of a logical volume."""
        target = self._everywhere.group_of(spec.volume_type)
        present = await (target or self._files).find_volume(spec.uuid)
        if present is None:
            origin = await self._everywhere.get_volume(origin_uuid)
            async with AsyncExitStack() as stack:
                source, size_bytes = await self._open(stack, store, origin, snapshot_id)
                if spec.size_bytes < size_bytes:
                    raise RequestInvalid(f"size_bytes: {spec.size_bytes} is less than the {size_bytes} of its origin")
                spec = replace(spec, image_id=origin.image_id if target else None)
                filling = (
                    self._fill(spec, source, size_bytes, target) if target else self._write_file(spec, source, origin)
                )
                async for percent in await stack.enter_async_context(aclosing(filling)):
                    yield percent
        yield await (target or self._files).get_volume(spec.uuid)

    async def _open(
        self, stack: AsyncExitStack, store: SnapshotStore, origin: Volume, snapshot_id: str
    ) -> tuple[Path, int]:
        """The device with what is to be copied, which nobody changes meanwhile, and its size."""
        if not snapshot_id:
            await self._everywhere.refuse_while_open(origin.uuid)
            return (await self._everywhere.describe_volume(origin.uuid)).path, origin.size_bytes
        stack.enter_context(store.reading(origin.uuid, snapshot_id))
        found = await store.get(origin.uuid, snapshot_id)
        state = await stack.enter_async_context(store.opening(found))
        return Path(state.address), found.size_bytes

    async def _fill(
        self, spec: VolumeSpec, source: Path, size_bytes: int, target: LvmBackend
    ) -> AsyncGenerator[int, None]:
        device = await target.reserve(spec, size_bytes)
        try:
            async with aclosing(qemu_img.copy_raw(source, device)) as percents:
                async for percent in percents:
                    yield percent
            await target.adopt(spec.uuid)
        finally:
            await target.discard(spec.uuid)

    async def _write_file(self, spec: VolumeSpec, source: Path, origin: Volume) -> AsyncGenerator[int, None]:
        await self._files.require_space(origin.allocated_bytes)
        file, size_bytes = self._files.reserve(spec.uuid), spec.size_bytes
        try:
            copying = qemu_img.copy(source, file, size_bytes=size_bytes, source_format="raw")
            async with aclosing(copying) as percents:
                async for percent in percents:
                    yield percent
            await qemu_img.grow(file, size_bytes)
            await self._files.publish(file, spec, None)
        finally:
            await self._files.discard(file)
