"""Copies of volumes, made for the coordinator's images and for backups.

`<export id>.<letter>.qcow2` is a finished copy: it gets this name only when it is complete and on disk. The letter
tells what the copy is like, as it does of snapshots.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol
from weakref import WeakValueDictionary

import structlog

from agent.durable_file import is_temporary, publish, remove_file, temporary_beside
from agent.errors import ExportNotFound, StorageExhausted, StorageFailed, tells_out_of_space
from agent.storage import qemu_img
from agent.storage.base import refuse_encrypted
from agent.storage.checksum import compute_sha256
from agent.storage.choice import StorageChoice
from agent.storage.directory import measure_capacity
from agent.storage.image_cache import ImageLookup
from agent.storage.nbd import Program
from agent.storage.qcow2_table import DifferenceUnknown
from agent.storage.snapshot import CONSISTENCIES, LETTERS, Consistency
from agent.storage.snapshot_file import SnapshotFiles
from agent.storage.snapshots import VolumeSnapshots
from agent.storage.state_export import Difference, find_states, is_overlay, write_difference

# QEMU of a guest that runs writes here, too.
_DIRECTORY_MODE: Final = 0o711
_LOOK_SECONDS: Final = 0.5
# Nobody has fetched it for so long that nobody will.
_LIFE_SECONDS: Final = 48 * 3600
_SWEEP_SECONDS: Final = 3600.0
_NO_PARENT: Final = "the volume does not hold the former state any more"
_NO_FILE: Final = "what has changed is told by files only, not by LVM or Ceph"
_UNTOLD: Final = "the volume's file does not tell what has changed: it was rolled back to an older state, or compressed"
_MOST_PERCENT: Final = 99

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ExportOrder:
    """What is to be copied."""

    uuid: str
    export_id: str
    # Who may run with the volume; empty: nobody.
    domain_uuid: str = ""
    # One of the volume's snapshots; empty: what it holds now.
    snapshot_id: str = ""
    # Whether the file systems of a guest that runs are to be frozen for that moment.
    quiesces: bool = False
    # An earlier snapshot, and the name of the file that holds its state: only what has changed since is copied.
    parent_id: str = ""
    parent_name: str = ""


@dataclass(frozen=True)
class ExportProgress:
    """How far a copy is; the last one tells all about it, the SHA-256 in lower-case hex."""

    percent: int
    size_bytes: int = 0
    sha256: str = ""
    consistency: Consistency | None = None
    # Why it is no better than after a power failure, though that was asked for; empty when an earlier call has made it.
    reason: str = ""
    # It holds only what has changed since the parent; if it does not, why.
    is_increment: bool = False
    whole_because: str = ""


class LiveCopy(Protocol):
    """A disk of a guest that runs, on its way to a file."""

    @property
    def is_frozen(self) -> bool:
        """Whether the guest's file systems were frozen at the moment of which the copy is."""

    @property
    def reason(self) -> str:
        """Why they were not, though that was asked for."""

    def percents(self) -> AsyncGenerator[int]:
        """How far it is, until it is done."""


class LiveCopies(Protocol):
    """Copies disks of guests that run."""

    async def has(self, domain_uuid: str, volume_uuid: str) -> bool:
        """Whether the domain runs, and has the volume."""

    def copying(
        self, domain_uuid: str, volume_uuid: str, target: Path, *, quiesces: bool
    ) -> AbstractAsyncContextManager[LiveCopy]:
        """The disk, as it is at the beginning, goes to a qcow2 file; at the end of the context it does no more."""


@dataclass
class _Outcome:
    """What becomes of a copy."""

    consistency: Consistency = "file-system"
    reason: str = ""


