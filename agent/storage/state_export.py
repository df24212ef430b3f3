"""Copies of what has changed in a volume from one state that it keeps to a later one.

What has changed is told by the volume's own tables (see qcow2_table), so nothing has to be noted while a guest writes,
and nothing can be noted wrong. When they do not tell, DifferenceUnknown says why.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.errors import SnapshotNotFound, StorageExhausted, StorageFailed, is_out_of_space
from agent.storage.image_format import DiskSnapshot, read_qcow2_header, read_qcow2_snapshots
from agent.storage.overlay import OverlayWriter
from agent.storage.qcow2_table import DifferenceUnknown, Run, StateTables

_LOOK_SECONDS: Final = 0.5
# Of what is not done yet.
_MOST_PERCENT: Final = 99


@dataclass(frozen=True)
class Difference:
    """Two states of a file, and where what the later one has of its own goes."""

    path: Path
    old: DiskSnapshot
    new: DiskSnapshot
    # What the target calls the file that holds the older state.
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
        return min(_MOST_PERCENT, 100 * self.done_clusters // max(self.total_clusters, 1))


def find_states(path: Path, old_id: str, new_id: str) -> tuple[DiskSnapshot, DiskSnapshot]:
    """Those snapshots of a volume's file. Raises SnapshotNotFound."""
    states = {state.name.rpartition("/")[0]: state for state in read_qcow2_snapshots(path)}
    try:
        return states[old_id], states[new_id]
    except KeyError as missing:
        raise SnapshotNotFound(f"{path.name} has no snapshot {missing}") from None


def is_overlay(path: Path) -> bool:
    """Whether a qcow2 file names another one for what it does not hold."""
    header = read_qcow2_header(path)
    return header is not None and header.backing_file is not None


async def write_difference(difference: Difference, require_space: Callable[[int], None]) -> AsyncGenerator[int]:
    """Writes a qcow2 file, whoever has the volume open; yields percents.

    `require_space` is told how many bytes that takes. The snapshots must stay meanwhile. To close the generator
    ends the copy. Raises DifferenceUnknown, StorageExhausted, StorageFailed.
    """
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


def _write_changes(difference: Difference, progress: _Progress, require_space: Callable[[int], None]) -> None:
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
