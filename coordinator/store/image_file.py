"""Files of images: written beside their place, moved into it when they are known to be good."""

import contextlib
import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from coordinator.domain.image_format import HEAD_BYTES, check_format
from coordinator.errors import ImageUnusable, RequestTooLarge

_PART_SUFFIX = ".part"
# Nobody writes that long without a pause: its process has died.
_ABANDONED_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What is known about an image once its bytes are."""

    size_bytes: int
    virtual_size_bytes: int
    sha256: str


class ImageWriter:
    """Takes the bytes of one image; ends with `seal` and `publish`, and always with `discard`.

    Blocking: call it from threads.
    """

    def __init__(self, directory: Path, image_id: str, limit_bytes: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(directory)
        self._target = directory / image_id
        self._part = directory / f".{image_id}.{uuid4().hex}{_PART_SUFFIX}"
        self._file = self._part.open("xb")
        self._digest = hashlib.sha256()
        self._head = bytearray()
        self._limit_bytes = limit_bytes
        self.size_bytes = 0

    def write(self, data: bytes) -> None:
        """Takes the next bytes; RequestTooLarge when they are too many."""
        self.size_bytes += len(data)
        if self.size_bytes > self._limit_bytes:
            raise RequestTooLarge(
                f"an image may have at most {self._limit_bytes} bytes", f"镜像不能超过{self._limit_bytes}字节"
            )
        self._digest.update(data)
        if len(self._head) < HEAD_BYTES:
            self._head += data[: HEAD_BYTES - len(self._head)]
        self._file.write(data)

    def check(self, image_format: str, sha256: str) -> ImageFacts:
        """What was written; ImageUnusable when it is not of that format or digest (empty: any)."""
        found = self._digest.hexdigest()
        if sha256 and found != sha256.lower():
            raise ImageUnusable("sha256", f"the file's is {found}", f"文件的SHA-256为{found}")
        virtual_size_bytes = check_format(image_format, bytes(self._head), self.size_bytes)
        return ImageFacts(self.size_bytes, virtual_size_bytes, found)

    def seal(self) -> None:
        """Brings everything to the disk; nothing can be written after it."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def publish(self) -> None:
        """Moves the sealed file to its place, durably and at once."""
        self._part.replace(self._target)
        descriptor = os.open(self._target.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def discard(self) -> None:
        """Leaves nothing of what was not published; idempotent."""
        self._file.close()
        self._part.unlink(missing_ok=True)


def remove_image_file(directory: Path, image_id: str) -> None:
    """Removes the published file; idempotent."""
    (directory / image_id).unlink(missing_ok=True)


def _remove_abandoned(directory: Path) -> None:
    """Removes what processes that died were writing."""
    oldest = time.time() - _ABANDONED_SECONDS
    for part in directory.glob(f".*{_PART_SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):
            if part.stat().st_mtime < oldest:
                part.unlink()
