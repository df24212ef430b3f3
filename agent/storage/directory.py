"""Volumes as files in a directory: a qcow2 overlay on a cached image, an empty disk, a raw one for several guests.

`<uuid>.qcow2` or `<uuid>.raw` is a volume: it gets this name only when it is complete and on disk, so what has another
name is a leftover. Size and backing image are read from the file itself; `<uuid>.json` adds what the file cannot hold,
and is written first.

Several nodes may share the directory. What is done to a volume is done under a lock that reaches across hosts; a name
is given by a link, which only one of them can make; and a volume that QEMU has open anywhere is left alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

import structlog

from agent.durable_file import is_temporary, owner_of, publish_new, sync_directory, temporary_beside, write_file
from agent.errors import (
    CapabilityMissing,
    ImageNotFound,
    RequestInvalid,
    StorageExhausted,
    StorageFailed,
    VolumeInUse,
    VolumeKeyRefused,
    VolumeNotFound,
    VolumePresent,
)
from agent.storage import qemu_img
from agent.storage.base import (
    Resize,
    StorageCapacity,
    StorageSpace,
    Volume,
    VolumeSource,
    VolumeSpec,
    in_blocks,
    make_space,
    refuse_shrinking,
)
from agent.storage.image_cache import CachedImage, ImageLookup, require_image
from agent.storage.image_format import read_qcow2_header
from agent.storage.share import Share
from agent.storage.shared import ensure_storage_id, is_open_in_qemu, leave_mark, locked
from agent.storage.volume_file import QCOW2, RAW, check_content, make_raw, read_volume, supports_direct_io

# Names of the running domains that have this file open.
FileUsers = Callable[[Path], Awaitable[list[str]]]
# The file with the passphrase of the volume of this UUID.
FindKey = Callable[[str], Awaitable[Path]]

# libvirt's QEMU runs as another user: it may pass through, and its file is handed to it at the start of a guest.
_DIRECTORY_MODE: Final = 0o711
# A file that another node has been writing for so long will not be finished.
_FOREIGN_LIFE_SECONDS: Final = 48 * 3600

log = structlog.get_logger(__name__)


async def _refuse_key(uuid: str) -> Path:
    """Nobody gives keys here."""
    raise VolumeKeyRefused(f"volume {uuid}: encrypted volumes are opened with the coordinator's keys alone")


class DirectoryBackend:
    """Volumes in one directory of a local (or shared) file system."""

    def __init__(
        self,
        directory: Path,
        *,
        owner: str,
        find_image: ImageLookup,
        find_users: FileUsers,
        reserved_bytes: int,
        share: Share | None = None,
        find_key: FindKey = _refuse_key,
    ) -> None:
        """`owner` tells this node's unfinished files from those of others that share the directory."""
        self._directory = directory
        self._share = share or Share(directory)
        self._is_prepared = False
        self._is_direct: bool | None = None
        self._owner = owner
        self._find_image = find_image
        self._find_users = find_users
        self._reserved_bytes = reserved_bytes
        self._find_key = find_key
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def prepare(self) -> None:
        """The directory exists and has its identity, and what a crash of this node left half-made is gone.

        While its share is away that waits until it is needed.
        """
        try:
            self._share.run_now(self._prepare)
        except StorageFailed as error:
            log.warning("volumes.away", reason=error.message)

    def _prepare(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._directory.chmod(_DIRECTORY_MODE)
        for path in self._directory.iterdir():
            if is_temporary(path) and self._is_leftover(path):
                log.info("volume.leftover_removed", path=str(path))
                path.unlink(missing_ok=True)
        ensure_storage_id(self._directory, self._owner)
        leave_mark(self._directory, self._owner)
        self._is_prepared = True

    async def ensure_volume(self, spec: VolumeSpec) -> Volume:
        """See StorageBackend."""
        spec = replace(spec, size_bytes=in_blocks(spec.size_bytes))
        async with self.lock(spec.uuid):
            present = await self.find_volume(spec.uuid)
            if present is None:
                await self._create(spec)
                present = await self.get_volume(spec.uuid)
            await self._ensure_size(present, spec)
            return await self.get_volume(spec.uuid)

    async def grow_volume(self, uuid: str, size_bytes: int, resize: Resize) -> Volume:
        """See StorageBackend."""
        size_bytes = in_blocks(size_bytes)
        async with self.lock(uuid):
            present = await self.get_volume(uuid)
            refuse_shrinking(present, size_bytes)
            if size_bytes > present.size_bytes:
                await self.require_space(size_bytes - present.size_bytes)
            if present.shared:
                # Whoever has it open goes on with the size that it knows, until its own guest is told.
                await self._share.run(os.truncate, await self._find_path(uuid), size_bytes)
                await resize(size_bytes)
            elif size_bytes > present.size_bytes and not await resize(size_bytes):
                await self.refuse_while_open(uuid)
                await qemu_img.grow(await self._find_path(uuid), size_bytes, key=await self.find_key(present))
            return await self.get_volume(uuid)

    async def ensure_removed(self, uuid: str) -> None:
        """See StorageBackend."""
        async with self.lock(uuid):
            path = await self._find_path(uuid)
            if await self._share.run(path.exists):
                await self.refuse_while_open(uuid)
            await self._share.run(self._remove, path)

    async def list_volumes(self) -> list[Volume]:
        """See StorageBackend."""
        return await self._share.run(self._read_all)

    async def describe_volume(self, uuid: str) -> VolumeSource:
        """See StorageBackend."""
        volume = await self.get_volume(uuid)
        return VolumeSource(
            path=await self._find_path(uuid),
            format="raw" if volume.shared else "qcow2",
            shared=volume.shared,
            volume_type=volume.volume_type,
            encrypted=volume.encrypted,
        )

    async def find_key(self, volume: Volume | VolumeSpec) -> Path | None:
        """The file with its passphrase; None: it is not encrypted. Raises VolumeKeyRefused, VolumeKeyUnavailable."""
        return await self._find_key(volume.uuid) if volume.encrypted else None

    async def find_volume(self, uuid: str) -> Volume | None:
        """The complete volume, None when it is not here."""
        return await self._share.run(self._read, uuid)

    async def get_volume(self, uuid: str) -> Volume:
        """The same. Raises VolumeNotFound."""
        volume = await self.find_volume(uuid)
        if volume is None:
            raise VolumeNotFound(f"volume {uuid} does not exist on this node, or not as a file")
        return volume

    def reserve(self, uuid: str, suffix: str = QCOW2) -> Path:
        """The name of a file that may become the volume; it is removed with the next start unless it has."""
        return temporary_beside(self._directory / f"{uuid}{suffix}", self._owner)

    async def discard(self, file: Path) -> None:
        """What was reserved is gone, unless it became the volume; of a silent share, as soon as that answers."""
        try:
            await self._share.finish(file.unlink, missing_ok=True)
        except (StorageFailed, OSError) as error:  # the next start removes it
            log.warning("volume.leftover_kept", path=str(file), reason=str(error))

    async def adopt(self, file: Path, spec: VolumeSpec, transfer_id: str) -> Volume:
        """The file, which a transfer has brought from another node, becomes the volume.

        Raises VolumeCorrupt when it is no such volume, ImageNotFound, and VolumePresent when there is one already.
        """
        image = await self.require_image(spec)
        check_content(await self._share.run(read_qcow2_header, file), spec)
        if image is not None:
            await qemu_img.rebase(file, image.path, image.disk_format, key=await self.find_key(spec))
        async with self.lock(spec.uuid):
            try:
                await self._publish(file, spec, image, {"volumeType": spec.volume_type, "transferId": transfer_id})
            except FileExistsError:
                raise VolumePresent(f"volume {spec.uuid} is on this node already") from None
            return await self.get_volume(spec.uuid)

    async def capacity(self) -> StorageCapacity:
        """See StorageBackend."""
        if not self._is_prepared:
            await self._share.run(self._prepare)
        return await self._share.run(measure_capacity, self._directory, self._reserved_bytes)

    async def measure(self) -> StorageSpace:
        """See Measurable."""
        # In this order what is removed meanwhile is counted once.
        capacity, volumes, storage_id = await self.capacity(), await self.list_volumes(), await self.storage_id()
        return make_space(capacity, volumes, pool_id=storage_id, storage_id=storage_id)

    async def supports_direct_io(self) -> bool:
        """Whether files can be opened past the page cache. Raises StorageFailed while that cannot be told."""
        if self._is_direct is None:
            self._is_direct = await self._share.run(supports_direct_io, self._directory)
        return self._is_direct

    async def volumes_backed_by(self, image_id: str) -> list[str]:
        """UUIDs of the volumes whose unwritten parts come from this image."""
        return [volume.uuid for volume in await self.list_volumes() if volume.image_id == image_id]

    async def storage_id(self) -> str:
        """See StorageBackend; read anew each time, for a file system may be mounted over the directory."""
        return await self._share.run(ensure_storage_id, self._directory, self._owner)

    @contextlib.asynccontextmanager
    async def lock(self, uuid: str) -> AsyncGenerator[None]:
        """Nobody else, here or on a node that shares the directory, changes this volume meanwhile."""
        # Callers here wait in a row; only the first of them asks the other hosts again and again.
        async with self._locks.setdefault(uuid, asyncio.Lock()):
            if not self._is_prepared:
                await self._share.run(self._prepare)
            async with locked(self._directory, uuid, self._share):
                yield

    async def require_space(self, wanted_bytes: int) -> None:
        """Raises StorageExhausted when there is less."""
        available_bytes = (await self.capacity()).free_bytes
        if wanted_bytes > available_bytes:
            place = self._directory
            raise StorageExhausted(f"volume: wanted {wanted_bytes} bytes, available {available_bytes} in {place}")

    async def refuse_while_open(self, uuid: str, *, for_writing: bool = False) -> None:
        """Raises VolumeInUse while a domain, here or on another node, or a copy has it open (for writing)."""
        path = await self._find_path(uuid)
        if users := await self._find_users(path):
            raise VolumeInUse(f"volume {uuid} is used by the running domain {', '.join(users)}")
        if await self._share.run(is_open_in_qemu, path, for_writing=for_writing):
            raise VolumeInUse(f"volume {uuid} is open in QEMU, perhaps on another node that shares it")

    async def _create(self, spec: VolumeSpec) -> None:
        image, key = await self.require_image(spec), await self.find_key(spec)
        await self.require_space(spec.size_bytes)
        temporary = self.reserve(spec.uuid, RAW if spec.shared else QCOW2)
        try:
            if spec.shared:
                await self._require_direct_io()
                await self._share.run(make_raw, temporary, spec.size_bytes)
            elif image is None:
                await qemu_img.create_empty(temporary, spec.size_bytes, key=key)
            else:
                await qemu_img.create_overlay(temporary, spec.size_bytes, image.path, image.disk_format, key=key)
            await self.publish(temporary, spec, image)
        finally:
            await self.discard(temporary)

    async def require_image(self, spec: VolumeSpec) -> CachedImage | None:
        """The image below the volume, if it has one. Raises ImageNotFound, RequestInvalid when it does not fit in."""
        return await require_image(self._find_image, spec)

    async def _ensure_size(self, present: Volume, spec: VolumeSpec) -> None:
        refuse_shrinking(present, spec.size_bytes)
        if spec.image_id != present.image_id:
            raise RequestInvalid(f"image: volume {spec.uuid} was made from {present.image_id or 'no image'}")
        if spec.shared != present.shared:
            raise RequestInvalid(f"shared: volume {spec.uuid} was made {'' if present.shared else 'not '}to be shared")
        if spec.encrypted != present.encrypted:
            raise RequestInvalid(
                f"encrypted: volume {spec.uuid} was made {'' if present.encrypted else 'not '}encrypted"
            )
        if spec.size_bytes > present.size_bytes:
            await self.refuse_while_open(spec.uuid)
            await self.require_space(spec.size_bytes - present.size_bytes)
            if present.shared:
                await self._share.run(os.truncate, await self._find_path(spec.uuid), spec.size_bytes)
            else:
                path, key = await self._find_path(spec.uuid), await self.find_key(present)
                await qemu_img.grow(path, spec.size_bytes, key=key)

    async def _require_direct_io(self) -> None:
        if not await self.supports_direct_io():
            raise CapabilityMissing(
                f"shared: files in {self._directory} cannot be written past the page cache, and guests of other nodes "
                "would not see what the others write"
            )

    async def publish(self, temporary: Path, spec: VolumeSpec, image: CachedImage | None) -> None:
        """A finished file that was made under a reserved name becomes the volume; one that there is already is kept.

        Raises ImageNotFound.
        """
        with contextlib.suppress(FileExistsError):  # a node has made it where locks do not reach across hosts
            await self._publish(temporary, spec, image, {"volumeType": spec.volume_type})

    async def _publish(
        self, temporary: Path, spec: VolumeSpec, image: CachedImage | None, description: dict[str, str]
    ) -> None:
        """The finished file becomes the volume. Raises FileExistsError, and keeps the volume that is there."""
        path = self._directory / f"{spec.uuid}{temporary.suffix}"
        await self._share.run(self._name, temporary, path, description)
        if image is not None and await self._find_image(image.ref.image_id) != image:
            # Evicted meanwhile: from now on, with the volume in place, it could not be.
            await self._share.run(self._remove, path)
            raise ImageNotFound(f"image {spec.image_id} was evicted from the cache of this node")

    def _name(self, temporary: Path, path: Path, description: dict[str, str]) -> None:
        if path.exists():
            raise FileExistsError(path)
        temporary.chmod(0o600)
        write_file(path.with_suffix(".json"), json.dumps(description).encode(), owner=self._owner)
        publish_new(temporary, path)

    def _is_leftover(self, temporary: Path) -> bool:
        if owner_of(temporary) in ("", self._owner):
            return True
        with contextlib.suppress(FileNotFoundError):  # its owner has finished it
            return temporary.stat().st_mtime < time.time() - _FOREIGN_LIFE_SECONDS
        return False

    def _remove(self, path: Path) -> None:
        # The data first: as long as there is a volume, its description is complete.
        path.unlink(missing_ok=True)
        path.with_suffix(".json").unlink(missing_ok=True)
        sync_directory(path.parent)

    def _read_all(self) -> list[Volume]:
        paths = [path for path in self._directory.iterdir() if path.suffix in (QCOW2, RAW) and not is_temporary(path)]
        return [volume for path in sorted(paths) if (volume := read_volume(path)) is not None]

    def _read(self, uuid: str) -> Volume | None:
        return read_volume(self._path(uuid))

    async def _find_path(self, uuid: str) -> Path:
        return await self._share.run(self._path, uuid)

    def _path(self, uuid: str) -> Path:
        """The volume's file, or the one that it would be."""
        raw = self._directory / f"{uuid}{RAW}"
        return raw if raw.exists() else raw.with_suffix(QCOW2)


def measure_capacity(directory: Path, reserved_bytes: int) -> StorageCapacity:
    """Space of the directory's file system, less what guests never get."""
    status = os.statvfs(directory)
    return StorageCapacity(
        total_bytes=max(0, status.f_blocks * status.f_frsize - reserved_bytes),
        free_bytes=max(0, status.f_bavail * status.f_frsize - reserved_bytes),
    )
