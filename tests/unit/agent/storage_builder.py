"""Images and volumes for the storage tests, made by the real qemu-img."""

import asyncio
import hashlib
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from agent.errors import ImageNotFound, ImageSourceUnavailable
from agent.storage.image_cache import ImageCache
from agent.storage.image_transfer import ImageRef

MIB = 1024**2


def qemu_img(*arguments: str | Path | int) -> str:
    """What qemu-img prints."""
    return subprocess.run(["qemu-img", *map(str, arguments)], check=True, capture_output=True, text=True).stdout


def files_of(directory: Path) -> list[str]:
    """What is in a directory of volumes, without its identity, its lock and the marks of its nodes."""
    names = (path.name for path in directory.iterdir())
    return sorted(name for name in names if name not in (".storage-id", ".lock") and not name.startswith(".node-"))


@asynccontextmanager
async def holding(path: Path) -> AsyncIterator[None]:
    """QEMU has the image open for writing, as a guest does."""
    program = ("qemu-io", "-f", "qcow2", str(path))
    process = await asyncio.create_subprocess_exec(*program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    # It reads commands only when the image is open.
    process.stdin.write(b"length\n")
    await process.stdout.readline()
    try:
        yield
    finally:
        await process.communicate(b"quit\n")


def a_qcow2(path: Path, size_bytes: int = 4 * MIB) -> bytes:
    """The bytes of an empty qcow2 image."""
    qemu_img("create", "-q", "-f", "qcow2", path, size_bytes)
    return path.read_bytes()


def a_ref(content: bytes, image_id: str = "img-1", **changes: object) -> ImageRef:
    """The reference of an image with this content."""
    values: dict[str, object] = {
        "image_id": image_id,
        "sha256": hashlib.sha256(content).hexdigest(),
        "format": "qcow2",
        "size_bytes": len(content),
    }
    return ImageRef(**(values | changes))  # type: ignore[arg-type]


class Source:
    """A coordinator's images, which can be made to break off."""

    def __init__(self, **images: bytes) -> None:
        self.images = {name.replace("_", "-"): content for name, content in images.items()}
        self.offsets: list[int] = []
        # How many bytes each of the next reads gives before it fails.
        self.breaks: list[int] = []
        self.chunk_bytes = 64 * 1024

    async def read(self, image_id: str, offset_bytes: int) -> AsyncGenerator[bytes, None]:
        """See agent.storage.image_transfer.ImageReader."""
        self.offsets.append(offset_bytes)
        if image_id not in self.images:
            raise ImageNotFound(image_id)
        content, limit = self.images[image_id], self.breaks.pop(0) if self.breaks else None
        sent = 0
        for start in range(offset_bytes, len(content), self.chunk_bytes):
            if limit is not None and sent >= limit:
                raise ImageSourceUnavailable("the connection broke")
            chunk = content[start : start + self.chunk_bytes]
            sent += len(chunk)
            yield chunk


async def nobody(_name: object) -> list[str]:
    """No domain and no volume uses anything."""
    return []


def a_cache(directory: Path, source: Source, **changes: object) -> ImageCache:
    """A cache in this directory, prepared."""
    values: dict[str, object] = {"read_image": source.read, "find_users": nobody, "reserved_bytes": 0}
    cache = ImageCache(directory, **(values | changes))  # type: ignore[arg-type]
    cache.prepare()
    return cache


async def fetch(cache: ImageCache, ref: ImageRef) -> list[int]:
    """Waits until the image is cached; the numbers of bytes that were told on the way."""
    return [progress.done_bytes async for progress in cache.ensure_cached(ref)]
