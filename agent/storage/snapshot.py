"""Snapshots of volumes, whichever backend keeps them: what holds for all, and what each has to say.

A snapshot is found in the volume's backend alone: its name there carries its id and a letter for what it was like. So
every call may be repeated, and nothing can disagree about what there is.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Literal, Protocol

from agent.errors import RequestInvalid, SnapshotNotFound, SnapshotUnsupported, VolumeInUse
from agent.storage.base import Volume

if TYPE_CHECKING:
    from collections.abc import Iterator

Consistency = Literal["crash", "file-system"]

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# In names of what has such a state: snapshots, copies.
LETTERS: Final[dict[Consistency, str]] = {"crash": "c", "file-system": "f"}
# In place of the letter, until all volumes of a guest have theirs.
_PENDING: Final = "p"
CONSISTENCIES: Final = {letter: consistency for consistency, letter in LETTERS.items()}


@dataclass(frozen=True)
class VolumeSnapshot:
    """A state of a volume that is kept with it."""

    snapshot_id: str
    volume_uuid: str
    size_bytes: int
    # Seconds since 1970.
    taken_at_seconds: int
    consistency: Consistency
    # Of the volume, with all of its snapshots.
    allocated_bytes: int
    # As its backend knows it.
    name: str


def check_snapshot_id(snapshot_id: str) -> None:
    """Raises RequestInvalid for what is no id."""
    if not _ID.fullmatch(snapshot_id):
        raise RequestInvalid("snapshot_id: letters, digits, '.', '_' and '-', at most 64")


def refuse_shared(uuid: str) -> SnapshotUnsupported:
    """What is told of a volume that several guests write to."""
    return SnapshotUnsupported(f"volume {uuid} is shared by guests, of which no one moment can be kept")


class SnapshotSource(Protocol):
    """What the snapshots of a backend need of it."""

    def lock(self, uuid: str) -> AbstractAsyncContextManager[None]:
        """Nobody else changes this volume meanwhile."""

    async def get_volume(self, uuid: str) -> Volume:
        """The complete volume. Raises VolumeNotFound."""

    async def refuse_while_open(self, uuid: str) -> None:
        """Raises VolumeInUse while somebody has it open."""


@dataclass(frozen=True)
class ReadableState:
    """How QEMU's tools get at what a snapshot has kept, whoever has the volume open."""

    address: str
    format: Literal["qcow2", "raw"]
    # Of the state in a qcow2 file; empty: the address is of the state alone.
    name: str = ""


