"""Independent copies of volumes: of files and their snapshots, and of what logical volumes hold."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from agent.errors import RequestInvalid, SnapshotUnsupported
from agent.storage import qemu_img
from agent.storage.base import Volume, VolumeSpec
from agent.storage.choice import StorageChoice
from agent.storage.directory import DirectoryBackend
from agent.storage.lvm import LvmBackend
from agent.storage.snapshot import SnapshotFiles


class VolumeCopies:
    """All copies that a node makes."""

    def __init__(self, files: DirectoryBackend, everywhere: StorageChoice, snapshots: SnapshotFiles) -> None:
        self._files = files
        self._everywhere = everywhere
        self._snapshots = snapshots

    async def ensure(self, spec: VolumeSpec, origin_uuid: str, snapshot_id: str) -> AsyncGenerator[int | Volume, None]:
        """The volume exists, a copy of the origin's snapshot or of what it holds now; yields percentages, then it.

        A copy of a logical volume is made where its type belongs; one of a file is a file. Raises what
        `SnapshotFiles.ensure_copied` does, SnapshotUnsupported for a snapshot of a logical volume.
        """
        group = await self._everywhere.find_group(origin_uuid)
        if group is None:
            steps = self._snapshots.ensure_copied(spec, origin_uuid, snapshot_id)
        elif snapshot_id:
            raise SnapshotUnsupported(f"volume {origin_uuid} is a logical volume, of which no snapshots are taken")
        else:
            steps = self._copy(spec, group, origin_uuid)
        async with aclosing(steps):
            async for step in steps:
                yield step

    async def _copy(self, spec: VolumeSpec, group: LvmBackend, origin_uuid: str) -> AsyncGenerator[int | Volume, None]:
        target = self._everywhere.group_of(spec.volume_type)
        present = await (target or self._files).find_volume(spec.uuid)
        if present is None:
            origin = await group.get_volume(origin_uuid)
            if spec.size_bytes < origin.size_bytes:
                raise RequestInvalid(
                    f"size_bytes: {spec.size_bytes} is less than the {origin.size_bytes} of its origin"
                )
            await group.refuse_while_open(origin_uuid)
            spec = replace(spec, image_id=origin.image_id if target else None)
            copying = self._fill(spec, group, origin, target) if target else self._write_file(spec, group, origin)
            async with aclosing(copying):
                async for percent in copying:
                    yield percent
        yield await (target or self._files).get_volume(spec.uuid)

    async def _fill(
        self, spec: VolumeSpec, group: LvmBackend, origin: Volume, target: LvmBackend
    ) -> AsyncGenerator[int, None]:
        source = await group.describe_volume(origin.uuid)
        device = await target.reserve(spec, origin.size_bytes)
        try:
            async with aclosing(qemu_img.copy_raw(source.path, device)) as percents:
                async for percent in percents:
                    yield percent
            await target.adopt(spec.uuid)
        finally:
            await target.discard(spec.uuid)

    async def _write_file(self, spec: VolumeSpec, group: LvmBackend, origin: Volume) -> AsyncGenerator[int, None]:
        source = await group.describe_volume(origin.uuid)
        await self._files.require_space(origin.allocated_bytes)
        file, size_bytes = self._files.reserve(spec.uuid), spec.size_bytes
        try:
            copying = qemu_img.copy(source.path, file, size_bytes=size_bytes, source_format="raw")
            async with aclosing(copying) as percents:
                async for percent in percents:
                    yield percent
            await qemu_img.grow(file, size_bytes)
            await self._files.publish(file, spec, None)
        finally:
            await self._files.discard(file)
