"""Copies of states of volumes: whole, or what has changed since an earlier state that the volume still keeps.

What has changed is told by the volume's own tables (see qcow2_table), so nothing has to be noted while a guest writes,
and nothing can be noted wrong. When they do not tell, the copy is whole, with the reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from agent.errors import SnapshotNotFound, StorageExhausted, StorageFailed, is_out_of_space
from agent.storage import qemu_img
from agent.storage.compressing import MOST_PERCENT, compress
from agent.storage.image_format import DiskSnapshot, read_qcow2_header, read_qcow2_snapshots
from agent.storage.overlay import OverlayWriter
from agent.storage.qcow2_table import DifferenceUnknown, Run, StateTables
from agent.storage.snapshot import SnapshotFiles

_LOOK_SECONDS: Final = 0.5

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class StateOrder:
    """What is to be copied: the state that a volume's snapshot holds."""

    snapshot_id: str
    # An earlier snapshot, and the name of the file that holds its state: only what has changed since is copied.
    parent_id: str = ""
    parent_name: str = ""


@dataclass(frozen=True)
class _Difference:
    """Two states of a file, and where the later one goes."""

    path: Path
    old: DiskSnapshot
    new: DiskSnapshot
    parent_name: str
    target: Path


class _Progress:
    """Of a copy that a thread makes."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self.done_clusters = 0
        self.total_clusters = 1

    @property
    def percent(self) -> int:
        """How much is done, never all."""
        return min(MOST_PERCENT, 100 * self.done_clusters // max(self.total_clusters, 1))


class StateCopies:
    """Makes such copies."""

    def __init__(self, files: SnapshotFiles) -> None:
        self._files = files

    async def copy(
        self, uuid: str, order: StateOrder, target: Path, total_bytes: int, require_space: Callable[[int], None]
    ) -> AsyncGenerator[int]:
        """Writes the state to a qcow2 file, whoever has the volume open; yields percents.

        The file names the parent's as what it is based on when it holds changes alone. `total_bytes`: about what is
        read for a whole copy. Raises VolumeNotFound, SnapshotNotFound, SnapshotUnsupported, StorageExhausted,
        StorageFailed.
        """
        with self._files.reading(uuid, order.snapshot_id):
            try:
                async with contextlib.aclosing(self._copy_changes(uuid, order, target, require_space)) as percents:
                    async for percent in percents:
                        yield percent
            except DifferenceUnknown as reason:
                log.info("export.whole", volume=uuid, snapshot=order.snapshot_id, reason=str(reason))
                await asyncio.to_thread(target.unlink, missing_ok=True)
                require_space(total_bytes)
                async with contextlib.aclosing(self._copy_whole(uuid, order, target, total_bytes)) as percents:
                    async for percent in percents:
                        yield percent

    async def explain_whole(self, uuid: str, order: StateOrder) -> str:
        """Why a copy that is whole is not of changes alone, as far as that can be told now; empty: nobody wanted it."""
        if not order.parent_id:
            return ""
        if await self._files.find(uuid, order.parent_id) is None:
            return "the volume does not hold the former state any more"
        return "the volume's file does not tell what has changed: it was rolled back to an older state, or compressed"

    async def _copy_whole(self, uuid: str, order: StateOrder, target: Path, total_bytes: int) -> AsyncGenerator[int]:
        found, path = await self._files.get(uuid, order.snapshot_id), await self._files.path_of(uuid)
        async with contextlib.aclosing(compress(path, target, total_bytes, snapshot=found.name)) as percents:
            async for percent in percents:
                yield percent
        # A snapshot comes with the size that its volume has now.
        await qemu_img.set_size(target, found.size_bytes)

    async def _copy_changes(
        self, uuid: str, order: StateOrder, target: Path, require_space: Callable[[int], None]
    ) -> AsyncGenerator[int]:
        if not order.parent_id:
            raise DifferenceUnknown("a whole copy is wanted")
        if await self._files.find(uuid, order.parent_id) is None:
            raise DifferenceUnknown("the volume does not hold the former state any more")
        with self._files.reading(uuid, order.parent_id):
            path = await self._files.path_of(uuid)
            old, new = await asyncio.to_thread(_find_states, path, order)
            difference = _Difference(path, old, new, order.parent_name, target)
            async with contextlib.aclosing(_write(difference, require_space)) as percents:
                async for percent in percents:
                    yield percent


async def _write(difference: _Difference, require_space: Callable[[int], None]) -> AsyncGenerator[int]:
    progress = _Progress()
    writing = asyncio.create_task(asyncio.to_thread(_write_changes, difference, progress, require_space))
    try:
        while not writing.done():
            yield progress.percent
            await asyncio.wait((writing,), timeout=_LOOK_SECONDS)
        try:
            await writing
        except (OSError, ValueError) as error:
            failure = StorageExhausted if is_out_of_space(error) else StorageFailed
            raise failure(f"{difference.path.name}: {error}") from error
    finally:
        progress.stopped.set()
        await asyncio.wait((writing,))


def _write_changes(difference: _Difference, progress: _Progress, require_space: Callable[[int], None]) -> None:
    header = read_qcow2_header(difference.path)
    if header is None or header.encrypted:
        raise DifferenceUnknown("the volume's file is none that is known here")
    with contextlib.closing(StateTables(difference.path)) as tables, difference.target.open("xb") as file:

        def compare() -> Iterator[Run]:
            return tables.compare(difference.old, difference.new, has_backing=header.backing_file is not None)

        # Gone through twice: a list of all that was written at random to a large disk would take much memory.
        counts = [0, 0]
        for run in compare():
            counts[run.offset is None] += run.count
        progress.total_clusters = sum(counts)
        require_space(counts[0] << tables.cluster_bits)
        writer = OverlayWriter(file, difference.new.size_bytes, tables.cluster_bits, difference.parent_name)
        for run in compare():
            if progress.stopped.is_set():
                return
            if run.offset is None:
                writer.write_zeros(run.index, run.count)
            else:
                writer.write(run.index, tables.read(run))
            progress.done_clusters += run.count
        writer.finish()


def _find_states(path: Path, order: StateOrder) -> tuple[DiskSnapshot, DiskSnapshot]:
    states = {state.name.rpartition("/")[0]: state for state in read_qcow2_snapshots(path)}
    try:
        return states[order.parent_id], states[order.snapshot_id]
    except KeyError as missing:
        raise SnapshotNotFound(f"{path.name} has no snapshot {missing}") from None
