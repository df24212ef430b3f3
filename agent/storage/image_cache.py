"""Images of the coordinator, kept on the node by id; an image is served only after its SHA-256 was verified.

`<image id>.<format>` is a verified image and `<image id>.json` describes it; the description is written last, so an
image without one is fetched again. `<image id>.<start of the checksum>.part` is a transfer that is under way or was
interrupted: it is resumed where it ended, unless it ended because the disk was full.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal
from weakref import WeakValueDictionary

import structlog

from agent.durable_file import is_temporary, remove_file, temporary_beside, write_file
from agent.errors import AgentError, ImageInUse, ImageNotFound, RequestInvalid
from agent.storage.base import VolumeSpec
from agent.storage.image_format import ImageFormat
from agent.storage.image_transfer import ImageReader, ImageRef, Transfer, TransferProgress

# Who needs this image: volumes that it backs, domains that have it in a drive.
ImageUsers = Callable[[str], Awaitable[list[str]]]

_DIRECTORY_MODE: Final = 0o711
_PART_SUFFIX: Final = ".part"
# Nobody has asked for the rest of a transfer for so long that nobody will.
_PART_LIFE_SECONDS: Final = 24 * 3600
_SWEEP_SECONDS: Final = 3600.0
# Who has asked for an image makes something of it within this time.
_RECENT_SECONDS: Final = 900.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class CachedImage:
    """A verified image."""

    ref: ImageRef
    path: Path
    virtual_size_bytes: int

    @property
    def disk_format(self) -> Literal["qcow2", "raw"]:
        """How QEMU is to read the file: an ISO image is raw bytes to it."""
        return "qcow2" if self.ref.format == "qcow2" else "raw"


ImageLookup = Callable[[str], Awaitable[CachedImage | None]]


async def require_image(find_image: ImageLookup, spec: VolumeSpec) -> CachedImage | None:
    """The image below the volume, if it has one. Raises ImageNotFound, RequestInvalid when it does not fit in."""
    if spec.image_id is None:
        return None
    image = await find_image(spec.image_id)
    if image is None:
        raise ImageNotFound(f"image {spec.image_id} is not in the cache of this node")
    if spec.size_bytes < image.virtual_size_bytes:
        raise RequestInvalid(
            f"size_bytes: {spec.size_bytes} is less than the {image.virtual_size_bytes} of image {spec.image_id}"
        )
    return image


class ImageCache:
    """Keeps images until they are evicted; several callers share one transfer."""

    def __init__(
        self,
        directory: Path,
        *,
        read_image: ImageReader,
        find_users: ImageUsers,
        reserved_bytes: int,
        unused_life_seconds: float = 0.0,
    ) -> None:
        """An image that nobody has needed for `unused_life_seconds` is evicted; 0: only to make room for others."""
        self._directory = directory
        self._read_image = read_image
        self._find_users = find_users
        self._reserved_bytes = reserved_bytes
        self._unused_life_seconds = unused_life_seconds
        self._transfers: dict[str, Transfer] = {}
        # Nobody is told that an image is there while it goes.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def prepare(self) -> None:
        """The directory exists, and what a crash left is gone, except for transfers that can be resumed."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._directory.chmod(_DIRECTORY_MODE)
        for path in self._directory.iterdir():
            if _is_leftover(path):
                log.info("image.leftover_removed", path=str(path))
                path.unlink(missing_ok=True)

    async def run(self) -> None:
        """Removes transfers that nobody resumes and images that nobody needs, until it is cancelled."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            try:
                await self.sweep()
                await self.evict_unused()
            except (OSError, AgentError) as error:  # an image more or less on the disk ends no agent
                log.warning("image.sweep_failed", reason=str(error))

    async def evict_unused(self) -> None:
        """No image is left that nobody has needed for the configured time."""
        if self._unused_life_seconds:
            for image in await self._list_old(self._unused_life_seconds):
                await self._evict(image, self._unused_life_seconds)

    async def sweep(self) -> None:
        """No transfer is left that ended long ago; those that are under way go on."""
        parts = await asyncio.to_thread(lambda: list(self._directory.glob(f"*{_PART_SUFFIX}")))
        for path in parts:
            if path in self._parts_under_way() or not path.exists() or not _is_leftover(path):
                continue
            # A name that no transfer takes comes at once; to remove a large file takes its time.
            leftover = path.rename(temporary_beside(path))
            log.info("image.leftover_removed", path=str(path))
            await asyncio.to_thread(leftover.unlink)

    async def find(self, image_id: str) -> CachedImage | None:
        """The verified image of this id, None when it is not in the cache."""
        return await asyncio.to_thread(self._read, image_id)

    async def list_images(self) -> list[CachedImage]:
        """All verified images."""
        names = sorted(path.stem for path in self._directory.glob("*.json") if not is_temporary(path))
        return [image for name in names if (image := await self.find(name)) is not None]

    async def ensure_cached(self, ref: ImageRef) -> AsyncGenerator[TransferProgress, None]:
        """The image is in the cache; yields how far that is, and ends when it is.

        Closing the iterator ends the transfer when nobody else waits for it; what was fetched is kept.
        Raises ImageNotFound, ImageCorrupt, ImageFormatMismatch, ImageSourceUnavailable, StorageExhausted, and
        ImageInUse when volumes are backed by another image of this id.
        """
        if await self._claim(ref):
            yield TransferProgress(done_bytes=ref.size_bytes, total_bytes=ref.size_bytes)
            return
        if ref.image_id not in self._transfers:
            await self._make_room(ref.size_bytes)
        transfer = self._join_transfer(ref)
        try:
            async for progress in transfer.follow():
                yield progress
        finally:
            await transfer.leave()

    async def ensure_evicted(self, image_id: str) -> None:
        """The image is not in the cache. Absence is success. Raises ImageInUse while a volume or a drive needs it."""
        async with self._lock(image_id):
            await self._remove_unneeded(image_id)

    async def close(self) -> None:
        """Ends all transfers; what was fetched is kept."""
        for transfer in list(self._transfers.values()):
            await transfer.cancel()

    async def _claim(self, ref: ImageRef) -> bool:
        """Whether the image is there, and stays for a while; another one of this id is gone. Raises ImageInUse."""
        async with self._lock(ref.image_id):
            present = await self.find(ref.image_id)
            if present is not None and present.ref != ref:
                await self._remove_unneeded(ref.image_id)
                return False
            if present is not None:
                await asyncio.to_thread(os.utime, self._description_path(ref.image_id))
            return present is not None

    async def _list_old(self, seconds: float) -> list[CachedImage]:
        """Images that nobody has asked for in that time, the one that was asked for longest ago first."""
        asked = [(self._asked_at(image.ref.image_id), image) for image in await self.list_images()]
        asked.sort(key=lambda pair: pair[0])
        return [image for asked_at, image in asked if asked_at < time.time() - seconds]

    def _asked_at(self, image_id: str) -> float:
        """Seconds since 1970; of one that has gone meanwhile there is nothing to evict."""
        try:
            return self._description_path(image_id).stat().st_mtime
        except FileNotFoundError:
            return math.inf

    async def _make_room(self, wanted_bytes: int) -> None:
        """Evicts images that nobody needs until there is room, or none is left; the transfer tells of too little."""
        if self._free_bytes() >= wanted_bytes:
            return
        for image in await self._list_old(_RECENT_SECONDS):
            if self._free_bytes() >= wanted_bytes:
                return
            try:
                await self._evict(image, _RECENT_SECONDS)
            except AgentError as error:  # who cannot be asked counts as one who needs them
                log.warning("image.room_not_made", reason=error.message)
                return

    def _free_bytes(self) -> int:
        status = os.statvfs(self._directory)
        return max(0, status.f_bavail * status.f_frsize - self._reserved_bytes)

    async def _evict(self, image: CachedImage, seconds: float) -> None:
        """It is gone, unless somebody needs it, or has asked for it in that time: meanwhile, say."""
        image_id = image.ref.image_id
        async with self._lock(image_id):
            if self._asked_at(image_id) < time.time() - seconds:
                with contextlib.suppress(ImageInUse):
                    await self._remove_unneeded(image_id)
                    log.info("image.evicted", image_id=image_id, size_bytes=image.ref.size_bytes)

    async def _remove_unneeded(self, image_id: str) -> None:
        if users := await self._find_users(image_id):
            raise ImageInUse(f"image {image_id} is needed by {', '.join(users)}")
        await asyncio.to_thread(self._remove, image_id)

    def _lock(self, image_id: str) -> asyncio.Lock:
        return self._locks.setdefault(image_id, asyncio.Lock())

    def _join_transfer(self, ref: ImageRef) -> Transfer:
        transfer = self._transfers.get(ref.image_id)
        if transfer is not None and transfer.ref != ref:
            raise ImageInUse(f"image {ref.image_id} is being fetched with another checksum, format or size")
        if transfer is None:
            transfer = Transfer(
                ref,
                part_path=self._part_path(ref),
                read_image=self._read_image,
                publish=self._publish,
                reserved_bytes=self._reserved_bytes,
            )
            self._transfers[ref.image_id] = transfer
            transfer.start(on_end=lambda: self._transfers.pop(ref.image_id, None))
        transfer.join()
        return transfer

    def _publish(self, ref: ImageRef, part_path: Path, virtual_size_bytes: int) -> None:
        """The verified file, which is on disk, gets its name and its description."""
        # Readable by all: the QEMU of any guest reads its backing file, whatever its user is.
        part_path.chmod(0o644)
        path = part_path.replace(self._path(ref.image_id, ref.format))
        description = asdict(ref) | {"virtual_size_bytes": virtual_size_bytes}
        try:
            write_file(self._description_path(ref.image_id), json.dumps(description).encode())
        except OSError:
            # Without a description it would only take space.
            path.unlink(missing_ok=True)
            raise

    def _read(self, image_id: str) -> CachedImage | None:
        try:
            description = json.loads(self._description_path(image_id).read_bytes())
            virtual_size_bytes = int(description.pop("virtual_size_bytes"))
            ref = ImageRef(**description)
            path = self._path(image_id, ref.format)
            complete = path.stat().st_size == ref.size_bytes
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        return CachedImage(ref, path, virtual_size_bytes) if complete else None

    def _remove(self, image_id: str) -> None:
        remove_file(self._description_path(image_id))
        for path in self._directory.glob(f"{image_id}.*"):
            if image_id not in self._transfers or path.suffix != _PART_SUFFIX:
                remove_file(path)

    def _parts_under_way(self) -> set[Path]:
        return {self._part_path(transfer.ref) for transfer in self._transfers.values()}

    def _part_path(self, ref: ImageRef) -> Path:
        return self._directory / f"{ref.image_id}.{ref.sha256[:16]}{_PART_SUFFIX}"

    def _path(self, image_id: str, image_format: ImageFormat) -> Path:
        return self._directory / f"{image_id}.{image_format}"

    def _description_path(self, image_id: str) -> Path:
        return self._directory / f"{image_id}.json"


def _is_leftover(path: Path) -> bool:
    if path.suffix == _PART_SUFFIX:
        return path.stat().st_mtime < time.time() - _PART_LIFE_SECONDS
    return is_temporary(path) or not path.with_suffix(".json").exists()
