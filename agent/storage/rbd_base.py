"""Cached images in a pool: each once, as a protected snapshot that volumes are clones of.

Every node makes its own where it finds none, under a name of its own, and uses that of whichever node it finds: so no
two write to one image, whatever they do at the same time. One is complete when it has its snapshot.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from typing import Final
from weakref import WeakValueDictionary

import structlog

from agent.errors import AgentError, StorageFailed, VolumeInUse, VolumeNotFound
from agent.storage.image_cache import CachedImage, ImageLookup
from agent.storage.rbd_tool import RbdTool

_PREFIX: Final = "nwi-"
_SNAPSHOT: Final = "base"

log = structlog.get_logger(__name__)


class RbdBases:
    """The images of one pool."""

    def __init__(self, tool: RbdTool, owner: str, find_image: ImageLookup) -> None:
        self._tool = tool
        self._owner = shorten(owner)
        self._find_image = find_image
        self._imports: dict[str, asyncio.Task[None]] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def clone(self, image: CachedImage, volume: str) -> None:
        """The volume, which does not exist, is a clone of the image.

        Who is cancelled while the image is brought into the pool, once, finds it there later.
        """
        own = self._name(image.ref.image_id)
        # Most often it is there.
        if await self._try_clone(own, volume):
            return
        for other in await self._tool.list_images(_PREFIX):
            if _image_of(other) == image.ref.image_id and other != own and await self._try_clone(other, volume):
                return
        await self._bring(image)
        await self._tool.clone(f"{own}@{_SNAPSHOT}", volume)

    async def release(self, parent: str) -> None:
        """The base is gone when no volume stands on it any more, and the node does not keep the image."""
        name, _, snapshot = parent.partition("@")
        if name.startswith(_PREFIX) and snapshot == _SNAPSHOT:
            await self._discard(name)

    async def sweep(self) -> None:
        """Nothing is left of images that this node has brought here and nobody needs."""
        for name in await self._tool.list_images(_PREFIX):
            if name.endswith(f".{self._owner}"):
                await self._discard(name)

    async def _discard(self, name: str) -> None:
        image_id = _image_of(name)
        async with self._locks.setdefault(image_id, asyncio.Lock()):
            if image_id in self._imports or await self._find_image(image_id) is not None:
                return
            try:
                # It fails as long as there are clones, whoever made them.
                with contextlib.suppress(VolumeNotFound):
                    await self._tool.unprotect(name, _SNAPSHOT)
                await self._tool.remove(name)
                log.info("rbd_base.removed", image=name)
            except (VolumeInUse, VolumeNotFound):
                return
            except AgentError as error:  # the next one who looks removes it
                log.warning("rbd_base.kept", image=name, reason=error.message)

    async def _try_clone(self, base: str, volume: str) -> bool:
        try:
            await self._tool.clone(f"{base}@{_SNAPSHOT}", volume)
        except (VolumeNotFound, StorageFailed):  # it is not there, or not complete
            return False
        return True

    async def _bring(self, image: CachedImage) -> None:
        image_id = image.ref.image_id
        task = self._imports.get(image_id)
        if task is None:
            task = self._imports[image_id] = asyncio.create_task(self._import(image), name=f"rbd-{image_id}")
            task.add_done_callback(lambda _: self._imports.pop(image_id, None))
        await asyncio.shield(task)

    async def _import(self, image: CachedImage) -> None:
        name = self._name(image.ref.image_id)
        async with self._locks.setdefault(image.ref.image_id, asyncio.Lock()):
            if await self._tool.find_image(name) is not None:
                snapshots = await self._tool.list_snapshots(name)
                if not any(item.name == _SNAPSHOT for item in snapshots):  # what a crash has left
                    await self._tool.remove(name)
            if await self._tool.find_image(name) is None:
                await self._tool.create(name, image.virtual_size_bytes)
                await self._tool.write(image.path, image.disk_format, name)
                await self._tool.take_snapshot(name, _SNAPSHOT)
            with contextlib.suppress(VolumeInUse):  # it is protected
                await self._tool.protect(name, _SNAPSHOT)
            log.info("rbd_base.made", image=name)

    def _name(self, image_id: str) -> str:
        return f"{_PREFIX}{image_id}.{self._owner}"


def _image_of(base: str) -> str:
    return base.removeprefix(_PREFIX).rpartition(".")[0]


def shorten(owner: str) -> str:
    """The same for names of images, which have 96 bytes in all."""
    return hashlib.sha256(owner.encode()).hexdigest()[:8]
