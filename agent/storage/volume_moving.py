"""Volumes on their way between nodes: files as they are, logical volumes as their guests see them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from agent.errors import ImageNotFound, RequestInvalid
from agent.storage.base import Volume
from agent.storage.directory import DirectoryBackend, ImageLookup
from agent.storage.moving import Opened, Outgoing, ReceiveOrder, make_empty, open_file, refuse_other, refuse_other_image


class VolumeMoves:
    """See Movable."""

    def __init__(self, volumes: DirectoryBackend, *, find_image: ImageLookup) -> None:
        self._volumes = volumes
        self._find_image = find_image

    async def inspect(self, uuid: str) -> Outgoing:
        """See Movable; also ImageNotFound, and RequestInvalid for a volume that guests share."""
        volume = await self._volumes.get_volume(uuid)
        if volume.shared:
            raise RequestInvalid(f"uuid: volume {uuid} is shared by guests, and stays where they all find it")
        opened = await self.open_source(uuid)
        image = None
        if volume.image_id is not None:
            image = await self._find_image(volume.image_id)
            if image is None:
                raise ImageNotFound(f"image {volume.image_id} is not in the cache of this node")
        return Outgoing(volume, opened.file_bytes, image.ref if image else None)

    async def open_source(self, uuid: str) -> Opened:
        """See Movable."""
        source = await self._volumes.describe_volume(uuid)
        await self._volumes.refuse_while_open(uuid, for_writing=True)
        return open_file(source.path)

    async def find_brought(self, uuid: str, transfer_id: str) -> Volume | None:
        """See Movable."""
        return refuse_other(await self._volumes.find_volume(uuid), transfer_id)

    async def reserve(self, order: ReceiveOrder) -> Path:
        """See Movable."""
        image = await self._volumes.require_image(order.spec)
        refuse_other_image(image.ref if image else None, order)
        await self._volumes.require_space(order.allocated_bytes)
        file = self._volumes.reserve(order.spec.uuid)
        await asyncio.to_thread(make_empty, file, order.file_bytes)
        return file

    async def adopt(self, order: ReceiveOrder, path: Path) -> Volume:
        """See Movable; also VolumeCorrupt when it is no such volume."""
        return await self._volumes.adopt(path, order.spec, order.transfer_id)

    async def discard(self, path: Path) -> None:
        """See Movable."""
        await asyncio.to_thread(path.unlink, missing_ok=True)
