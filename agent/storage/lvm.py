"""Volumes as logical volumes: raw, on block devices of this node alone, thin where the group has a pool.

`nw-<uuid>` is a volume once it has the tag `nodewright`; its other tags are what LVM cannot tell by itself. One with
`nodewright_making` instead is a leftover, and one with `nodewright_zero_<n>` may still show from byte n on what was on
the disk before: a tenant's data. Both are dealt with at the start of the agent, and before the volume is used.
"""

from __future__ import annotations

import asyncio
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
from agent.storage.lvm_tag import (
    COMPLETE,
    IMAGE,
    MAKING,
    PREFIX,
    RESERVED,
    SHARED,
    TRANSFER,
    TYPE,
    ZERO,
    describe,
    read_tag,
    tell,
)
from agent.storage.lvm_tool import LogicalVolume, LvmTool

FileUsers = Callable[[Path], Awaitable[list[str]]]

# Of a volume that goes back to a snapshot: what it held, until the state that comes has its name.
_FORMER: Final = "nwo-"
_COMING: Final = "nwr-"
_SNAPSHOT: Final = "nws-"
# So often it is noted how far zeros were written: who is cut off goes on from there.
_MARK_BYTES: Final = 8 * 1024**3

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
        self.tool = tool
        self._pool = pool
        self._find_image = find_image
        self._find_users = find_users
        self._devices = devices
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._names: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def prepare(self) -> None:
        """Nothing is left of what a crash interrupted. Raises StorageFailed."""
        for found in await self.tool.list_volumes(f"lv_name=~^{PREFIX}"):
            if MAKING in found.tags:
                log.info("volume.leftover_removed", volume=found.name)
                await self.tool.remove(found.name)
            elif COMPLETE in found.tags:
                await self._ensure_zeroed(found)
        for found in await self.tool.list_volumes(f"(lv_name=~^{_FORMER} || lv_name=~^{_COMING})"):
            await self._find(found.name.removeprefix(_FORMER).removeprefix(_COMING))
            await self._discard(found.name)

    async def ensure_volume(self, spec: VolumeSpec) -> Volume:
        """See StorageBackend. A volume from an image holds all of it: logical volumes stand on nothing."""
        size_bytes = await self._in_extents(spec.size_bytes)
        async with self.lock(spec.uuid):
            present = await self._find(spec.uuid)
            if present is None:
                await self._create(spec, size_bytes)
            elif size_bytes < present.size_bytes:
                raise RequestInvalid(
                    f"size_bytes: volume {spec.uuid} has {present.size_bytes}, it cannot become smaller"
                )
            elif (spec.image_id or "") != read_tag(present, IMAGE):
                raise RequestInvalid(
                    f"image: volume {spec.uuid} was made from {read_tag(present, IMAGE) or 'no image'}"
                )
            elif spec.shared != (SHARED in present.tags):
                raise RequestInvalid(f"shared: volume {spec.uuid} was made otherwise")
            else:
                await self._extend(present, size_bytes)
            return await self.get_volume(spec.uuid)

    async def grow_volume(self, uuid: str, size_bytes: int, resize: Resize) -> Volume:
        """See StorageBackend: the guest, if one runs with it, sees the new space when it is zeros."""
        size_bytes = await self._in_extents(size_bytes)
        async with self.lock(uuid):
            present = await self.require(uuid)
            if size_bytes < present.size_bytes:
                raise RequestInvalid(f"size_bytes: volume {uuid} has {present.size_bytes}, it cannot become smaller")
            await self._extend(present, size_bytes)
            # Also when it has that size: the call before may have been cut off here.
            await resize(size_bytes)
            return await self.get_volume(uuid)

    async def ensure_removed(self, uuid: str) -> None:
        """See StorageBackend; its snapshots go with it."""
        async with self.lock(uuid):
            if await self._find(uuid, complete=False) is not None:
                await self.refuse_while_open(uuid)
            others = " || ".join(f"lv_name=~^{prefix}{uuid}" for prefix in (_SNAPSHOT, _COMING, _FORMER))
            for found in await self.tool.list_volumes(f"({others})"):
                await self.tool.remove(found.name)
            if await self._find(uuid, complete=False) is not None:
                await self.tool.remove(_name(uuid))

    async def list_volumes(self) -> list[Volume]:
        """See StorageBackend."""
        return [describe(found) for found in await self.tool.list_volumes(f"lv_tags={COMPLETE}", f"lv_name=~^{PREFIX}")]

    async def find_volume(self, uuid: str) -> Volume | None:
        """The complete volume, None when it is not here."""
        found = await self._find(uuid)
        return describe(found) if found else None

    async def has_volume(self, uuid: str) -> bool:
        """Whether the complete volume is here."""
        return await self._find(uuid) is not None

    async def get_volume(self, uuid: str) -> Volume:
        """The same. Raises VolumeNotFound."""
        return describe(await self.require(uuid))

    async def describe_volume(self, uuid: str) -> VolumeSource:
        """See StorageBackend; its device is there."""
        async with self.lock(uuid):
            found = await self.require(uuid)
            await self.tool.activate(found.name)
            await self._ensure_zeroed(found)
        return VolumeSource(
            path=self.path_of(uuid),
            format="raw",
            kind="block",
            shared=SHARED in found.tags,
            volume_type=read_tag(found, TYPE),
        )

    async def list_snapshots(self, uuid: str) -> list[LogicalVolume]:
        """Of a thin volume."""
        return await self.tool.list_volumes(f"lv_name=~^{_SNAPSHOT}{uuid}")

    async def become(self, uuid: str, snapshot: str, size_bytes: int) -> None:
        """The thin volume, which nobody has open and the caller has locked, holds what the snapshot does, which stays.

        It has this size, which is no smaller. Who is cut off between two names finds it under its own with the next
        call.
        """
        volume, former, coming = await self.require(uuid), f"{_FORMER}{uuid}", f"{_COMING}{uuid}"
        for name in (former, coming):
            await self._discard(name)
        # Whoever has it open, libvirt's guests aside, keeps the kernel from that, too.
        await self.tool.deactivate(volume.name)
        await self.tool.take_snapshot(snapshot, coming, *volume.tags)
        [copy] = await self.tool.list_volumes(f"lv_name={coming}")
        if copy.size_bytes < size_bytes:
            await self.tool.extend(coming, size_bytes)
        async with self._naming(uuid):
            await self.tool.rename(volume.name, former)
            await self.tool.rename(coming, volume.name)
        await self.tool.remove(former)

    async def reserve(self, spec: VolumeSpec, content_bytes: int) -> Path:
        """The device of a half-made volume, of which so many bytes are going to be overwritten: see `adopt`.

        Raises RequestInvalid, StorageExhausted, VolumePresent.
        """
        size_bytes = await self._in_extents(max(spec.size_bytes, content_bytes))
        async with self.lock(spec.uuid):
            if await self._find(spec.uuid) is not None:
                raise VolumePresent(f"volume {spec.uuid} is on this node already")
            await self._drop_half_made(spec.uuid)
            name = _name(spec.uuid)
            await self._begin(name, size_bytes, (RESERVED, *tell(spec)), zero_from_bytes=content_bytes)
            await self.tool.activate(name)
        return self.path_of(spec.uuid)

    async def adopt(self, uuid: str, transfer_id: str = "") -> Volume:
        """What was reserved, and filled, is the volume; what was not filled reads as zeros. Raises VolumeNotFound."""
        async with self.lock(uuid):
            found = await self._find(uuid, complete=False)
            if found is None or MAKING not in found.tags:
                raise VolumeNotFound(f"volume {uuid} is not being made on this node")
            zeroed = await self._fill(found, None)
            told = (f"{TRANSFER}{transfer_id}",) if transfer_id else ()
            await self.tool.change_tags(found.name, add=(COMPLETE, *told), remove=(MAKING, RESERVED, *zeroed))
            return await self.get_volume(uuid)

    async def discard(self, uuid: str) -> None:
        """What was reserved is gone, unless it was adopted."""
        async with self.lock(uuid):
            await self._drop_half_made(uuid)

    async def refuse_while_open(self, uuid: str) -> None:
        """Raises VolumeInUse while a domain runs with it."""
        if users := await self._find_users(self.path_of(uuid)):
            raise VolumeInUse(f"volume {uuid} is used by the running domain {', '.join(users)}")

    async def capacity(self) -> StorageCapacity:
        """See StorageBackend; of a thin pool what is not written to yet."""
        if not self._pool:
            group = await self.tool.read_group()
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
        group = await self.tool.read_group()
        return str(uuid5(NAMESPACE_DNS, f"{group.uuid}/{self._pool}"))

    async def _create(self, spec: VolumeSpec, size_bytes: int) -> None:
        image, name, is_kept = await require_image(self._find_image, spec), _name(spec.uuid), False
        try:
            half_made = await self._begin(name, size_bytes, tell(spec))
            zeroed = await self._fill(half_made, image)
            await self.tool.change_tags(name, add=(COMPLETE,), remove=(MAKING, *zeroed))
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
        """A half-made volume: a new one, or that of a call for the same that was cut off, unless it was a transfer."""
        tags = (MAKING, *told, *(() if self._pool or zero_from_bytes >= size_bytes else (f"{ZERO}{zero_from_bytes}",)))
        for found in await self.tool.list_volumes(f"lv_name={name}"):
            is_same = found.size_bytes == size_bytes and found.tags.issuperset(told)
            if is_same and RESERVED not in found.tags:
                return found
            await self.tool.remove(name)
        available_bytes = (await self.capacity()).free_bytes
        if size_bytes > available_bytes:
            place = self.tool.group
            raise StorageExhausted(f"volume: wanted {size_bytes} bytes, available {available_bytes} in group {place}")
        # Noted with the creation: who is cut off after it leaves nothing that tells of no zeros.
        await self.tool.create(name, size_bytes, tags, self._pool)
        return LogicalVolume(name, size_bytes, frozenset(tags), None)

    async def _read_pool(self) -> LogicalVolume:
        """The thin pool. Raises StorageFailed, also when guests would read in it what was others'."""
        found, name = await self.tool.list_volumes(f"lv_name={self._pool}"), f"{self.tool.group}/{self._pool}"
        if not found:
            raise StorageFailed(f"thin pool {name} does not exist")
        if not found[0].gives_zeros:
            raise StorageFailed(f"thin pool {name} gives out what others have written: lvchange --zero y {name}")
        return found[0]

    async def _fill(self, half_made: LogicalVolume, image: CachedImage | None) -> list[str]:
        """It holds what it shall; answers its tags that tell of zeros."""
        await self.tool.activate(half_made.name)
        zeroed = [await self._zero(half_made.name, tag) for tag in half_made.tags if tag.startswith(ZERO)]
        if image is not None:
            path = self.path_of(half_made.name.removeprefix(PREFIX))
            await qemu_img.write_raw(image.path, image.disk_format, path)
        return zeroed

    async def _drop_half_made(self, uuid: str) -> None:
        found = await self._find(uuid, complete=False)
        if found is not None and COMPLETE not in found.tags:
            await self._discard(found.name)

    async def _discard(self, name: str) -> None:
        try:
            if await self.tool.list_volumes(f"lv_name={name}"):
                await self.tool.remove(name)
        except AgentError as error:  # the next start of the agent, or the next call, removes it
            log.warning("volume.leftover_kept", volume=name, reason=error.message)

    async def _extend(self, present: LogicalVolume, size_bytes: int) -> None:
        await self._ensure_zeroed(present)
        if size_bytes <= present.size_bytes:
            return
        wanted, free = size_bytes - present.size_bytes, (await self.capacity()).free_bytes
        if wanted > free:
            raise StorageExhausted(f"volume: wanted {wanted} bytes, available {free} in group {self.tool.group}")
        if self._pool:
            await self.tool.extend(present.name, size_bytes)
            return
        # Noted first: what comes with the new space is not the tenant's.
        await self.tool.change_tags(present.name, add=(f"{ZERO}{present.size_bytes}",))
        await self.tool.extend(present.name, size_bytes)
        await self._ensure_zeroed(await self.require(present.name.removeprefix(PREFIX)))

    async def _ensure_zeroed(self, found: LogicalVolume) -> None:
        for tag in [tag for tag in found.tags if tag.startswith(ZERO)]:
            await self.tool.activate(found.name)
            await self.tool.change_tags(found.name, remove=(await self._zero(found.name, tag),))

    async def _zero(self, name: str, tag: str) -> str:
        """Writes zeros from where the tag tells; answers the tag that tells of the end instead."""
        begin_bytes = marked_bytes = int(tag.removeprefix(ZERO))
        try:
            async with aclosing(wipe(self.path_of(name.removeprefix(PREFIX)), begin_bytes)) as pieces:
                async for done_bytes, total_bytes in pieces:
                    is_due = done_bytes - marked_bytes >= _MARK_BYTES or done_bytes == total_bytes
                    if is_due and done_bytes != marked_bytes:
                        former, marked_bytes = f"{ZERO}{marked_bytes}", done_bytes
                        await self.tool.change_tags(name, add=(f"{ZERO}{done_bytes}",), remove=(former,))
        except DeviceInUse as error:
            raise VolumeInUse(error.message) from error
        except DeviceWipeFailed as error:
            raise StorageFailed(error.message) from error
        return f"{ZERO}{marked_bytes}"

    async def _find(self, uuid: str, *, complete: bool = True) -> LogicalVolume | None:
        name, former = _name(uuid), f"{_FORMER}{uuid}"
        async with self._naming(uuid):
            found = {item.name: item for item in await self.tool.list_volumes(f"(lv_name={name} || lv_name={former})")}
            if former in found and name not in found:  # a rollback was cut off
                coming = await self.tool.list_volumes(f"lv_name={_COMING}{uuid}")
                await self.tool.rename(coming[0].name if coming else former, name)
                found = {item.name: item for item in await self.tool.list_volumes(f"lv_name={name}")}
        volume = found.get(name)
        return volume if volume and (not complete or COMPLETE in volume.tags) else None

    async def require(self, uuid: str) -> LogicalVolume:
        """The complete volume as LVM has it. Raises VolumeNotFound."""
        found = await self._find(uuid)
        if found is None:
            raise VolumeNotFound(f"volume {uuid} does not exist on this node")
        return found

    async def _in_extents(self, size_bytes: int) -> int:
        extent_bytes = (await self.tool.read_group()).extent_bytes
        return -(-size_bytes // extent_bytes) * extent_bytes

    @asynccontextmanager
    async def lock(self, uuid: str) -> AsyncGenerator[None]:
        """Nobody else changes this volume meanwhile."""
        async with self._locks.setdefault(uuid, asyncio.Lock()):
            yield

    @asynccontextmanager
    async def _naming(self, uuid: str) -> AsyncGenerator[None]:
        """Nobody sees the volume between two names."""
        async with self._names.setdefault(uuid, asyncio.Lock()):
            yield

    def path_of(self, uuid: str) -> Path:
        """The volume's device."""
        return self.device_of(_name(uuid))

    def device_of(self, name: str) -> Path:
        """That of any logical volume of the group."""
        return self._devices / self.tool.group / name


def _name(uuid: str) -> str:
    return f"{PREFIX}{uuid}"
