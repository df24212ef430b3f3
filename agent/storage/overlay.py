"""Writes qcow2 files that hold a part of a disk and name another file for the rest, which need not be there.

qemu-img opens what an overlay is to be based on; the copies here are based on one that is elsewhere. Clusters are
written in the order of the disk, each once; tables follow, and the header comes last: before, it is no qcow2 file.

Source: docs/interop/qcow2.txt of QEMU.
"""

from __future__ import annotations

import struct
from typing import BinaryIO, Final

_HEADER: Final = struct.Struct(">4sIQIIQIIQQIIQQQQII")
_MAGIC: Final = b"QFI\xfb"
_VERSION: Final = 3
# An extension of the header: its type, the length of what follows.
_EXTENSION: Final = struct.Struct(">II")
_FORMAT_EXTENSION: Final = 0xE2792ACA
_FORMAT: Final = b"qcow2"
_COPIED: Final = 1 << 63
_ZERO: Final = 1
_ENTRY_BYTES: Final = 8
# Reference counts of 16 bits.
_REFCOUNT_ORDER: Final = 4
_REFCOUNT_BYTES: Final = 2


class OverlayWriter:
    """One such file, empty at the beginning, which the caller opens and closes."""

    def __init__(self, file: BinaryIO, size_bytes: int, cluster_bits: int, backing_name: str) -> None:
        self._file = file
        self._size_bytes = size_bytes
        self._bits = cluster_bits
        self._cluster_bytes = 1 << cluster_bits
        self._backing_name = backing_name.encode()
        self._entries = self._cluster_bytes // _ENTRY_BYTES
        clusters = -(-size_bytes // self._cluster_bytes)
        self._tables = [0] * -(-clusters // self._entries)
        self._zeros = bytes(self._cluster_bytes)
        # Of the disk's part that is being written: its number, and its table.
        self._part = 0
        self._table: list[int] | None = None
        # The header has the first cluster.
        self._used = 1
        file.seek(self._cluster_bytes)

    def write(self, index: int, data: bytes) -> None:
        """The cluster of the disk, and those that follow, hold this. Zeros take no space."""
        for start in range(0, len(data), self._cluster_bytes):
            block = data[start : start + self._cluster_bytes]
            entry = _ZERO if block == self._zeros else self._append(block) | _COPIED
            self._note(index + start // self._cluster_bytes, entry)

    def write_zeros(self, index: int, count: int) -> None:
        """These clusters of the disk read as zeros."""
        for place in range(index, index + count):
            self._note(place, _ZERO)

    def finish(self) -> None:
        """The file is a qcow2 file."""
        self._end_part()
        table_offset = self._append_table(self._tables)
        block_entries = self._cluster_bytes // _REFCOUNT_BYTES
        blocks, tables = 0, 1
        while True:
            total = self._used + blocks + tables
            wanted = (-(-total // block_entries), -(-blocks * _ENTRY_BYTES // self._cluster_bytes) or 1)
            if wanted == (blocks, tables):
                break
            blocks, tables = wanted
        counts = struct.pack(">H", 1) * total
        first_block = self._append(self._pad(counts)[: blocks * self._cluster_bytes])
        pointers = [first_block + (number << self._bits) for number in range(blocks)]
        counts_offset = self._append_table(pointers)
        self._file.seek(0)
        self._file.write(self._pad(self._format_header(table_offset, counts_offset, tables)))

    def _format_header(self, table_offset: int, counts_offset: int, counts_clusters: int) -> bytes:
        extensions = _EXTENSION.pack(_FORMAT_EXTENSION, len(_FORMAT)) + _FORMAT.ljust(8, b"\0") + _EXTENSION.pack(0, 0)
        name_offset = _HEADER.size + len(extensions)
        fields = (_MAGIC, _VERSION, name_offset, len(self._backing_name), self._bits, self._size_bytes, 0)
        places = (len(self._tables), table_offset, counts_offset, counts_clusters)
        rest = (0, 0, 0, 0, 0, _REFCOUNT_ORDER, _HEADER.size)
        return _HEADER.pack(*fields, *places, *rest) + extensions + self._backing_name

    def _note(self, index: int, entry: int) -> None:
        part, place = divmod(index, self._entries)
        if part != self._part:
            self._end_part()
            self._part = part
        if self._table is None:
            self._table = [0] * self._entries
        self._table[place] = entry

    def _end_part(self) -> None:
        if self._table is not None:
            self._tables[self._part] = self._append_table(self._table) | _COPIED
            self._table = None

    def _append_table(self, entries: list[int]) -> int:
        return self._append(self._pad(struct.pack(f">{len(entries)}Q", *entries)))

    def _append(self, data: bytes) -> int:
        """Where it was written, at the end of the file; whole clusters."""
        offset = self._used << self._bits
        self._file.write(data)
        self._used += len(data) >> self._bits
        return offset

    def _pad(self, data: bytes) -> bytes:
        return data.ljust(max(1, -(-len(data) // self._cluster_bytes)) * self._cluster_bytes, b"\0")
