"""What differs between two states that a qcow2 file keeps of its disk, told from its tables alone.

A cluster that a snapshot refers to is never written again as long as there is the snapshot: QEMU writes elsewhere. So
where the tables of two snapshots name the same cluster their content is the same, whatever became of the disk in
between: power failures, rollbacks, moves. A file that QEMU has open can be read, for a snapshot's tables stay too.

Source: docs/interop/qcow2.txt of QEMU.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from agent.storage.image_format import DiskSnapshot

_CLUSTER_BITS: Final = (20, struct.Struct(">I"))
_FEATURES: Final = (72, struct.Struct(">Q"))
# Whether the file was closed: no concern of a snapshot's tables. Any other says that they are laid out otherwise.
_HARMLESS_FEATURES: Final = 1
_ENTRY_BYTES: Final = 8
_OFFSET_MASK: Final = 0x00FFFFFFFFFFFE00
_COPIED: Final = 1 << 63
_COMPRESSED: Final = 1 << 62
_ZERO: Final = 1
# So much is told, and read, at once; a cluster has at most half of it.
_LONGEST_RUN_BYTES: Final = 4 * 1024**2


class DifferenceUnknown(Exception):
    """The tables do not tell what differs, for this reason."""


@dataclass(frozen=True)
class Run:
    """Clusters, one after the other, of the later state that may differ from the earlier one."""

    # Of the disk's clusters, the first of them.
    index: int
    count: int
    # Where in the file the first one is, and the others behind it; None: they read as zeros.
    offset: int | None


class StateTables:
    """The tables of a qcow2 file, which QEMU may have open; close it in the end."""

    def __init__(self, path: Path) -> None:
        """Raises DifferenceUnknown when the file is laid out in a way that is not known here."""
        self._file: BinaryIO = path.open("rb")
        if _read_field(self._file, *_FEATURES) & ~_HARMLESS_FEATURES:
            self._file.close()
            raise DifferenceUnknown("the volume's file has features that are not known here")
        self.cluster_bits = _read_field(self._file, *_CLUSTER_BITS)
        self.cluster_bytes = 1 << self.cluster_bits

    def close(self) -> None:
        """Ends it."""
        self._file.close()

    def read(self, run: Run) -> bytes:
        """What the clusters of a run that has an offset hold."""
        assert run.offset is not None  # noqa: S101 - for the type checker
        self._file.seek(run.offset)
        length = run.count * self.cluster_bytes
        # The file may end within its last cluster.
        return self._file.read(length).ljust(length, b"\0")

    def compare(self, old: DiskSnapshot, new: DiskSnapshot, *, has_backing: bool) -> Iterator[Run]:
        """What of `new` may differ from `old`, in the order of the disk. Raises DifferenceUnknown, ValueError.

        `has_backing`: what neither of them holds comes from an image below.
        """
        entries = self.cluster_bytes // _ENTRY_BYTES
        clusters = -(-new.size_bytes // self.cluster_bytes)
        old_tables, new_tables = self._read_entries(old), self._read_entries(new)
        nothing = (0,) * entries
        for number in range(-(-clusters // entries)):
            tables = [found[number] & _OFFSET_MASK if number < len(found) else 0 for found in (old_tables, new_tables)]
            if tables[0] == tables[1]:
                continue
            old_entries, new_entries = (self._read_table(offset, entries) if offset else nothing for offset in tables)
            yield from _join(number * entries, clusters, old_entries, new_entries, has_backing, self.cluster_bits)

    def _read_entries(self, state: DiskSnapshot) -> tuple[int, ...]:
        return self._read_table(state.table_offset, state.table_entries)

    def _read_table(self, offset: int, count: int) -> tuple[int, ...]:
        self._file.seek(offset)
        try:
            return struct.unpack(f">{count}Q", self._file.read(count * _ENTRY_BYTES))
        except struct.error as error:
            raise ValueError("the volume's tables are broken") from error


def _join(
    first: int,
    clusters: int,
    old: tuple[int, ...],
    new: tuple[int, ...],
    has_backing: bool,
    cluster_bits: int,
) -> Iterator[Run]:
    """Neighbours that lie behind each other in the file are one run."""
    run: Run | None = None
    for place, (before, after) in enumerate(zip(old, new, strict=True)):
        if first + place >= clusters:
            break
        if before | _COPIED == after | _COPIED or not _differs(before, after, has_backing):
            continue
        offset = None if after & _ZERO or not after & _OFFSET_MASK else after & _OFFSET_MASK
        if run is not None and _follows(run, first + place, offset, cluster_bits):
            run = Run(run.index, run.count + 1, run.offset)
            continue
        if run is not None:
            yield run
        run = Run(first + place, 1, offset)
    if run is not None:
        yield run


def _differs(before: int, after: int, has_backing: bool) -> bool:
    """Of two entries that are not the same. Raises DifferenceUnknown."""
    if (before | after) & _COMPRESSED:
        raise DifferenceUnknown("the volume holds compressed clusters")
    was_held, is_held = bool(before & (_OFFSET_MASK | _ZERO)), bool(after & (_OFFSET_MASK | _ZERO))
    if has_backing and was_held and not is_held:
        raise DifferenceUnknown("the volume was rolled back to an older state: its image shows again")
    was_zero = bool(before & _ZERO) or (not was_held and not has_backing)
    is_zero = bool(after & _ZERO) or not is_held
    return not (was_zero and is_zero)


def _follows(run: Run, index: int, offset: int | None, cluster_bits: int) -> bool:
    if run.index + run.count != index or (run.count + 1) << cluster_bits > _LONGEST_RUN_BYTES:
        return False
    if run.offset is None or offset is None:
        return run.offset is offset
    return run.offset + (run.count << cluster_bits) == offset


def _read_field(file: BinaryIO, offset: int, layout: struct.Struct) -> int:
    file.seek(offset)
    return int(layout.unpack(file.read(layout.size))[0])
