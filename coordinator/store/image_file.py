"""Files of images: written beside their place, moved into it when they are known to be good."""

import contextlib
import errno
import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from coordinator.domain.image_format import HEAD_BYTES, check_format
from coordinator.errors import ImageStorageFull, ImageUnusable, RequestTooLarge

_PART_SUFFIX = ".part"
# Nobody writes that long without a pause: its process has died.
_ABANDONED_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What is known about an image once its bytes are."""

    format: str
    size_bytes: int
    virtual_size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """Most bytes of a file, and of the disk that it describes."""

    file_bytes: int
    virtual_bytes: int


class ImageWriter:
    """Takes the bytes of one image; ends with `seal` and `publish`, and always with `discard`.

    Blocking: call it from threads.
    """

    def __init__(self, directory: Path, image_id: str, limits: ImageLimits) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(directory)
        self._target = directory / image_id
        self._part = directory / f".{image_id}.{uuid4().hex}{_PART_SUFFIX}"
        self._file = self._part.open("xb")
        self._digest = hashlib.sha256()
        self._head = bytearray()
        self._limits = limits
        self.size_bytes = 0

    def write(self, data: bytes) -> None:
        """Takes the next bytes; RequestTooLarge when they are too many, ImageStorageFull."""
        self.size_bytes += len(data)
        if self.size_bytes > self._limits.file_bytes:
            raise image_too_large(self._limits.file_bytes)
        self._digest.update(data)
        if len(self._head) < HEAD_BYTES:
            self._head += data[: HEAD_BYTES - len(self._head)]
        with telling_full():
            self._file.write(data)

    def check(self, image_format: str, sha256: str) -> ImageFacts:
        """What was written; ImageUnusable when it is not of that format or digest (empty: any)."""
        facts = check_facts(bytes(self._head), self.size_bytes, self._digest.hexdigest(), image_format, self._limits)
        return check_digest(facts, sha256)

    def seal(self) -> None:
        """Brings everything to the disk; nothing can be written after it. ImageStorageFull."""
        with telling_full():
            self._file.flush()
            os.fsync(self._file.fileno())
        self._file.close()

    def publish(self) -> None:
        """Moves the sealed file to its place, durably and at once."""
        publish_image_file(self._part, self._target)

    def discard(self) -> None:
        """Leaves nothing of what was not published; idempotent."""
        with contextlib.suppress(OSError):  # what could not be written is not wanted any more
            self._file.close()
        self._part.unlink(missing_ok=True)


@contextlib.contextmanager
def telling_full() -> Iterator[None]:
    """ImageStorageFull when the file system has no room for what is written."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ImageStorageFull(
            "the coordinator has no room for the image's file", "控制节点的镜像存储空间不足"
        ) from error


def check_facts(head: bytes, size_bytes: int, digest: str, image_format: str, limits: ImageLimits) -> ImageFacts:
    """What a file with this beginning is; ImageUnusable when it may not be used, or is not of that format."""
    shape = check_format(image_format, head, size_bytes, limits.virtual_bytes)
    return ImageFacts(shape.format, size_bytes, shape.virtual_size_bytes, digest)


def check_digest(facts: ImageFacts, sha256: str) -> ImageFacts:
    """The same; ImageUnusable when the file has another digest than that (empty: any)."""
    if sha256 and facts.sha256 != sha256.lower():
        raise ImageUnusable("sha256", f"the file's is {facts.sha256}", f"文件的SHA-256为{facts.sha256}")
    return facts


def image_too_large(limit_bytes: int) -> RequestTooLarge:
    """Says how large an image may be."""
    return RequestTooLarge(f"an image may have at most {limit_bytes} bytes", f"镜像不能超过{limit_bytes}字节")


def publish_image_file(part: Path, target: Path) -> None:
    """Moves a file, which is on the disk, to its place, durably and at once."""
    part.replace(target)
    descriptor = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
