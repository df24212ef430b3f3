"""What an image file really is, told from its bytes.

The content is a stranger's: QEMU never gets to guess a format or to follow a reference to another file.
Source: docs/interop/qcow2.txt of QEMU; ECMA-119 (ISO 9660), volume descriptors.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Literal

from agent.errors import ImageFormatMismatch

ImageFormat = Literal["raw", "qcow2", "iso"]

_QCOW2_MAGIC: Final = b"QFI\xfb"
# Big-endian: magic, version, backing file offset and length, cluster bits, size, encryption, …
_QCOW2_HEADER: Final = struct.Struct(">4sIQIIQI")
_QCOW2_FEATURES_OFFSET: Final = 72
_FEATURE_CORRUPT: Final = 1 << 1
_FEATURE_EXTERNAL_DATA: Final = 1 << 2

_QCOW2_SNAPSHOTS_OFFSET: Final = 60
# Number of snapshots, and where their table is.
_QCOW2_SNAPSHOTS: Final = struct.Struct(">IQ")
# Its tables' place and size, lengths of id and name, seconds, nanoseconds, the guest's clock, sizes of state and extra.
_QCOW2_SNAPSHOT: Final = struct.Struct(">QIHHIIQII")
# In what follows it: the state's size in 64 bits, then that of the disk.
_QCOW2_SNAPSHOT_EXTRA: Final = struct.Struct(">QQ")
_QCOW2_SNAPSHOTS_LIMIT: Final = 65536
# QEMU admits no more of it.
_QCOW2_SNAPSHOT_EXTRA_LIMIT: Final = 1024

_ISO_MAGIC: Final = b"CD001"
_ISO_MAGIC_OFFSET: Final = 32769

# Containers that a raw image must not be: a guest would see the container instead of its content.
_OTHER_MAGICS: Final = {
    _QCOW2_MAGIC: "qcow2",
    b"KDMV": "vmdk",
    b"vhdxfile": "vhdx",
    b"conectix": "vpc",
    b"<<< Oracle VM VirtualBox": "vdi",
    b"LUKS\xba\xbe": "luks",
}
_SECTOR_BYTES: Final = 512


@dataclass(frozen=True)
class Qcow2Header:
    """The part of a qcow2 header that matters here."""

    virtual_size_bytes: int
    # As it is written in the file; None: the image stands alone.
    backing_file: str | None
    encrypted: bool
    corrupt: bool
    external_data: bool


def read_qcow2_header(path: Path) -> Qcow2Header | None:
    """The header of a qcow2 file, None when it is something else."""
    with path.open("rb") as file:
        start = file.read(104)
        if len(start) < _QCOW2_HEADER.size or not start.startswith(_QCOW2_MAGIC):
            return None
        _, version, name_offset, name_length, _, size_bytes, encryption = _QCOW2_HEADER.unpack_from(start)
        features = (
            struct.unpack_from(">Q", start, _QCOW2_FEATURES_OFFSET)[0] if version >= 3 and len(start) >= 80 else 0
        )
        name = None
        if name_offset:
            file.seek(name_offset)
            name = file.read(min(name_length, 1023)).decode(errors="replace")
    return Qcow2Header(
        virtual_size_bytes=size_bytes,
        backing_file=name,
        encrypted=encryption != 0,
        corrupt=bool(features & _FEATURE_CORRUPT),
        external_data=bool(features & _FEATURE_EXTERNAL_DATA),
    )


@dataclass(frozen=True)
class DiskSnapshot:
    """A state of a disk that its qcow2 file keeps beside the present one."""

    name: str
    # Of the disk, as it was then.
    size_bytes: int
    # Seconds since 1970.
    taken_at_seconds: int
    # Where in the file its first table is, and how many entries that has.
    table_offset: int = 0
    table_entries: int = 0


def read_qcow2_snapshots(path: Path) -> tuple[DiskSnapshot, ...]:
    """Those of a qcow2 file, the oldest first; QEMU may have it open. Raises ValueError when their table is broken."""
    with path.open("rb") as file:
        file.seek(_QCOW2_SNAPSHOTS_OFFSET)
        count, offset = _QCOW2_SNAPSHOTS.unpack(file.read(_QCOW2_SNAPSHOTS.size))
        if count > _QCOW2_SNAPSHOTS_LIMIT:
            raise ValueError(f"{path}: {count} snapshots")
        file.seek(offset)
        return tuple(_read_snapshot(file) for _ in range(count))


def _read_snapshot(file: BinaryIO) -> DiskSnapshot:
    start = file.tell()
    try:
        fields = _QCOW2_SNAPSHOT.unpack(file.read(_QCOW2_SNAPSHOT.size))
        id_length, name_length, taken_at_seconds, extra_length = fields[2], fields[3], fields[4], fields[8]
        extra = file.read(extra_length if extra_length <= _QCOW2_SNAPSHOT_EXTRA_LIMIT else 0)
        _, size_bytes = _QCOW2_SNAPSHOT_EXTRA.unpack_from(extra)
    except struct.error as error:
        raise ValueError(f"{file.name}: the table of snapshots is broken") from error
    file.read(id_length)
    name = file.read(name_length).decode(errors="replace")
    # Entries begin at multiples of eight bytes.
    file.seek(start + -(-(file.tell() - start) // 8) * 8)
    return DiskSnapshot(name, size_bytes, taken_at_seconds, fields[0], fields[1])


def check_image(path: Path, wanted: ImageFormat) -> int:
    """The virtual size in bytes of an image that is what it is said to be. Raises ImageFormatMismatch."""
    if wanted == "qcow2":
        return _check_qcow2(path)
    with path.open("rb") as file:
        start = file.read(64)
        file.seek(_ISO_MAGIC_OFFSET)
        is_iso = file.read(len(_ISO_MAGIC)) == _ISO_MAGIC
    if wanted == "iso" and not is_iso:
        raise ImageFormatMismatch("format: the image is not an ISO 9660 file system")
    for magic, name in _OTHER_MAGICS.items():
        if start.startswith(magic):
            raise ImageFormatMismatch(f"format: the image is {name}, not {wanted}")
    size_bytes = path.stat().st_size
    return -(-size_bytes // _SECTOR_BYTES) * _SECTOR_BYTES


def _check_qcow2(path: Path) -> int:
    header = read_qcow2_header(path)
    if header is None:
        raise ImageFormatMismatch("format: the image is not qcow2")
    if header.backing_file is not None:
        raise ImageFormatMismatch("format: the qcow2 image has a backing file; flatten it with qemu-img convert")
    if header.external_data:
        raise ImageFormatMismatch("format: the qcow2 image keeps its data in another file")
    if header.encrypted:
        raise ImageFormatMismatch("format: the qcow2 image is encrypted")
    if header.corrupt:
        raise ImageFormatMismatch("format: the qcow2 image is marked corrupt; see qemu-img check")
    return header.virtual_size_bytes
