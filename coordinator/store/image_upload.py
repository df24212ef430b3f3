"""Files of images that come in pieces: what has come stays when its sender or this process ends in between."""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from coordinator.domain.image_format import HEAD_BYTES
from coordinator.errors import ImageUnusable, UploadConflict
from coordinator.store.image_file import (
    ImageFacts,
    ImageLimits,
    check_digest,
    check_facts,
    image_too_large,
    telling_full,
)
from coordinator.store.image_file import publish_image_file as publish

_SUFFIX: Final = ".upload"
# After a power failure no more than this has to come again.
_FLUSH_BYTES: Final = 64 * 1024**2
_BLOCK_BYTES: Final = 4 * 1024**2


class ImageUpload:
    """The file of one upload; one at a time adds to it, whichever process that is. Blocking: call it from threads."""

    def __init__(self, directory: Path, image_id: str) -> None:
        self._target = directory / image_id
        self._path = directory / f".{image_id}{_SUFFIX}"

    def read_size(self) -> int:
        """How many bytes have come; 0 when nothing has."""
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    @contextmanager
    def open(self, offset_bytes: int, limit_bytes: int) -> Iterator["ImagePart"]:
        """Takes what follows `offset_bytes`; UploadConflict when that is not the end, or somebody else is at it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            _lock(file.fileno())
            size_bytes = os.fstat(file.fileno()).st_size
            # Whoever had the lock before may have finished, and then this file has no name any more.
            if size_bytes != offset_bytes or not self._is_named(file.fileno()):
                raise UploadConflict(
                    f"Upload-Offset: {self.read_size()} bytes are there, not {offset_bytes}",
                    f"Upload-Offset：已接收{self.read_size()}字节，而非{offset_bytes}字节",
                )
            part = ImagePart(file.fileno(), offset_bytes, limit_bytes)
            try:
                yield part
            finally:
                part.flush()

    def check(self, image_format: str, sha256: str, limits: ImageLimits) -> ImageFacts:
        """What has come, which is all; ImageUnusable when it may not be used: then nothing is left of it."""
        digest = hashlib.sha256()
        with self._path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            file.seek(0)
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
            size_bytes = file.tell()
        try:
            facts = check_facts(head, size_bytes, digest.hexdigest(), image_format, limits)
            return check_digest(facts, sha256)
        except ImageUnusable:
            self.remove()
            raise

    def publish(self) -> None:
        """Moves the file to its place, durably and at once."""
        publish(self._path, self._target)

    def remove(self) -> None:
        """Leaves nothing of what has come; idempotent."""
        self._path.unlink(missing_ok=True)

    def _is_named(self, descriptor: int) -> bool:
        try:
            return self._path.stat().st_ino == os.fstat(descriptor).st_ino
        except FileNotFoundError:
            return False


class ImagePart:
    """Bytes on their way to the end of an upload's file."""

    def __init__(self, descriptor: int, offset_bytes: int, limit_bytes: int) -> None:
        self._descriptor = descriptor
        self._limit_bytes = limit_bytes
        self._unflushed_bytes = 0
        self.offset_bytes = offset_bytes

    def write(self, data: bytes) -> None:
        """Takes the next bytes; RequestTooLarge when they are more than were announced, or than an image may have.

        ImageStorageFull: what there was room for stays.
        """
        if self.offset_bytes + len(data) > self._limit_bytes:
            raise image_too_large(self._limit_bytes)
        view = memoryview(data)
        while view:
            with telling_full():
                written = os.write(self._descriptor, view)
            self.offset_bytes += written
            self._unflushed_bytes += written
            view = view[written:]
        if self._unflushed_bytes >= _FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """What was written stays there also after a power failure."""
        with telling_full():
            os.fsync(self._descriptor)
        self._unflushed_bytes = 0


def remove_expired_uploads(directory: Path, before: datetime) -> list[str]:
    """Ids of the images whose uploads nobody has gone on with since then; nothing is left of what had come."""
    expired = []
    for path in directory.glob(f".*{_SUFFIX}"):
        try:
            with path.open("rb") as file:
                _lock(file.fileno())
                if os.fstat(file.fileno()).st_mtime >= before.timestamp():
                    continue
                path.unlink()
        except (FileNotFoundError, UploadConflict):
            continue
        expired.append(path.name.removeprefix(".").removesuffix(_SUFFIX))
    return expired


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UploadConflict("another request is uploading this file now", "另一个请求正在上传该文件") from None