class SnapshotStore(ABC):
    """The snapshots of one backend's volumes. Every call may be repeated, also after a crash in its middle."""

    # The QEMU of a guest that runs takes them in one transaction, one after the other, of so many disks at most; the
    # node takes more all at once, while the guest is held.
    most_by_guest: ClassVar[int]
    # Only the QEMU that has the volume open can remove one.
    is_removed_by_guest: ClassVar[bool]

    def __init__(self, volumes: SnapshotSource) -> None:
        self._volumes = volumes
        # Snapshots that are being copied from, which must stay, and those that are on their way out.
        self._read: Counter[tuple[str, str]] = Counter()
        self._leaving: Counter[tuple[str, str]] = Counter()

    @abstractmethod
    def name(self, uuid: str, snapshot_id: str, consistency: Consistency) -> str:
        """What the backend calls a snapshot."""

    @abstractmethod
    async def path_of(self, uuid: str) -> Path:
        """What libvirt calls the volume. Raises VolumeNotFound, SnapshotUnsupported."""

    @abstractmethod
    async def list(self, uuid: str) -> list[VolumeSnapshot]:
        """All of a volume, the oldest first. Raises VolumeNotFound, SnapshotUnsupported, StorageFailed."""

    @abstractmethod
    def opening(self, found: VolumeSnapshot) -> AbstractAsyncContextManager[ReadableState]:
        """Where it can be read meanwhile; see `reading`, which keeps it."""

    @abstractmethod
    async def create(self, uuid: str, name: str) -> None:
        """The volume, of which no snapshot has the name, keeps its present state."""

    @abstractmethod
    async def _delete(self, uuid: str, name: str) -> None:
        """Absence is success."""

    @abstractmethod
    async def _apply(self, found: VolumeSnapshot, size_bytes: int) -> None:
        """The volume holds that state, and has this size, which is no smaller."""

    async def find(self, uuid: str, snapshot_id: str) -> VolumeSnapshot | None:
        """One of them, None when there is no such."""
        return next((item for item in await self.list(uuid) if item.snapshot_id == snapshot_id), None)

    async def get(self, uuid: str, snapshot_id: str) -> VolumeSnapshot:
        """The same. Raises SnapshotNotFound."""
        found = await self.find(uuid, snapshot_id)
        if found is None:
            raise SnapshotNotFound(f"volume {uuid} has no snapshot {snapshot_id}")
        return found

    async def take(self, uuid: str, snapshot_id: str) -> None:
        """The volume, which nobody has open, has the snapshot. Raises VolumeInUse, StorageExhausted."""
        async with self._volumes.lock(uuid):
            await self.path_of(uuid)
            await self._volumes.refuse_while_open(uuid)
            if await self.find(uuid, snapshot_id) is None:
                await self.create(uuid, self.name(uuid, snapshot_id, "file-system"))

    async def remove(self, uuid: str, snapshot_id: str) -> None:
        """The volume does not have the snapshot. Raises VolumeInUse, of what only its guest can remove."""
        with self.leaving(uuid, snapshot_id):
            async with self._volumes.lock(uuid):
                found = await self.find(uuid, snapshot_id)
                if found is None:
                    return
                if self.is_removed_by_guest:
                    await self._volumes.refuse_while_open(uuid)
                await self._delete(uuid, found.name)

    async def roll_back(self, uuid: str, snapshot_id: str) -> None:
        """The volume, which nobody has open, holds what it held then. Raises SnapshotNotFound, VolumeInUse."""
        async with self._volumes.lock(uuid):
            found = await self.get(uuid, snapshot_id)
            await self._volumes.refuse_while_open(uuid)
            # Volumes never shrink: a call that is repeated finds what they had in the snapshots that were taken since.
            present = await self._volumes.get_volume(uuid)
            size_bytes = max(present.size_bytes, *(item.size_bytes for item in await self.list(uuid)))
            await self._apply(found, size_bytes)

    @contextmanager
    def leaving(self, uuid: str, snapshot_id: str) -> Iterator[None]:
        """No copy is made from the snapshot meanwhile. Raises VolumeInUse when one is being made."""
        if self._read[uuid, snapshot_id]:
            raise VolumeInUse(f"volume {uuid}: a copy is being made from snapshot {snapshot_id}")
        with _counted(self._leaving, (uuid, snapshot_id)):
            yield

    @contextmanager
    def reading(self, uuid: str, snapshot_id: str) -> Iterator[None]:
        """The snapshot is not removed meanwhile; empty: none is meant. Raises VolumeInUse when it is being removed."""
        if self._leaving[uuid, snapshot_id]:
            raise VolumeInUse(f"volume {uuid}: snapshot {snapshot_id} is being removed")
        with _counted(self._read, (uuid, snapshot_id)):
            yield


class HeldSnapshots(SnapshotStore):
    """Those that the node takes while a guest is held; they count only when it was held until all were taken.

    Until then they have a name that nobody finds: what a crash leaves, whenever, is never taken for one moment.
    """

    async def begin(self, uuid: str, snapshot_id: str) -> None:
        """The volume keeps its present state, under that name."""
        await self.create(uuid, self._pending(uuid, snapshot_id))

    async def complete(self, uuid: str, snapshot_id: str, consistency: Consistency) -> None:
        """What was begun is the snapshot."""
        await self._rename(uuid, self._pending(uuid, snapshot_id), self.name(uuid, snapshot_id, consistency))

    async def abandon(self, uuid: str, snapshot_id: str) -> None:
        """What was begun is gone. Absence is success."""
        await self._delete(uuid, self._pending(uuid, snapshot_id))

    async def remove(self, uuid: str, snapshot_id: str) -> None:
        """See SnapshotStore; also what was only begun."""
        await super().remove(uuid, snapshot_id)
        await self.abandon(uuid, snapshot_id)

    def _pending(self, uuid: str, snapshot_id: str) -> str:
        return f"{self.name(uuid, snapshot_id, 'crash')[:-1]}{_PENDING}"

    @abstractmethod
    async def _rename(self, uuid: str, name: str, new: str) -> None: ...


@contextmanager
def _counted(counts: Counter[tuple[str, str]], key: tuple[str, str]) -> Iterator[None]:
    counts[key] += 1
    try:
        yield
    finally:
        counts[key] -= 1
        if not counts[key]:
            del counts[key]


def list_partial(snapshots: Sequence[VolumeSnapshot | None]) -> list[VolumeSnapshot]:
    """Those that an interrupted call has left: some, but not all, of the volumes have them."""
    found = [item for item in snapshots if item is not None]
    return found if len(found) < len(snapshots) else []
