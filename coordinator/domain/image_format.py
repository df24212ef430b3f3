"""What an image's file is, told from its first bytes, and whether it may be given to nodes."""

import struct
from dataclasses import dataclass
from typing import Final

from coordinator.errors import ImageUnusable

# What goes into optical drives.
ISO: Final = "iso"

# As many bytes as `check_format` wants to see of a file.
HEAD_BYTES: Final = 64 * 1024

_QCOW2_MAGIC: Final = b"QFI\xfb"
_ISO_MAGIC_OFFSET: Final = 32769
_ISO_MAGICS: Final = (b"CD001", b"BEA01")
# Containers that are not taken: a guest would see the container instead of what is in it.
_OTHER_MAGICS: Final = {
    b"KDMV": "vmdk",
    b"COWD": "vmdk",
    b"# Disk DescriptorFile": "vmdk",
    b"vhdxfile": "vhdx",
    b"conectix": "vhd",
    b"<<< Oracle VM VirtualBox": "vdi",
    b"LUKS\xba\xbe": "luks",
    b"QED\x00": "qed",
    b"\x1f\x8b\x08": "gzip",
    b"\xfd7zXZ\x00": "xz",
    b"(\xb5/\xfd": "zstd",
    b"BZh": "bzip2",
}

# Version 2 of the header: magic, version, backing file's offset and length, cluster bits, size, encryption, entries and
# offset of the L1 table, offset and clusters of the reference count table, number and offset of snapshots.
_QCOW2_HEADER: Final = struct.Struct(">4sIQIIQIIQQIIQ")
_QCOW2_FEATURES: Final = struct.Struct(">Q")
# What version 3 may say and an older reader must know; QEMU reads all of these.
_DIRTY, _CORRUPT, _EXTERNAL_DATA, _COMPRESSION_TYPE, _EXTENDED_L2 = (1 << bit for bit in range(5))
_KNOWN_FEATURES: Final = _DIRTY | _COMPRESSION_TYPE | _EXTENDED_L2
_CLUSTER_BITS: Final = range(9, 22)
# QEMU's own limits: of larger tables it would take memory without end.
_MAXIMUM_L1_BYTES: Final = 32 * 1024**2
_MAXIMUM_REFERENCE_TABLE_BYTES: Final = 8 * 1024**2


@dataclass(frozen=True, slots=True)
class ImageShape:
    """What a file was found to be; the size in bytes is that of the disk which it describes."""

    format: str
    virtual_size_bytes: int


@dataclass(frozen=True, slots=True)
class _Qcow2:
    version: int
    backing_offset: int
    cluster_bits: int
    size_bytes: int
    encryption: int
    l1_entries: int
    l1_offset: int
    reference_offset: int
    reference_clusters: int
    features: int

    @property
    def l1_entries_needed(self) -> int:
        l2_entry_bytes = 16 if self.features & _EXTENDED_L2 else 8
        covered_bytes = (1 << self.cluster_bits) * ((1 << self.cluster_bits) // l2_entry_bytes)
        return -(-self.size_bytes // covered_bytes)


def check_format(image_format: str, head: bytes, size_bytes: int, maximum_virtual_bytes: int) -> ImageShape:
    """What the file is; ImageUnusable when that is not the format given (empty: any), or must not come to nodes.

    A qcow2 file that refers to other files is refused, for it would read them on the node, and so is one whose tables
    or sizes would make QEMU take memory, or its guest disk space, without end.
    """
    if size_bytes == 0:
        raise ImageUnusable("file", "is empty", "文件为空")
    found = _detect(head)
    # A hybrid ISO image is a raw disk as well.
    if image_format and found != image_format and (image_format, found) != ("raw", "iso"):
        said = "no ISO 9660 or UDF image" if image_format == "iso" else f"{found}, not {image_format}"
        raise ImageUnusable("format", f"the file is {said}", f"文件格式为{found}，与声明的{image_format}不一致")
    virtual_size_bytes = _check_qcow2(head, size_bytes) if found == "qcow2" else size_bytes
    if virtual_size_bytes > maximum_virtual_bytes:
        raise ImageUnusable(
            "file",
            f"describes a disk of {virtual_size_bytes} bytes; {maximum_virtual_bytes} are the most",
            f"镜像描述的磁盘为{virtual_size_bytes}字节，最大允许{maximum_virtual_bytes}字节",
        )
    return ImageShape(image_format or found, virtual_size_bytes)


def _detect(head: bytes) -> str:
    if head.startswith(_QCOW2_MAGIC):
        return "qcow2"
    if head[_ISO_MAGIC_OFFSET:].startswith(_ISO_MAGICS):
        return "iso"
    for magic, name in _OTHER_MAGICS.items():
        if head.startswith(magic):
            raise ImageUnusable(
                "format", f"the file is {name}: only raw, qcow2 and ISO images are taken", f"不支持{name}格式的文件"
            )
    return "raw"


def _check_qcow2(head: bytes, size_bytes: int) -> int:
    """Layout: QEMU's docs/interop/qcow2."""
    header = _read_qcow2(head)
    if header.backing_offset:
        raise ImageUnusable("file", "a qcow2 image with a backing file is refused", "不支持带有后端文件的qcow2镜像")
    if header.encryption:
        raise ImageUnusable("file", "an encrypted qcow2 image is refused", "不支持加密的qcow2镜像")
    if header.features & _EXTERNAL_DATA:
        raise ImageUnusable(
            "file", "a qcow2 image with an external data file is refused", "不支持带有外部数据文件的qcow2镜像"
        )
    if header.features & _CORRUPT:
        raise ImageUnusable("file", "the qcow2 image is marked corrupt", "qcow2镜像已标记为损坏")
    if unknown := header.features & ~_KNOWN_FEATURES:
        raise ImageUnusable("file", f"the qcow2 image has unknown features {unknown:#x}", "qcow2镜像含有未知特性")
    _check_tables(header, size_bytes)
    return header.size_bytes


def _read_qcow2(head: bytes) -> _Qcow2:
    version = int.from_bytes(head[4:8], "big")
    if len(head) < _QCOW2_HEADER.size + _QCOW2_FEATURES.size or version not in (2, 3):
        raise _damaged("the header")
    _, _, backing, _, cluster_bits, size, encryption, l1_entries, l1_offset, references, clusters, _, _ = (
        _QCOW2_HEADER.unpack_from(head)
    )
    features = _QCOW2_FEATURES.unpack_from(head, _QCOW2_HEADER.size)[0] if version == 3 else 0
    if cluster_bits not in _CLUSTER_BITS:
        raise _damaged("the cluster size")
    return _Qcow2(
        version, backing, cluster_bits, size, encryption, l1_entries, l1_offset, references, clusters, features
    )


def _check_tables(header: _Qcow2, size_bytes: int) -> None:
    l1_bytes = header.l1_entries * 8
    if l1_bytes > _MAXIMUM_L1_BYTES or header.l1_entries < header.l1_entries_needed:
        raise _damaged("the size of the L1 table")
    if header.l1_offset + l1_bytes > size_bytes:
        raise _damaged("the L1 table, which lies beyond the end of the file,")
    reference_bytes = header.reference_clusters << header.cluster_bits
    if reference_bytes > _MAXIMUM_REFERENCE_TABLE_BYTES or header.reference_offset >= size_bytes:
        raise _damaged("the reference count table")


def _damaged(part: str) -> ImageUnusable:
    return ImageUnusable("file", f"{part} of the qcow2 image is damaged", "qcow2文件已损坏")
