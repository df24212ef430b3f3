"""Volumes as logical volumes: raw, on block devices of this node alone, thin where the group has a pool.

`nw-<uuid>` is a volume once it has the tag `nodewright`; its other tags are what LVM cannot tell by itself. One with
`nodewright_making` instead is a leftover, and one with `nodewright_zero_<n>` may still show from byte n on what was on
the disk before: a tenant's data. Both are dealt with at the start of the agent, and before the volume is used.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Final
from uuid import NAMESPACE_DNS, uuid5
from weakref import WeakValueDictionary

import structlog

from agent.devices.wipe import wipe
from agent.errors import (
    AgentError,
    DeviceInUse,
    DeviceWipeFailed,
    RequestInvalid,
    StorageExhausted,
    StorageFailed,
    VolumeInUse,
    VolumeNotFound,
    VolumePresent,
)
from agent.storage import qemu_img
from agent.storage.base import Resize, StorageCapacity, StorageSpace, Volume, VolumeSource, VolumeSpec, make_space
from agent.storage.image_cache import CachedImage, ImageLookup, require_image
from agent.storage.lvm_tool import LogicalVolume, LvmTool

FileUsers = Callable[[Path], Awaitable[list[str]]]

_PREFIX: Final = "nw-"
_COMPLETE: Final = "nodewright"
_MAKING: Final = "nodewright_making"
_ZERO: Final = "nodewright_zero_"
_TYPE: Final = "nodewright_type_"
_IMAGE: Final = "nodewright_image_"
_TRANSFER: Final = "nodewright_transfer_"
_SHARED: Final = "nodewright_shared"
# So often it is noted how far zeros were written: who is cut off goes on from there.
_MARK_BYTES: Final = 8 * 1024**3
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
            elif spec.shared != (_SHARED in present.tags):
                raise RequestInvalid(f"shared: volume {spec.uuid} was made otherwise")
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
            await self.refuse_while_open(uuid)
            await self._tool.remove(_name(uuid))

    async def list_volumes(self) -> list[Volume]:
        """See StorageBackend."""
        return [_describe(found) for found in await self._tool.list_volumes(f"lv_tags={_COMPLETE}")]

    async def find_volume(self, uuid: str) -> Volume | None:
        """The complete volume, None when it is not here."""
        found = await self._find(uuid)
        return _describe(found) if found else None

    async def has_volume(self, uuid: str) -> bool:
        """Whether the complete volume is here."""
        return await self._find(uuid) is not None

    async def get_volume(self, uuid: str) -> Volume:
        """The same. Raises VolumeNotFound."""
        return _describe(await self._get(uuid))

    async def describe_volume(self, uuid: str) -> VolumeSource:
        """See StorageBackend; its device is there."""
        async with self._lock(uuid):
            found = await self._get(uuid)
            await self._tool.activate(found.name)
            await self._ensure_zeroed(found)
        return VolumeSource(
            path=self._path(uuid),
            format="raw",
            kind="block",
            shared=_SHARED in found.tags,
            volume_type=_told(found, _TYPE),
        )

    async def reserve(self, spec: VolumeSpec, content_bytes: int) -> Path:
        """The device of a half-made volume, of which so many bytes are going to be overwritten: see `adopt`.

        Raises RequestInvalid, StorageExhausted, VolumePresent.
        """
        size_bytes = await self._in_extents(max(spec.size_bytes, content_bytes))
        async with self._lock(spec.uuid):
            if await self._find(spec.uuid) is not None:
                raise VolumePresent(f"volume {spec.uuid} is on this node already")
            await self._drop_half_made(spec.uuid)
            name = _name(spec.uuid)
            await self._begin(name, size_bytes, _tell(spec), zero_from_bytes=content_bytes)
            await self._tool.activate(name)
        return self._path(spec.uuid)

    async def adopt(self, uuid: str, transfer_id: str = "") -> Volume:
        """What was reserved, and filled, is the volume; what was not filled reads as zeros. Raises VolumeNotFound."""
        async with self._lock(uuid):
            found = await self._find(uuid, complete=False)
            if found is None or _MAKING not in found.tags:
                raise VolumeNotFound(f"volume {uuid} is not being made on this node")
            zeroed = await self._fill(found, None)
            told = (f"{_TRANSFER}{transfer_id}",) if transfer_id else ()
            await self._tool.change_tags(found.name, add=(_COMPLETE, *told), remove=(_MAKING, *zeroed))
            return await self.get_volume(uuid)

    async def discard(self, uuid: str) -> None:
        """What was reserved is gone, unless it was adopted."""
        async with self._lock(uuid):
            await self._drop_half_made(uuid)

    async def refuse_while_open(self, uuid: str) -> None:
        """Raises VolumeInUse while a domain runs with it."""
        if users := await self._find_users(self._path(uuid)):
            raise VolumeInUse(f"volume {uuid} is used by the running domain {', '.join(users)}")

    async def capacity(self) -> StorageCapacity:
        """See StorageBackend; of a thin pool what is not written to yet."""
        if not self._pool:
            group = await self._tool.read_group()
            return StorageCapacity(total_bytes=group.size_bytes, free_bytes=group.free_bytes)
        pool = await self._read_pool()
        used = int(pool.size_bytes * (pool.used_percent or 0.0) / 100)
        return StorageCapacity(total_bytes=pool.size_bytes, free_bytes=pool.size_bytes - used)

    async def measure(self) -> StorageSpace:
        """See Measurable; a thin pool is a space of its own, taken out of the group's."""
        capacity, volumes, storage_id = await self.capacity(), await self.list_volumes(), await self.storage_id()
        return make_space(capacity, volumes, pool_id=storage_id, storage_id=storage_id)

    async def storage_id(self) -> str:
        """See StorageBackend; no other node uses the group."""
        group = await self._tool.read_group()
        return str(uuid5(NAMESPACE_DNS, f"{group.uuid}/{self._pool}"))

    async def _create(self, spec: VolumeSpec, size_bytes: int) -> None:
        image, name, is_kept = await require_image(self._find_image, spec), _name(spec.uuid), False
        try:
            half_made = await self._begin(name, size_bytes, _tell(spec))
            zeroed = await self._fill(half_made, image)
            await self._tool.change_tags(name, add=(_COMPLETE,), remove=(_MAKING, *zeroed))
            is_kept = True
        except asyncio.CancelledError:
            # Large volumes take longer than a call: the next one goes on.
            is_kept = True
            raise
        finally:
            if not is_kept:
                await self._discard(name)

    async def _begin(
        self, name: str, size_bytes: int, told: tuple[str, ...], *, zero_from_bytes: int = 0
    ) -> LogicalVolume:
        """A half-made volume: a new one, or that of a call for the same that was cut off."""
        tags = (*told, *(() if self._pool or zero_from_bytes >= size_bytes else (f"{_ZERO}{zero_from_bytes}",)))
        for found in await self._tool.list_volumes(f"lv_name={name}"):
            if found.size_bytes == size_bytes and found.tags.issuperset(told):
                return found
            await self._tool.remove(name)
        available_bytes = (await self.capacity()).free_bytes
        if size_bytes > available_bytes:
            raise StorageExhausted(f"volume: wanted {size_bytes} bytes, available {available_bytes}")
        await self._tool.create(name, size_bytes, _MAKING, self._pool)
        await self._tool.change_tags(name, add=tags)
        return LogicalVolume(name, size_bytes, frozenset(tags), None)

    async def _read_pool(self) -> LogicalVolume:
        """The thin pool. Raises StorageFailed, also when guests would read in it what was others'."""
        found, name = await self._tool.list_volumes(f"lv_name={self._pool}"), f"{self._tool.group}/{self._pool}"
        if not found:
            raise StorageFailed(f"thin pool {name} does not exist")
        if not found[0].gives_zeros:
            raise StorageFailed(f"thin pool {name} gives out what others have written: lvchange --zero y {name}")
        return found[0]

    async def _fill(self, half_made: LogicalVolume, image: CachedImage | None) -> list[str]:
        """It holds what it shall; answers its tags that tell of zeros."""
        await self._tool.activate(half_made.name)
        zeroed = [await self._zero(half_made.name, tag) for tag in half_made.tags if tag.startswith(_ZERO)]
        if image is not None:
            path = self._path(half_made.name.removeprefix(_PREFIX))
            await qemu_img.write_raw(image.path, image.disk_format, path)
        return zeroed

    async def _drop_half_made(self, uuid: str) -> None:
        found = await self._find(uuid, complete=False)
        if found is not None and _COMPLETE not in found.tags:
            await self._discard(found.name)

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
            await self._tool.change_tags(found.name, remove=(await self._zero(found.name, tag),))

    async def _zero(self, name: str, tag: str) -> str:
        """Writes zeros from where the tag tells; answers the tag that tells of the end instead."""
        begin_bytes = marked_bytes = int(tag.removeprefix(_ZERO))
        try:
            async with aclosing(wipe(self._path(name.removeprefix(_PREFIX)), begin_bytes)) as pieces:
                async for done_bytes, total_bytes in pieces:
                    is_due = done_bytes - marked_bytes >= _MARK_BYTES or done_bytes == total_bytes
                    if is_due and done_bytes != marked_bytes:
                        former, marked_bytes = f"{_ZERO}{marked_bytes}", done_bytes
                        await self._tool.change_tags(name, add=(f"{_ZERO}{done_bytes}",), remove=(former,))
        except DeviceInUse as error:
            raise VolumeInUse(error.message) from error
        except DeviceWipeFailed as error:
            raise StorageFailed(error.message) from error
        return f"{_ZERO}{marked_bytes}"

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


def _tell(spec: VolumeSpec) -> tuple[str, ...]:
    """Tags. Raises RequestInvalid."""
    if not _TAG.fullmatch(spec.volume_type):
        raise RequestInvalid("volume_type: letters, digits, '.', '_' and '-', at most 64")
    image = (f"{_IMAGE}{spec.image_id}",) if spec.image_id else ()
    return (f"{_TYPE}{spec.volume_type}", *image, *((_SHARED,) if spec.shared else ()))


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
        transfer_id=_told(found, _TRANSFER),
        shared=_SHARED in found.tags,
    )
