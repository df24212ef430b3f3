"""What goes to other nodes as the bytes of one file, and what becomes of these bytes there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from agent.errors import ImageNotFound, VolumePresent
from agent.storage.base import Volume, VolumeSpec
from agent.storage.image_transfer import ImageRef
from agent.storage.nbd import Tls

Content = Literal["volume", "saved-memory"]

_BLOCK_BYTES: Final = 512
# Larger than any sector, so that the last one of a file is whole for direct I/O.
_ROUND_BYTES: Final = 64 * 1024


@dataclass(frozen=True)
class Opened:
    """A file or device that is sent."""

    path: Path
    # Its length, and what is really sent of it.
    file_bytes: int
    allocated_bytes: int


@dataclass(frozen=True)
class Outgoing:
    """What a target has to know of what comes."""

    volume: Volume
    file_bytes: int
    image: ImageRef | None = None
    # The bytes are what the guest sees, not a qcow2 file.
    is_raw: bool = False
    # Of saved memory: what the target must be able to provide.
    cpu_xml: str = ""


@dataclass(frozen=True)
class ReceiveOrder:
    """What shall come, and over which network."""

    transfer_id: str
    spec: VolumeSpec
    # Length of the file, and what is really sent of it.
    file_bytes: int
    allocated_bytes: int
    image: ImageRef | None
    # Empty: "manage".
    network_role: str
    tls: Tls | None
    content: Content = "volume"
    is_raw: bool = False
    cpu_xml: str = ""


class Movable(Protocol):
    """One kind of content; volumes by their UUID, saved memory by its domain's."""

    async def inspect(self, uuid: str) -> Outgoing:
        """What a target has to know. Raises VolumeNotFound, VolumeInUse, or what its kind does."""
        ...

    async def open_source(self, uuid: str) -> Opened:
        """What is sent, to which nobody writes. Raises the same."""
        ...

    async def find_brought(self, uuid: str, transfer_id: str) -> Volume | None:
        """What this transfer has brought; None: nothing is here. Raises VolumePresent for any other."""
        ...

    async def reserve(self, order: ReceiveOrder) -> Path:
        """An empty file or device to be filled, which the next start removes.

        Raises StorageExhausted, ImageNotFound, or what its kind does.
        """
        ...

    async def adopt(self, order: ReceiveOrder, path: Path) -> Volume:
        """What has come, so many bytes, verified, is in its place, and told to have come by this transfer."""
        ...

    async def discard(self, path: Path) -> None:
        """What was reserved is gone, unless it was adopted. Absence is success."""
        ...


def open_file(path: Path) -> Opened:
    """A file that is sent as it is."""
    status = path.stat()
    return Opened(path, status.st_size, min(status.st_size, status.st_blocks * _BLOCK_BYTES))


def make_empty(path: Path, length_bytes: int) -> None:
    """A new file that reads as zeros, of at least this length."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.truncate(-(-length_bytes // _ROUND_BYTES) * _ROUND_BYTES)


def refuse_other(volume: Volume | None, transfer_id: str) -> Volume | None:
    """Raises VolumePresent for a volume that another transfer, or none, has brought."""
    if volume is not None and volume.transfer_id != transfer_id:
        raise VolumePresent(f"volume {volume.uuid} is on this node already")
    return volume


def refuse_other_image(found: ImageRef | None, order: ReceiveOrder) -> None:
    """Raises ImageNotFound when the image here is not the one that the volume was made from."""
    if found is not None and found != order.image:
        raise ImageNotFound(f"image {found.image_id} has other bytes on this node")
