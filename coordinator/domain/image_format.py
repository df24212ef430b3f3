"""What an image's file must be, told from its first bytes."""

from coordinator.errors import ImageUnusable

# As many bytes as `check_format` wants to see of a file.
HEAD_BYTES = 64 * 1024

_QCOW2_MAGIC = b"QFI\xfb"
_QCOW2_HEADER_BYTES = 104
# Bit of the incompatible features of version 3: the data lies in another file.
_EXTERNAL_DATA_FILE = 1 << 2
_ISO_MAGIC_OFFSET = 32769
_ISO_MAGICS = (b"CD001", b"BEA01")


def check_format(image_format: str, head: bytes, size_bytes: int) -> int:
    """The size in bytes of the disk that the file describes; ImageUnusable when it is not what it is said to be.

    A qcow2 file that refers to other files is refused: it would read them on the node.
    """
    if size_bytes == 0:
        raise ImageUnusable("file", "is empty", "文件为空")
    is_qcow2 = head.startswith(_QCOW2_MAGIC)
    if is_qcow2 != (image_format == "qcow2"):
        found = "is" if is_qcow2 else "is not"
        raise ImageUnusable("format", f"the file {found} qcow2", "文件格式与声明不一致")
    if image_format == "iso" and not head[_ISO_MAGIC_OFFSET:].startswith(_ISO_MAGICS):
        raise ImageUnusable("format", "the file is no ISO 9660 or UDF image", "文件不是ISO镜像")
    return _check_qcow2(head) if is_qcow2 else size_bytes


def _check_qcow2(head: bytes) -> int:
    """Layout: QEMU's docs/interop/qcow2."""
    version = int.from_bytes(head[4:8], "big")
    if len(head) < _QCOW2_HEADER_BYTES or version not in (2, 3):
        raise ImageUnusable("file", "the qcow2 header is damaged", "qcow2文件头已损坏")
    if int.from_bytes(head[8:16], "big"):
        raise ImageUnusable("file", "a qcow2 image with a backing file is refused", "不支持带有后端文件的qcow2镜像")
    if int.from_bytes(head[32:36], "big"):
        raise ImageUnusable("file", "an encrypted qcow2 image is refused", "不支持加密的qcow2镜像")
    if version == 3 and int.from_bytes(head[72:80], "big") & _EXTERNAL_DATA_FILE:
        raise ImageUnusable(
            "file", "a qcow2 image with an external data file is refused", "不支持带有外部数据文件的qcow2镜像"
        )
    return int.from_bytes(head[24:32], "big")
