"""What an image is, told by its bytes and not by its owner."""

import struct
from pathlib import Path

import pytest

from agent.errors import ImageFormatMismatch
from agent.storage.image_format import ImageFormat, check_image, read_qcow2_header
from tests.unit.agent.storage_builder import MIB, a_qcow2, qemu_img


def test_the_virtual_size_is_what_a_guest_sees(tmp_path: Path) -> None:
    a_qcow2(tmp_path / "image", 5 * MIB)
    assert check_image(tmp_path / "image", "qcow2") == 5 * MIB
    (tmp_path / "raw").write_bytes(bytes(1000))
    assert check_image(tmp_path / "raw", "raw") == 1024


def test_old_qcow2_has_no_features(tmp_path: Path) -> None:
    qemu_img("create", "-q", "-f", "qcow2", "-o", "compat=0.10", tmp_path / "old", MIB)
    assert check_image(tmp_path / "old", "qcow2") == MIB


def test_a_backing_file_is_refused(tmp_path: Path) -> None:
    qemu_img("create", "-q", "-f", "qcow2", "-u", "-b", "/etc/shadow", "-F", "raw", tmp_path / "image", MIB)
    header = read_qcow2_header(tmp_path / "image")
    assert header is not None
    assert header.backing_file == "/etc/shadow"
    with pytest.raises(ImageFormatMismatch, match="backing file"):
        check_image(tmp_path / "image", "qcow2")


def test_an_external_data_file_is_refused(tmp_path: Path) -> None:
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={tmp_path}/data", tmp_path / "image", MIB)
    with pytest.raises(ImageFormatMismatch, match="another file"):
        check_image(tmp_path / "image", "qcow2")


@pytest.mark.parametrize(
    ("offset", "layout", "value", "reason"), [(32, ">I", 2, "encrypted"), (72, ">Q", 2, "corrupt")]
)
def test_what_qemu_could_not_serve_is_refused(
    tmp_path: Path, offset: int, layout: str, value: int, reason: str
) -> None:
    content = bytearray(a_qcow2(tmp_path / "image"))
    struct.pack_into(layout, content, offset, value)
    (tmp_path / "image").write_bytes(content)
    with pytest.raises(ImageFormatMismatch, match=reason):
        check_image(tmp_path / "image", "qcow2")


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (b"QFI\xfb", "raw"),
        (b"QFI\xfb", "iso"),
        (b"KDMV", "raw"),
        (b"\0" * 8, "qcow2"),
        (b"\0" * 8, "iso"),
        (b"", "qcow2"),
    ],
)
def test_another_format_than_said_is_refused(tmp_path: Path, start: bytes, said: ImageFormat) -> None:
    (tmp_path / "image").write_bytes(start)
    with pytest.raises(ImageFormatMismatch):
        check_image(tmp_path / "image", said)


def test_an_iso_is_known_by_its_volume_descriptor(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(bytes(32769) + b"CD001" + bytes(2042))
    assert check_image(tmp_path / "image", "iso") == 34816
