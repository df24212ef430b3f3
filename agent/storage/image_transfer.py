"""One image on its way from the coordinator into the cache."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import structlog

from agent.errors import (
    ImageCorrupt,
    ImageFormatMismatch,
    ImageSourceUnavailable,
    StorageExhausted,
    is_out_of_space,
)
from agent.storage.image_format import ImageFormat, check_image

# The bytes of an image from an offset to its end. Raises ImageNotFound, ImageSourceUnavailable.
ImageReader = Callable[[str, int], AsyncGenerator[bytes, None]]

_HASH_BLOCK_BYTES: Final = 4 * 1024**2
# How often the coordinator may fail in a row, without a byte, before the callers are told.
_FRUITLESS_ATTEMPTS: Final = 4
_FIRST_RETRY_SECONDS: Final = 0.5

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ImageRef:
    """An image as the coordinator names it: the checksum is part of its identity."""

    image_id: str
    sha256: str
    format: ImageFormat
    size_bytes: int


@dataclass(frozen=True)
class TransferProgress:
    """How much of an image is on the node."""

    done_bytes: int
    total_bytes: int


Publish = Callable[[ImageRef, Path, int], None]


class Transfer:
    """Fetches, verifies and publishes one image for all who follow it; ends early when nobody does."""

    def __init__(
        self, ref: ImageRef, *, part_path: Path, read_image: ImageReader, publish: Publish, reserved_bytes: int
    ) -> None:
        self.ref = ref
        self._part_path = part_path
        self._read_image = read_image
        self._publish = publish
        self._reserved_bytes = reserved_bytes
        self._done_bytes = 0
        self._followers = 0
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self, *, on_end: Callable[[], object]) -> None:
        """Begins to fetch; `on_end` is called once, however that ends."""
        self._task = asyncio.create_task(self._run(), name=f"image-{self.ref.image_id}")

        def end(task: asyncio.Task[None]) -> None:
            on_end()
            self._tell()
            if not task.cancelled():
                task.exception()  # whoever followed has seen it; nobody is left to warn

        self._task.add_done_callback(end)

    def join(self) -> None:
        """One more follower."""
        self._followers += 1

    async def leave(self) -> None:
        """One follower less; the last one ends the transfer."""
        self._followers -= 1
        if self._followers == 0:
            await self.cancel()

    async def cancel(self) -> None:
        """The transfer does not run any more; what was fetched is kept."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    async def follow(self) -> AsyncIterator[TransferProgress]:
        """Yields at each change until the image is cached; raises what made the transfer fail."""
        assert self._task is not None, "start() comes first"  # noqa: S101 - for the type checker
        while not self._task.done():
            changed = self._changed
            yield TransferProgress(self._done_bytes, self.ref.size_bytes)
            await changed.wait()
        if self._task.cancelled():
            raise ImageSourceUnavailable("the transfer was ended because the agent stops")
        self._task.result()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _run(self) -> None:
        try:
            digest = await self._fetch()
            if digest != self.ref.sha256 or self._done_bytes != self.ref.size_bytes:
                raise ImageCorrupt(
                    f"image {self.ref.image_id}: {self._done_bytes} bytes with SHA-256 {digest} came, "
                    f"{self.ref.size_bytes} with {self.ref.sha256} were expected"
                )
            virtual_size_bytes = await asyncio.to_thread(check_image, self._part_path, self.ref.format)
            await asyncio.to_thread(self._publish, self.ref, self._part_path, virtual_size_bytes)
        except (ImageCorrupt, ImageFormatMismatch, StorageExhausted):
            self._part_path.unlink(missing_ok=True)
            raise
        except OSError as error:
            if not is_out_of_space(error):
                raise
            # Half an image must not keep from the node what others need, or this image itself later.
            self._part_path.unlink(missing_ok=True)
            raise StorageExhausted(
                f"image: wanted {self.ref.size_bytes} bytes, the file system was full after {self._done_bytes}"
            ) from error
        log.info("image.cached", image_id=self.ref.image_id, size_bytes=self.ref.size_bytes)

    async def _fetch(self) -> str:
        """Completes the partial file and answers its SHA-256."""
        digest = hashlib.sha256()
        with self._part_path.open("ab+") as file:
            os.utime(file.fileno())  # it is wanted again, however old it is
            self._done_bytes = await asyncio.to_thread(_hash_present, file, digest)
            self._require_space()
            retry_seconds, fruitless = _FIRST_RETRY_SECONDS, 0
            while self._done_bytes < self.ref.size_bytes:
                before = self._done_bytes
                try:
                    await self._append(file, digest)
                    break
                except ImageSourceUnavailable:
                    fruitless = 0 if self._done_bytes > before else fruitless + 1
                    if fruitless >= _FRUITLESS_ATTEMPTS:
                        raise
                await asyncio.sleep(retry_seconds)
                retry_seconds = _FIRST_RETRY_SECONDS if fruitless == 0 else retry_seconds * 2
            await asyncio.to_thread(os.fsync, file.fileno())
        return digest.hexdigest()

    async def _append(self, file: BinaryIO, digest: hashlib._Hash) -> None:
        async with contextlib.aclosing(self._read_image(self.ref.image_id, self._done_bytes)) as chunks:
            async for chunk in chunks:
                self._done_bytes += len(chunk)
                if self._done_bytes > self.ref.size_bytes:
                    raise ImageCorrupt(
                        f"image {self.ref.image_id} is longer than the {self.ref.size_bytes} bytes expected"
                    )
                await asyncio.to_thread(_write, file, digest, chunk)
                self._tell()

    def _require_space(self) -> None:
        place = self._part_path.parent
        status = os.statvfs(place)
        available_bytes = max(0, status.f_bavail * status.f_frsize - self._reserved_bytes)
        wanted_bytes = self.ref.size_bytes - self._done_bytes
        if wanted_bytes > available_bytes:
            raise StorageExhausted(f"image: wanted {wanted_bytes} bytes, available {available_bytes} in {place}")


def _hash_present(file: BinaryIO, digest: hashlib._Hash) -> int:
    file.seek(0)
    present_bytes = 0
    while block := file.read(_HASH_BLOCK_BYTES):
        digest.update(block)
        present_bytes += len(block)
    return present_bytes


def _write(file: BinaryIO, digest: hashlib._Hash, chunk: bytes) -> None:
    file.write(chunk)
    file.flush()
    digest.update(chunk)
