"""Volumes as logical volumes: raw, on block devices of this node alone, thin where the group has a pool.

`nw-<uuid>` is a volume once it has the tag `nodewright`; its other tags are what LVM cannot tell by itself. One with
`nodewright_making` instead is a leftover, and one with `nodewright_zero_<n>` may still show from byte n on what was on
the disk before: a tenant's data. Both are dealt with at the start of the agent, and before the volume is used.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

import structlog

from agent.devices.wipe import wipe
from agent.errors import (
    AgentError,
    DeviceInUse,
    DeviceWipeFailed,
    ImageNotFound,
    RequestInvalid,
    StorageExhausted,
    StorageFailed,
    VolumeInUse,
    VolumeNotFound,
)
from agent.storage import qemu_img
from agent.storage.base import Resize, StorageCapacity, Volume, VolumeSource, VolumeSpec
from agent.storage.image_cache import CachedImage
from agent.storage.lvm_tool import LogicalVolume, LvmTool

FileUsers = Callable[[Path], Awaitable[list[str]]]
ImageLookup = Callable[[str], Awaitable[CachedImage | None]]

_PREFIX: Final = "nw-"
_COMPLETE: Final = "nodewright"
_MAKING: Final = "nodewright_making"
_ZERO: Final = "nodewright_zero_"
_TYPE: Final = "nodewright_type_"
_IMAGE: Final = "nodewright_image_"
# What LVM admits in tags, and nothing else.
_TAG: Final = re.compile(r"[A-Za-z0-9_.-]{0,64}")

log = structlog.get_logger(__name__)


class LvmBackend:
    """Volumes in one volume group."""

    def __init__(
        self,
        tool: LvmTool,
        *,
        pool: str,
        find_image: ImageLookup,
        find_users: FileUsers,
        devices: Path = Path("/dev"),
    ) -> None:
        """`pool`: the thin pool that volumes are made in; empty: none, they take all of their space at once."""
        self._tool = tool
        self._pool = pool
        self._find_image = find_image
        self._find_users = find_users
        self._devices = devices
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def prepare(self) -> None:
        """Nothing is left of what a crash interrupted. Raises StorageFailed."""
        for found in await self._tool.list_volumes(f"lv_name=~^{_PREFIX}"):
            if _MAKING in found.tags:
                log.info("volume.leftover_removed", volume=found.name)
                await self._tool.remove(found.name)
            elif _COMPLETE in found.tags:
                await self._ensure_zeroed(found)

    async def ensure_volume(self, spec: VolumeSpec) -> Volume:
        """See StorageBackend. A volume from an image holds all of it: logical volumes stand on nothing."""
        size_bytes = await self._in_extents(spec.size_bytes)
        async with self._lock(spec.uuid):
            present = await self._find(spec.uuid)
            if present is None:
                await self._create(spec, size_bytes)
            elif size_bytes < present.size_bytes:
                raise RequestInvalid(
                    f"size_bytes: volume {spec.uuid} has {present.size_bytes}, it cannot become smaller"
                )
            elif (spec.image_id or "") != _told(present, _IMAGE):
                raise RequestInvalid(f"image: volume {spec.uuid} was made from {_told(present, _IMAGE) or 'no image'}")
            else:
                await self._extend(present, size_bytes)
            return await self.get_volume(spec.uuid)

    async def grow_volume(self, uuid: str, size_bytes: int, resize: Resize) -> Volume:
        """See StorageBackend: the guest, if one runs with it, sees the new space when it is zeros."""
        size_bytes = await self._in_extents(size_bytes)
        async with self._lock(uuid):
            present = await self._get(uuid)
            if size_bytes < present.size_bytes:
                raise RequestInvalid(f"size_bytes: volume {uuid} has {present.size_bytes}, it cannot become smaller")
            await self._extend(present, size_bytes)
            # Also when it has that size: the call before may have been cut off here.
            await resize(size_bytes)
            return await self.get_volume(uuid)

    async def ensure_removed(self, uuid: str) -> None:
        """See StorageBackend."""
        async with self._lock(uuid):
            if await self._find(uuid, complete=False) is None:
                return
            if users := await self._find_users(self._path(uuid)):
                raise VolumeInUse(f"volume {uuid} is used by the running domain {', '.join(users)}")
            await self._tool.remove(_name(uuid))

    async def list_volumes(self) -> list[Volume]:
        """See StorageBackend."""
        return [_describe(found) for found in await self._tool.list_volumes(f"lv_tags={_COMPLETE}")]

    async def find_volume(self, uuid: str) -> Volume | None:
        """The complete volume, None when it is not here."""
        found = await self._find(uuid)
        return _describe(found) if found else None

    async def get_volume(self, uuid: str) -> Volume:
        """The same. Raises VolumeNotFound."""
        return _describe(await self._get(uuid))

    async def describe_volume(self, uuid: str) -> VolumeSource:
        """See StorageBackend; its device is there."""
        async with self._lock(uuid):
            found = await self._get(uuid)
            await self._tool.activate(found.name)
            await self._ensure_zeroed(found)
        return VolumeSource(path=self._path(uuid), format="raw", kind="block")

    async def capacity(self) -> StorageCapacity:
        """See StorageBackend; of a thin pool what is not written to yet."""
        if not self._pool:
            group = await self._tool.read_group()
            return StorageCapacity(total_bytes=group.size_bytes, free_bytes=group.free_bytes)
        found = await self._tool.list_volumes(f"lv_name={self._pool}")
        if not found:
            raise StorageFailed(f"thin pool {self._tool.group}/{self._pool} does not exist")
        used = int(found[0].size_bytes * (found[0].used_percent or 0.0) / 100)
        return StorageCapacity(total_bytes=found[0].size_bytes, free_bytes=found[0].size_bytes - used)

    async def storage_id(self) -> str:
        """See StorageBackend; no other node uses the group."""
        return (await self._tool.read_group()).uuid

    async def _create(self, spec: VolumeSpec, size_bytes: int) -> None:
        if not _TAG.fullmatch(spec.volume_type):
            raise RequestInvalid("volume_type: letters, digits, '.', '_' and '-', at most 64")
        image = await self._require_image(spec)
        available_bytes = (await self.capacity()).free_bytes
        if size_bytes > available_bytes:
            raise StorageExhausted(f"volume: wanted {size_bytes} bytes, available {available_bytes}")
        name, complete = _name(spec.uuid), False
        if await self._find(spec.uuid, complete=False):
            await self._tool.remove(name)  # half made
        try:
            await self._tool.create(name, size_bytes, _MAKING, self._pool)
            await self._fill(spec.uuid, image)
            told = (f"{_TYPE}{spec.volume_type}", *((f"{_IMAGE}{spec.image_id}",) if spec.image_id else ()))
            await self._tool.change_tags(name, add=(_COMPLETE, *told), remove=(_MAKING,))
            complete = True
        finally:
            if not complete:
                await self._discard(name)

    async def _fill(self, uuid: str, image: CachedImage | None) -> None:
        await self._tool.activate(_name(uuid))
        if not self._pool:
            await self._zero(uuid, 0)
        if image is not None:
            await qemu_img.write_raw(image.path, image.disk_format, self._path(uuid))

    async def _discard(self, name: str) -> None:
        try:
            if await self._tool.list_volumes(f"lv_name={name}"):
                await self._tool.remove(name)
        except AgentError as error:  # the next start of the agent, or the next call, removes it
            log.warning("volume.leftover_kept", volume=name, reason=error.message)

    async def _extend(self, present: LogicalVolume, size_bytes: int) -> None:
        await self._ensure_zeroed(present)
        if size_bytes <= present.size_bytes:
            return
        wanted, free = size_bytes - present.size_bytes, (await self.capacity()).free_bytes
        if wanted > free:
            raise StorageExhausted(f"volume: wanted {wanted} bytes, available {free}")
        if self._pool:
            await self._tool.extend(present.name, size_bytes)
            return
        # Noted first: what comes with the new space is not the tenant's.
        await self._tool.change_tags(present.name, add=(f"{_ZERO}{present.size_bytes}",))
        await self._tool.extend(present.name, size_bytes)
        await self._ensure_zeroed(await self._get(present.name.removeprefix(_PREFIX)))

    async def _ensure_zeroed(self, found: LogicalVolume) -> None:
        for tag in [tag for tag in found.tags if tag.startswith(_ZERO)]:
            await self._tool.activate(found.name)
            await self._zero(found.name.removeprefix(_PREFIX), int(tag.removeprefix(_ZERO)))
            await self._tool.change_tags(found.name, remove=(tag,))

    async def _zero(self, uuid: str, begin_bytes: int) -> None:
        try:
            async for _ in wipe(self._path(uuid), begin_bytes):
                pass
        except DeviceInUse as error:
            raise VolumeInUse(error.message) from error
        except DeviceWipeFailed as error:
            raise StorageFailed(error.message) from error

    async def _require_image(self, spec: VolumeSpec) -> CachedImage | None:
        if spec.image_id is None:
            return None
        image = await self._find_image(spec.image_id)
        if image is None:
            raise ImageNotFound(f"image {spec.image_id} is not in the cache of this node")
        if spec.size_bytes < image.virtual_size_bytes:
            raise RequestInvalid(
                f"size_bytes: {spec.size_bytes} is less than the {image.virtual_size_bytes} of image {spec.image_id}"
            )
        return image

    async def _find(self, uuid: str, *, complete: bool = True) -> LogicalVolume | None:
        found = await self._tool.list_volumes(f"lv_name={_name(uuid)}")
        return next((item for item in found if not complete or _COMPLETE in item.tags), None)

    async def _get(self, uuid: str) -> LogicalVolume:
        found = await self._find(uuid)
        if found is None:
            raise VolumeNotFound(f"volume {uuid} does not exist on this node")
        return found

    async def _in_extents(self, size_bytes: int) -> int:
        extent_bytes = (await self._tool.read_group()).extent_bytes
        return -(-size_bytes // extent_bytes) * extent_bytes

    @asynccontextmanager
    async def _lock(self, uuid: str) -> AsyncGenerator[None]:
        async with self._locks.setdefault(uuid, asyncio.Lock()):
            yield

    def _path(self, uuid: str) -> Path:
        return self._devices / self._tool.group / _name(uuid)


def _name(uuid: str) -> str:
    return f"{_PREFIX}{uuid}"


def _told(found: LogicalVolume, prefix: str) -> str:
    return next((tag.removeprefix(prefix) for tag in found.tags if tag.startswith(prefix)), "")


def _describe(found: LogicalVolume) -> Volume:
    share = 100.0 if found.used_percent is None else found.used_percent
    return Volume(
        uuid=found.name.removeprefix(_PREFIX),
        size_bytes=found.size_bytes,
        allocated_bytes=int(found.size_bytes * share / 100),
        volume_type=_told(found, _TYPE),
        image_id=_told(found, _IMAGE) or None,
    )
