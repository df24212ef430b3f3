"""Volumes on their way between nodes: files as they are, logical volumes as their guests see them.

A file stays a file. What comes from a logical volume becomes what its type is mapped to here: a logical volume, or a
file that stands alone.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import aclosing
from pathlib import Path

from agent.errors import ImageNotFound, RequestInvalid
from agent.storage import qemu_img
from agent.storage.base import Volume
from agent.storage.choice import StorageChoice
from agent.storage.directory import DirectoryBackend
from agent.storage.image_cache import ImageLookup
from agent.storage.lvm import LvmBackend
from agent.storage.moving import (
    Opened,
    Outgoing,
    ReceiveOrder,
    make_empty,
    open_file,
    refuse_other,
    refuse_other_image,
)


class VolumeMoves:
    """See Movable."""

    def __init__(self, files: DirectoryBackend, everywhere: StorageChoice, *, find_image: ImageLookup) -> None:
        self._files = files
        self._everywhere = everywhere
        self._find_image = find_image
        # Devices that are being filled, and whose they are.
        self._reserved: dict[Path, tuple[LvmBackend, str]] = {}

    async def inspect(self, uuid: str) -> Outgoing:
        """See Movable; also ImageNotFound, and RequestInvalid for a volume that guests share."""
        volume = await self._everywhere.get_movable(uuid)
        if volume.shared:
            raise RequestInvalid(f"uuid: volume {uuid} is shared by guests, and stays where they all find it")
        opened = await self.open_source(uuid)
        if await self._everywhere.find_group(uuid):
            return Outgoing(volume, opened.file_bytes, is_raw=True)
        image = None
        if volume.image_id is not None:
            image = await self._find_image(volume.image_id)
            if image is None:
                raise ImageNotFound(f"image {volume.image_id} is not in the cache of this node")
        return Outgoing(volume, opened.file_bytes, image.ref if image else None)

    async def open_source(self, uuid: str) -> Opened:
        """See Movable."""
        volume = await self._everywhere.get_movable(uuid)
        # As it lies there: no key is needed to send what is encrypted.
        source = await self._everywhere.locate_source(uuid)
        await self._everywhere.refuse_while_open(uuid)
        if source.kind == "file":
            return open_file(source.path)
        return Opened(source.path, volume.size_bytes, volume.allocated_bytes)

    async def find_brought(self, uuid: str, transfer_id: str) -> Volume | None:
        """See Movable."""
        home = await self._everywhere.find_group(uuid) or self._files
        return refuse_other(await home.find_volume(uuid), transfer_id)

    async def reserve(self, order: ReceiveOrder) -> Path:
        """See Movable."""
        group = self._everywhere.group_of(order.spec.volume_type) if order.is_raw else None
        if group is not None:
            device = await group.reserve(order.spec, order.file_bytes)
            self._reserved[device] = group, order.spec.uuid
            return device
        image = await self._files.require_image(order.spec)
        refuse_other_image(image.ref if image else None, order)
        # What comes as the guest sees it is there twice in the end, for a moment.
        await self._files.require_space(order.allocated_bytes * (1 + order.is_raw))
        file = self._files.reserve(order.spec.uuid)
        await asyncio.to_thread(make_empty, file, order.file_bytes)
        return file

    async def adopt(self, order: ReceiveOrder, path: Path) -> Volume:
        """See Movable; also VolumeCorrupt when it is no such volume."""
        if path in self._reserved:
            group, uuid = self._reserved[path]
            return await group.adopt(uuid, order.transfer_id)
        await asyncio.to_thread(os.truncate, path, order.file_bytes)
        if not order.is_raw:
            return await self._files.adopt(path, order.spec, order.transfer_id)
        converted = self._files.reserve(order.spec.uuid)
        try:
            copying = qemu_img.copy(path, converted, size_bytes=order.spec.size_bytes, source_format="raw")
            async with aclosing(copying) as percents:
                async for _ in percents:
                    pass
            return await self._files.adopt(converted, order.spec, order.transfer_id)
        finally:
            await self._files.discard(converted)

    async def discard(self, path: Path) -> None:
        """See Movable."""
        if path in self._reserved:
            group, uuid = self._reserved.pop(path)
            await group.discard(uuid)
        else:
            await self._files.discard(path)
