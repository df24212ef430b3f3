"""Volumes as images of a Ceph pool, which nodes may share.

`nw-<uuid>` or `nw-<uuid>.<namespace>` is a volume once Ceph keeps our note with it, which tells
what Ceph cannot know; without, it is half made, and whoever makes or removes the volume deals with that. A volume from
an image is a clone of it: what it has not written itself comes from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Final
from uuid import NAMESPACE_DNS, uuid5
from weakref import WeakValueDictionary

import psutil
import structlog

from agent.errors import (
    CapabilityMissing,
    RequestInvalid,
    StorageExhausted,
    StorageFailed,
    VolumeInUse,
    VolumeNotFound,
)
from agent.storage import qemu_img
from agent.storage.base import (
    RbdSource,
    Resize,
    StorageCapacity,
    StorageSpace,
    Volume,
    VolumeSource,
    VolumeSpec,
    in_blocks,
    refuse_shrinking,
)
from agent.storage.image_cache import ImageLookup, require_image
from agent.storage.rbd_base import RbdBases
from agent.storage.rbd_tool import RbdImage, RbdTool

# Names of the running domains, besides the one of this UUID, that have the image.
ImageUsers = Callable[[Path, str], Awaitable[list[str]]]
# Has libvirt keep the key under this UUID: (UUID, what it is for, key in base64).
KeepKey = Callable[[str, str, str], Awaitable[None]]

_PREFIX: Final = "nw-"
_NAME: Final = re.compile(r"nw-([0-9a-f-]{36})(.*)")
_NOTE: Final = "nodewright"
# So old may be what is told of the pool's space; to ask costs a second.
_CAPACITY_SECONDS: Final = 60.0
# Ceph forgets a client that has died after half a minute.
_FORGET_SECONDS: Final = 40.0
_LOOK_SECONDS: Final = 1.0
_LISTED_AT_ONCE: Final = 4

log = structlog.get_logger(__name__)


def list_own_addresses() -> set[str]:
    """All addresses of this machine."""
    return {item.address.partition("%")[0] for items in psutil.net_if_addrs().values() for item in items}


class RbdBackend:
    """Volumes in one pool."""

    def __init__(
        self,
        tool: RbdTool,
        *,
        owner: str,
        namespace: str,
        find_image: ImageLookup,
        find_users: ImageUsers,
        keep_key: KeepKey,
        own_addresses: Callable[[], set[str]] = list_own_addresses,
    ) -> None:
        """Nodes with the same `namespace` have the same volumes in the pool; they know nothing of others there."""
        self.tool = tool
        self._bases = RbdBases(tool, owner, find_image)
        self._suffix = f".{namespace}" if namespace else ""
        self._find_image = find_image
        self._find_users = find_users
        self._keep_key = keep_key
        self._own_addresses = own_addresses
        self._capacity: tuple[float, StorageCapacity] | None = None
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def prepare(self) -> None:
        """libvirt has the key. Raises StorageFailed when there is none; Ceph is not asked."""
        access = self.tool.access
        key = await asyncio.to_thread(access.read_key)
        await self._keep_key(self._secret_uuid(), f"client.{access.user} of Nodewright", key)

    async def sweep(self) -> None:
        """Images that nobody needs in the pool are gone from it."""
        await self._bases.sweep()

    async def ensure_volume(self, spec: VolumeSpec) -> Volume:
        """See StorageBackend; the first volume of an image takes as long as it takes to bring that into the pool."""
        if spec.shared:
            raise CapabilityMissing("shared: volumes in Ceph are not shared by guests yet")
        size_bytes = in_blocks(spec.size_bytes)
        async with self.lock(spec.uuid):
            present = await self.find_volume(spec.uuid)
            if present is None:
                await self._create(spec, size_bytes)
                return await self.get_volume(spec.uuid)
            refuse_shrinking(present, size_bytes)
            if spec.image_id != present.image_id:
                raise RequestInvalid(f"image: volume {spec.uuid} was made from {present.image_id or 'no image'}")
            await self._extend(present, size_bytes)
            return await self.get_volume(spec.uuid)

    async def grow_volume(self, uuid: str, size_bytes: int, resize: Resize) -> Volume:
        """See StorageBackend."""
        size_bytes = in_blocks(size_bytes)
        async with self.lock(uuid):
            present = await self.get_volume(uuid)
            refuse_shrinking(present, size_bytes)
            if size_bytes > present.size_bytes:
                await self.require_space(size_bytes - present.size_bytes)
                if not await resize(size_bytes):
                    await self._extend(present, size_bytes)
            return await self.get_volume(uuid)

    async def ensure_removed(self, uuid: str) -> None:
        """See StorageBackend; its snapshots go with it."""
        async with self.lock(uuid):
            name = self.name_of(uuid)
            found = await self.tool.find_image(name)
            if found is not None:
                await self.refuse_while_open(uuid)
            elif name not in await self.tool.list_images(name):
                return
            with contextlib.suppress(VolumeNotFound):
                await self.tool.remove(name)
            if found is not None:
                await self._bases.release(found.parent)

    async def list_volumes(self) -> list[Volume]:
        """See StorageBackend."""
        names, turn = await self.tool.list_images(_PREFIX), asyncio.Semaphore(_LISTED_AT_ONCE)

        async def read(uuid: str) -> Volume | None:
            async with turn:
                return await self.find_volume(uuid)

        uuids = [found[1] for name in names if (found := _NAME.fullmatch(name)) and found[2] == self._suffix]
        return [volume for volume in await asyncio.gather(*map(read, uuids)) if volume is not None]

    async def find_volume(self, uuid: str) -> Volume | None:
        """The complete volume, None when it is not there."""
        name = self.name_of(uuid)
        note = await self._read_note(uuid)
        found = await self.tool.find_image(name) if note is not None else None
        if note is None or found is None:
            return None
        try:
            allocated_bytes = await self.tool.measure(name)
        except VolumeNotFound:  # a node has removed it since
            return None
        return Volume(
            uuid=uuid,
            size_bytes=found.size_bytes,
            allocated_bytes=allocated_bytes,
            volume_type=note.get("volumeType", ""),
            image_id=note.get("imageId") or None,
            backend="ceph",
        )

    async def has_volume(self, uuid: str) -> bool:
        """Whether the complete volume is there."""
        return await self._read_note(uuid) is not None

    async def get_volume(self, uuid: str) -> Volume:
        """The same. Raises VolumeNotFound."""
        volume = await self.find_volume(uuid)
        if volume is None:
            raise VolumeNotFound(f"volume {uuid} does not exist in pool {self.tool.pool}")
        return volume

    async def require_volume(self, uuid: str) -> dict[str, str]:
        """What is noted of the complete volume; cheaper than `get_volume`. Raises VolumeNotFound."""
        note = await self._read_note(uuid)
        if note is None:
            raise VolumeNotFound(f"volume {uuid} does not exist in pool {self.tool.pool}")
        return note

    async def fill_from(self, spec: VolumeSpec, tool: RbdTool, image: str, snapshot: str) -> AsyncGenerator[int, None]:
        """Makes the volume, which does not exist and is locked, a copy of an image of this cluster; yields percentages.

        `tool` is that of the image's pool; `snapshot` empty: of what it holds now. Raises StorageExhausted.
        """
        name = self.name_of(spec.uuid)
        half_made = await self.tool.find_image(name)
        if half_made is not None:
            await self._remove_half_made(spec.uuid, half_made)
        await self.require_space(await tool.measure(image))
        await self.tool.create(name, in_blocks(spec.size_bytes))
        copying = qemu_img.fill(tool.address(image, snapshot), self.tool.address(name))
        async with aclosing(copying) as percents:
            async for percent in percents:
                yield percent
        await self._note(spec)

    async def describe_volume(self, uuid: str) -> VolumeSource:
        """See StorageBackend; libvirt has the key."""
        note = await self.require_volume(uuid)
        await self.prepare()
        access = self.tool.access
        return VolumeSource(
            path=self.path_of(uuid),
            format="raw",
            kind="network",
            rbd=RbdSource(access.config, access.user, self._secret_uuid()),
            volume_type=note.get("volumeType", ""),
        )

    async def capacity(self) -> StorageCapacity:
        """See StorageBackend; a minute old at most."""
        if self._capacity is None or time.monotonic() - self._capacity[0] > _CAPACITY_SECONDS:
            self._capacity = (time.monotonic(), await self.tool.read_capacity())
        return self._capacity[1]

    async def measure(self) -> StorageSpace:
        """See Measurable; of all that is in the pool, for to ask each image takes long."""
        capacity, pool = await self.capacity(), await self._pool_name()
        return StorageSpace(
            pool_id=str(uuid5(NAMESPACE_DNS, pool)),
            storage_id=await self.storage_id(),
            total_bytes=capacity.total_bytes,
            free_bytes=capacity.free_bytes,
            allocated_bytes=capacity.total_bytes - capacity.free_bytes,
            virtual_bytes=0,
        )

    async def storage_id(self) -> str:
        """See StorageBackend."""
        return str(uuid5(NAMESPACE_DNS, f"{await self._pool_name()}{self._suffix}"))

    async def _pool_name(self) -> str:
        """Unique in the world."""
        return f"{await asyncio.to_thread(self.tool.access.read_cluster_id)}/{self.tool.pool}"

    @asynccontextmanager
    async def lock(self, uuid: str) -> AsyncGenerator[None]:
        """Nobody else here changes this volume meanwhile."""
        async with self._locks.setdefault(uuid, asyncio.Lock()):
            yield

    async def require_space(self, wanted_bytes: int) -> None:
        """Raises StorageExhausted when there is less."""
        available_bytes = (await self.capacity()).free_bytes
        if wanted_bytes > available_bytes:
            place = self.tool.pool
            raise StorageExhausted(f"volume: wanted {wanted_bytes} bytes, available {available_bytes} in pool {place}")

    async def refuse_while_open(self, uuid: str) -> None:
        """Raises VolumeInUse while a domain or a tool, here or on another node, has it open."""
        if users := await self._find_users(self.path_of(uuid), ""):
            raise VolumeInUse(f"volume {uuid} is used by the running domain {', '.join(users)}")
        deadline = time.monotonic() + _FORGET_SECONDS
        while users := await self.tool.list_users(self.name_of(uuid)):
            # What was killed here, Ceph takes for alive for a while.
            if self._find_elsewhere(users) or time.monotonic() > deadline:
                raise VolumeInUse(f"volume {uuid} is open at {', '.join(users)}")
            await asyncio.sleep(_LOOK_SECONDS)

    async def refuse_while_others_have(self, uuid: str, domain_uuid: str) -> None:
        """Raises VolumeInUse while another domain than this one has it open, here or on another node.

        Ceph lets any number of them write to one image. What died on this node is not taken for one.
        """
        if users := await self._find_users(self.path_of(uuid), domain_uuid):
            raise VolumeInUse(f"volume {uuid} is used by the running domain {', '.join(users)}")
        if elsewhere := self._find_elsewhere(await self.tool.list_users(self.name_of(uuid))):
            raise VolumeInUse(f"volume {uuid} is open at {', '.join(elsewhere)}, on another node")

    def name_of(self, uuid: str) -> str:
        """What Ceph calls it."""
        return f"{_PREFIX}{uuid}{self._suffix}"

    def _find_elsewhere(self, addresses: list[str]) -> list[str]:
        own = self._own_addresses()
        return [address for address in addresses if address not in own and not _is_loopback(address)]

    def path_of(self, uuid: str) -> Path:
        """What QEMU and libvirt call it, in the form of a path."""
        return Path(self.tool.pool, self.name_of(uuid))

    def volume_of(self, path: Path) -> str | None:
        """The volume's UUID, of what `path_of` answers for it; None for anything else."""
        found = _NAME.fullmatch(path.name)
        return found[1] if found and path == self.path_of(found[1]) else None

    async def _read_note(self, uuid: str) -> dict[str, str] | None:
        text = await self.tool.find_note(self.name_of(uuid), _NOTE)
        if text is None:
            return None
        try:
            return {str(key): str(value) for key, value in json.loads(text).items()}
        except (ValueError, AttributeError) as error:
            raise StorageFailed(f"volume {uuid}: the note at its image is not ours: {text!r}") from error

    async def _create(self, spec: VolumeSpec, size_bytes: int) -> None:
        image, name = await require_image(self._find_image, spec), self.name_of(spec.uuid)
        half_made = await self.tool.find_image(name)
        if half_made is not None:
            await self._remove_half_made(spec.uuid, half_made)
        await self.require_space(size_bytes)
        if image is None:
            await self.tool.create(name, size_bytes)
        else:
            await self._bases.clone(image, name)
            if size_bytes > image.virtual_size_bytes:
                await self.tool.resize(name, size_bytes)
        await self._note(spec)

    async def _note(self, spec: VolumeSpec) -> None:
        """Now it is the volume."""
        note = {"volumeType": spec.volume_type, "imageId": spec.image_id or ""}
        await self.tool.note(self.name_of(spec.uuid), _NOTE, json.dumps(note))

    async def _remove_half_made(self, uuid: str, found: RbdImage) -> None:
        log.info("volume.leftover_removed", uuid=uuid, parent=found.parent)
        await self.refuse_while_open(uuid)
        await self.tool.remove(self.name_of(uuid))

    async def _extend(self, present: Volume, size_bytes: int) -> None:
        if size_bytes > present.size_bytes:
            await self.refuse_while_open(present.uuid)
            await self.require_space(size_bytes - present.size_bytes)
            await self.tool.resize(self.name_of(present.uuid), size_bytes)

    def _secret_uuid(self) -> str:
        """The same on all nodes: a guest takes it along when it moves."""
        return str(uuid5(NAMESPACE_DNS, f"ceph.nodewright/client.{self.tool.access.user}"))


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:  # a form of Ceph's that is not known here is nobody we know
        return False
