"""Copies of volumes, made for the coordinator's images and for backups.

`<export id>.qcow2` is a finished copy: it gets this name only when it is complete and on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol
from weakref import WeakValueDictionary

import structlog

from agent.durable_file import is_temporary, publish, remove_file, temporary_beside
from agent.errors import ExportNotFound, StorageExhausted
from agent.storage.checksum import compute_sha256
from agent.storage.compressing import MOST_PERCENT, compress
from agent.storage.directory import DirectoryBackend, ImageLookup, measure_capacity
from agent.storage.image_format import read_qcow2_header
from agent.storage.state_export import StateCopies, StateOrder

# QEMU of a guest that runs writes here, too.
_DIRECTORY_MODE: Final = 0o711
# Nobody has fetched it for so long that nobody will.
_LIFE_SECONDS: Final = 48 * 3600
_SWEEP_SECONDS: Final = 3600.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ExportProgress:
    """How far a copy is; the last one tells its size and its SHA-256 in lower-case hex."""

    percent: int
    size_bytes: int = 0
    sha256: str = ""
    # It holds only what has changed since an earlier state; if it does not, why, when that was wanted.
    is_increment: bool = False
    whole_because: str = ""


class LiveCopies(Protocol):
    """Copies disks of guests that run."""

    async def has(self, domain_uuid: str, volume_uuid: str) -> bool:
        """Whether the domain runs, and has the volume."""

    def copy(self, domain_uuid: str, volume_uuid: str, target: Path) -> AsyncGenerator[int]:
        """Writes the disk, as it is at the beginning, to a qcow2 file; yields percents."""


class Exports:
    """The copies of a node, by their ids."""

    def __init__(
        self,
        directory: Path,
        volumes: DirectoryBackend,
        live: LiveCopies,
        states: StateCopies,
        *,
        find_image: ImageLookup,
        reserved_bytes: int,
    ) -> None:
        self._directory = directory
        self._volumes = volumes
        self._live = live
        self._states = states
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

    async def ensure(
        self, uuid: str, export_id: str, domain_uuid: str = "", state: StateOrder | None = None
    ) -> AsyncGenerator[ExportProgress]:
        """A copy of the volume is ready; of one that the named guest runs with, as it was at one moment.

        `state`: a copy of what a snapshot holds instead, whoever has the volume open.

        Who stops listening ends it, and nothing is left of it then. Raises VolumeNotFound, VolumeInUse,
        DomainStateConflict, SnapshotNotFound, StorageExhausted, StorageFailed.
        """
        path = self._path(export_id)
        async with self._locks.setdefault(export_id, asyncio.Lock()):
            if not path.exists():
                copying = self._copy_state(uuid, state, path) if state else self._copy(uuid, domain_uuid, path)
                async with contextlib.aclosing(copying) as looks:
                    async for percent in looks:
                        yield ExportProgress(percent)
            yield await self._describe(uuid, path, state)

    def open(self, export_id: str, offset_bytes: int) -> BinaryIO:
        """The copy, positioned there; the caller closes it. Raises ExportNotFound."""
        try:
            file = self._path(export_id).open("rb")
        except FileNotFoundError:
            raise ExportNotFound(f"there is no copy {export_id} on this node") from None
        file.seek(offset_bytes)
        return file

    def ensure_removed(self, export_id: str) -> None:
        """There is no such copy. Absence is success."""
        if self._path(export_id).exists():
            remove_file(self._path(export_id))

    async def _copy(self, uuid: str, domain_uuid: str, path: Path) -> AsyncGenerator[int]:
        """Yields how many percent are done."""
        self._directory.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        source = (await self._volumes.describe_volume(uuid)).path
        total_bytes = await self._measure(uuid)
        is_live = bool(domain_uuid) and await self._live.has(domain_uuid, uuid)
        # Of a guest that runs the disk is copied as it is first, and compressed then.
        self._require_space(total_bytes * (1 + is_live))
        whole, temporary = temporary_beside(path), temporary_beside(path)
        try:
            if is_live:
                async with contextlib.aclosing(self._live.copy(domain_uuid, uuid, whole)) as looks:
                    async for percent in looks:
                        yield percent // 2
                source = whole
            else:
                await self._volumes.refuse_while_open(uuid, for_writing=True)
            async with contextlib.aclosing(compress(source, temporary, total_bytes)) as looks:
                async for percent in looks:
                    yield (MOST_PERCENT + percent) // 2 if is_live else percent
            await asyncio.to_thread(publish, temporary, path)
        finally:
            whole.unlink(missing_ok=True)
            temporary.unlink(missing_ok=True)

    async def _copy_state(self, uuid: str, order: StateOrder, path: Path) -> AsyncGenerator[int]:
        """Yields how many percent are done."""
        self._directory.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        total_bytes, temporary = await self._measure(uuid), temporary_beside(path)
        try:
            copying = self._states.copy(uuid, order, temporary, total_bytes, self._require_space)
            async with contextlib.aclosing(copying) as looks:
                async for percent in looks:
                    yield percent
            await asyncio.to_thread(publish, temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    async def _describe(self, uuid: str, path: Path, order: StateOrder | None) -> ExportProgress:
        header = await asyncio.to_thread(read_qcow2_header, path)
        is_increment = header is not None and header.backing_file is not None
        because = "" if order is None or is_increment else await self._states.explain_whole(uuid, order)
        size_bytes = await asyncio.to_thread(_measure_file, path)
        return ExportProgress(100, size_bytes, await compute_sha256(path), is_increment, because)

    async def _measure(self, uuid: str) -> int:
        """How many bytes are read at most."""
        volume = await self._volumes.get_volume(uuid)
        image = await self._find_image(volume.image_id) if volume.image_id else None
        below_bytes = min(image.virtual_size_bytes, volume.size_bytes) if image else 0
        return volume.allocated_bytes + below_bytes

    def _require_space(self, wanted_bytes: int) -> None:
        """What is compressed takes less, but how much nobody knows before."""
        available_bytes = measure_capacity(self._directory, self._reserved_bytes).free_bytes
        if wanted_bytes > available_bytes:
            raise StorageExhausted(f"export: wanted up to {wanted_bytes} bytes, available {available_bytes}")

    def _path(self, export_id: str) -> Path:
        return self._directory / f"{export_id}.qcow2"


def _measure_file(path: Path) -> int:
    return path.stat().st_size
