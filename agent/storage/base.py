"""What a way of keeping volumes offers to the rest of the agent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from agent.errors import CapabilityMissing, RequestInvalid

_BLOCK_BYTES: Final = 512


@dataclass(frozen=True)
class RbdSource:
    """How QEMU gets at an image in Ceph."""

    # Where the monitors are.
    config: Path
    user: str
    # Under which libvirt keeps the user's key.
    secret_uuid: str


@dataclass(frozen=True)
class VolumeSource:
    """Where a domain finds a volume."""

    # Of one in Ceph "POOL/IMAGE".
    path: Path
    format: Literal["qcow2", "raw"]
    kind: Literal["file", "block", "network"] = "file"
    rbd: RbdSource | None = None
    # Several domains may have it at once.
    shared: bool = False
    volume_type: str = ""
    # libvirt knows the passphrase under the volume's own UUID.
    encrypted: bool = False


@dataclass(frozen=True)
class VolumeSpec:
    """A volume as it is asked for."""

    uuid: str
    size_bytes: int
    volume_type: str
    # The cached image that backs it; None: an empty volume.
    image_id: str | None = None
    # Several domains may have it at once: raw, and from no image.
    shared: bool = False
    # What is written to it is encrypted with a key that the coordinator has; what comes from its image is not.
    encrypted: bool = False


Backend = Literal["file", "lvm", "lvm-thin", "ceph"]


@dataclass(frozen=True)
class Volume:
    """A volume as it is on the node."""

    uuid: str
    size_bytes: int
    # Space that it really takes on the node.
    allocated_bytes: int
    volume_type: str
    image_id: str | None
    # The transfer that has brought it from another node; empty: it was made here.
    transfer_id: str = ""
    # Several domains may have it at once.
    shared: bool = False
    backend: Backend = "file"
    encrypted: bool = False


def in_blocks(size_bytes: int) -> int:
    """The size as guests can see it, or a little more."""
    return -(-size_bytes // _BLOCK_BYTES) * _BLOCK_BYTES


def refuse_shrinking(volume: Volume, size_bytes: int) -> None:
    """Raises RequestInvalid when the volume is larger."""
    if size_bytes < volume.size_bytes:
        raise RequestInvalid(f"size_bytes: volume {volume.uuid} has {volume.size_bytes}, it cannot become smaller")


def refuse_encrypted(volume: Volume) -> None:
    """Raises CapabilityMissing for a volume whose content must not leave it in the clear."""
    if volume.encrypted:
        raise CapabilityMissing(f"volume {volume.uuid} is encrypted: no copies are made of what it holds")


@dataclass(frozen=True)
class StorageCapacity:
    """Space behind a backend."""

    total_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class StorageSpace:
    """A place of volumes, and the space that it is in."""

    # Identity of the space, a UUID: several places with the same one share it.
    pool_id: str
    # That of the place itself, see StorageBackend.
    storage_id: str
    total_bytes: int
    free_bytes: int
    # What the volumes there really take.
    allocated_bytes: int
    # What they would take if all of them were written to; 0: not known.
    virtual_bytes: int


def make_space(capacity: StorageCapacity, volumes: Iterable[Volume], *, pool_id: str, storage_id: str) -> StorageSpace:
    """The space with what the volumes take of it, in whole bytes."""
    sizes = [(volume.allocated_bytes, volume.size_bytes) for volume in volumes]
    return StorageSpace(
        pool_id=pool_id,
        storage_id=storage_id,
        total_bytes=capacity.total_bytes,
        free_bytes=capacity.free_bytes,
        allocated_bytes=sum(allocated for allocated, _ in sizes),
        virtual_bytes=sum(size for _, size in sizes),
    )


# Has the guest that runs with the volume make it so large; False when there is none.
Resize = Callable[[int], Awaitable[bool]]


class StorageBackend(Protocol):
    """Keeps volumes by UUID; `ensure_…` may be repeated at any time, also after a crash in its middle."""

    async def ensure_volume(self, spec: VolumeSpec) -> Volume:
        """The volume exists with at least this size.

        Raises RequestInvalid (smaller than it is or than its image, shared or not as it is), ImageNotFound,
        StorageExhausted, CapabilityMissing (cannot be shared there).
        """
        ...

    async def grow_volume(self, uuid: str, size_bytes: int, resize: Resize) -> Volume:
        """The volume has at least this size, by its guest's hand or ours; of a shared one the guest is told each time.

        Raises VolumeNotFound, RequestInvalid (smaller than it is), StorageExhausted, VolumeInUse (open elsewhere).
        """
        ...

    async def ensure_removed(self, uuid: str) -> None:
        """The volume's data is gone. Absence is success. Raises VolumeInUse while a running domain uses it."""
        ...

    async def list_volumes(self) -> list[Volume]:
        """All complete volumes."""
        ...

    async def describe_volume(self, uuid: str) -> VolumeSource:
        """Where the volume is. Raises VolumeNotFound."""
        ...

    async def capacity(self) -> StorageCapacity:
        """Space in all and space left."""
        ...

    async def storage_id(self) -> str:
        """Identity of the place: nodes that tell the same one share their volumes. Raises StorageFailed."""
        ...