class Exports:
    """The copies of a node, by their ids."""

    def __init__(
        self,
        directory: Path,
        volumes: StorageChoice,
        snapshots: VolumeSnapshots,
        live: LiveCopies,
        *,
        find_image: ImageLookup,
        reserved_bytes: int,
    ) -> None:
        self._directory = directory
        self._volumes = volumes
        self._snapshots = snapshots
        self._live = live
        self._find_image = find_image
        self._reserved_bytes = reserved_bytes
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def prepare(self) -> None:
        """The directory exists, and what a crash or a coordinator left there is gone."""
        self._directory.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        for path in self._directory.iterdir():
            if is_temporary(path):
                log.info("export.leftover_removed", path=str(path))
                path.unlink(missing_ok=True)
        self.sweep()

    async def run(self) -> None:
        """Removes what nobody fetches, until it is cancelled."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            try:
                await asyncio.to_thread(self.sweep)
            except OSError as error:  # a copy more or less on the disk ends no agent
                log.warning("export.sweep_failed", reason=str(error))

    def sweep(self) -> None:
        """No finished copy is left that nobody will fetch."""
        for path in self._directory.glob("*.qcow2"):
            if not is_temporary(path) and path.stat().st_mtime < time.time() - _LIFE_SECONDS:
                log.info("export.leftover_removed", path=str(path))
                path.unlink(missing_ok=True)

    async def ensure(self, order: ExportOrder) -> AsyncGenerator[ExportProgress]:
        """A copy of the volume, or of its snapshot, is ready; of one that a guest runs with, as it was at one moment.

        Who stops listening ends it, and nothing is left of it then. Raises VolumeNotFound, VolumeInUse,
        SnapshotNotFound, DomainStateConflict, StorageExhausted, StorageFailed.
        """
        outcome = _Outcome()
        async with self._locks.setdefault(order.export_id, asyncio.Lock()):
            if self._find(order.export_id) is None:
                async with contextlib.aclosing(self._copy(order, outcome)) as looks:
                    async for percent in looks:
                        yield ExportProgress(percent)
            path = self._require(order.export_id)
            consistency, sha256 = CONSISTENCIES[path.suffixes[-2][1:]], await compute_sha256(path)
            is_increment = await asyncio.to_thread(is_overlay, path)
            because = "" if is_increment else await self._explain_whole(order)
            yield ExportProgress(100, path.stat().st_size, sha256, consistency, outcome.reason, is_increment, because)

    def open(self, export_id: str, offset_bytes: int) -> BinaryIO:
        """The copy, positioned there; the caller closes it. Raises ExportNotFound."""
        file = self._require(export_id).open("rb")
        file.seek(offset_bytes)
        return file

    def ensure_removed(self, export_id: str) -> None:
        """There is no such copy. Absence is success."""
        if path := self._find(export_id):
            remove_file(path)

    async def _copy(self, order: ExportOrder, outcome: _Outcome) -> AsyncGenerator[int]:
        """Yields how many percent are done."""
        self._directory.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        temporary = temporary_beside(self._directory / order.export_id)
        try:
            async with contextlib.aclosing(await self._choose(order, temporary, outcome)) as percents:
                async for percent in percents:
                    yield percent
            letter = LETTERS[outcome.consistency]
            await asyncio.to_thread(publish, temporary, self._directory / f"{order.export_id}.{letter}.qcow2")
        finally:
            temporary.unlink(missing_ok=True)

    async def _choose(self, order: ExportOrder, target: Path, outcome: _Outcome) -> AsyncGenerator[int]:
        """Each way yields how many percent are done, and says what the copy is like."""
        volume = await self._volumes.get_volume(order.uuid)
        refuse_encrypted(volume)
        if order.snapshot_id:
            return self._copy_snapshot(order, target, outcome)
        # A shared volume is copied while nobody has it open: what other guests write is not held back.
        if order.domain_uuid and not volume.shared and await self._live.has(order.domain_uuid, order.uuid):
            return self._copy_live(order, target, outcome)
        return self._copy_idle(order, target)

    async def _copy_snapshot(self, order: ExportOrder, target: Path, outcome: _Outcome) -> AsyncGenerator[int]:
        """Its data does not change, whoever writes to the volume."""
        store = await self._snapshots.of(order.uuid)
        with store.reading(order.uuid, order.snapshot_id):
            outcome.consistency = (await store.get(order.uuid, order.snapshot_id)).consistency
            try:
                async with contextlib.aclosing(self._copy_changes(order, target)) as percents:
                    async for percent in percents:
                        yield percent
            except DifferenceUnknown as reason:
                log.info("export.whole", volume=order.uuid, snapshot=order.snapshot_id, reason=str(reason))
                await asyncio.to_thread(target.unlink, missing_ok=True)
                async with contextlib.aclosing(self._copy_whole(order, target)) as percents:
                    async for percent in percents:
                        yield percent

    async def _copy_whole(self, order: ExportOrder, target: Path) -> AsyncGenerator[int]:
        store = await self._snapshots.of(order.uuid)
        found, total_bytes = await store.get(order.uuid, order.snapshot_id), await self._measure(order.uuid)
        self._require_space(total_bytes)
        async with store.opening(found) as state:
            copying = _compress(state.address, state.format, target, total_bytes, state.name)
            async with contextlib.aclosing(copying) as percents:
                async for percent in percents:
                    yield percent
        # Of a qcow2 file the copy has the size that the volume has now.
        await qemu_img.set_size(target, found.size_bytes)

    async def _copy_changes(self, order: ExportOrder, target: Path) -> AsyncGenerator[int]:
        """Raises DifferenceUnknown when the copy must be whole."""
        if not order.parent_id:
            raise DifferenceUnknown("nobody has asked for less")
        store = await self._snapshots.of(order.uuid)
        if not isinstance(store, SnapshotFiles):
            raise DifferenceUnknown(_NO_FILE)
        if await store.find(order.uuid, order.parent_id) is None:
            raise DifferenceUnknown(_NO_PARENT)
        with store.reading(order.uuid, order.parent_id):
            path = await store.path_of(order.uuid)
            states = await asyncio.to_thread(find_states, path, order.parent_id, order.snapshot_id)
            difference = Difference(path, *states, order.parent_name, target)
            async with contextlib.aclosing(write_difference(difference, self._require_space)) as percents:
                async for percent in percents:
                    yield percent

    async def _explain_whole(self, order: ExportOrder) -> str:
        """Why a copy has more than what has changed, as far as that can be told now; empty: nobody asked for less."""
        if not order.parent_id:
            return ""
        store = await self._snapshots.of(order.uuid)
        if not isinstance(store, SnapshotFiles):
            return _NO_FILE
        return _NO_PARENT if await store.find(order.uuid, order.parent_id) is None else _UNTOLD

    async def _copy_live(self, order: ExportOrder, target: Path, outcome: _Outcome) -> AsyncGenerator[int]:
        """The disk is copied as it is first, and compressed then."""
        total_bytes, whole = await self._measure(order.uuid), temporary_beside(target)
        self._require_space(2 * total_bytes)
        copying = self._live.copying(order.domain_uuid, order.uuid, whole, quiesces=order.quiesces)
        try:
            async with copying as copy:
                outcome.consistency, outcome.reason = "file-system" if copy.is_frozen else "crash", copy.reason
                async with contextlib.aclosing(copy.percents()) as percents:
                    async for percent in percents:
                        yield percent // 2
            async with contextlib.aclosing(_compress(str(whole), "qcow2", target, total_bytes)) as percents:
                async for percent in percents:
                    yield (_MOST_PERCENT + percent) // 2
        finally:
            whole.unlink(missing_ok=True)

    async def _copy_idle(self, order: ExportOrder, target: Path) -> AsyncGenerator[int]:
        """Of a volume that nobody writes to meanwhile."""
        address, volume_format = await self._volumes.address_of(order.uuid)
        total_bytes = await self._measure(order.uuid)
        self._require_space(total_bytes)
        await self._volumes.refuse_while_open(order.uuid)
        async with contextlib.aclosing(_compress(address, volume_format, target, total_bytes)) as percents:
            async for percent in percents:
                yield percent

    async def _measure(self, uuid: str) -> int:
        """How many bytes are read at most."""
        volume = await self._volumes.get_volume(uuid)
        stands_on_image = volume.image_id and await self._volumes.find_group(uuid) is None
        image = await self._find_image(volume.image_id) if volume.image_id and stands_on_image else None
        below_bytes = min(image.virtual_size_bytes, volume.size_bytes) if image else 0
        return volume.allocated_bytes + below_bytes

    def _require_space(self, wanted_bytes: int) -> None:
        """What is compressed takes less, but how much nobody knows before."""
        available_bytes = measure_capacity(self._directory, self._reserved_bytes).free_bytes
        if wanted_bytes > available_bytes:
            place = self._directory
            raise StorageExhausted(f"export: wanted up to {wanted_bytes} bytes, available {available_bytes} in {place}")

    def _find(self, export_id: str) -> Path | None:
        """The finished copy."""
        paths = (self._directory / f"{export_id}.{letter}.qcow2" for letter in CONSISTENCIES)
        return next((path for path in paths if path.exists()), None)

    def _require(self, export_id: str) -> Path:
        path = self._find(export_id)
        if path is None:
            raise ExportNotFound(f"there is no copy {export_id} on this node")
        return path


async def _compress(
    source: str, source_format: str, target: Path, total_bytes: int, snapshot: str = ""
) -> AsyncGenerator[int]:
    """Yields how many percent are done. Raises StorageExhausted, StorageFailed."""
    # Of a snapshot, QEMU may have the file open.
    chosen = ("-U", "-l", f"snapshot.name={snapshot}") if snapshot else ()
    options = ("-f", source_format, "-O", "qcow2", "-c", "-W")
    program = await Program.start("qemu-img", "convert", *chosen, *options, source, str(target))
    ending = asyncio.create_task(program.wait())
    try:
        while not ending.done():
            yield min(_MOST_PERCENT, 100 * program.moved_bytes // max(total_bytes, 1))
            await asyncio.wait((ending,), timeout=_LOOK_SECONDS)
        if complaint := await ending:
            raise (StorageExhausted if tells_out_of_space(complaint) else StorageFailed)(complaint)
    finally:
        await program.end()
