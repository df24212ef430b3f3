"""One volume as a file, with what is written beside it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

import structlog

from agent.errors import VolumeCorrupt
from agent.storage.base import Volume, VolumeSpec
from agent.storage.image_format import Qcow2Header, read_qcow2_header

# Of one guest at a time.
QCOW2: Final = ".qcow2"
# Of several guests at once: whoever has a file open keeps no tables of it that others would change.
RAW: Final = ".raw"
_BLOCK_BYTES: Final = 512

log = structlog.get_logger(__name__)


def read_volume(path: Path) -> Volume | None:
    """The volume in this file; None when there is none."""
    try:
        header = read_qcow2_header(path) if path.suffix == QCOW2 else None
        status = path.stat()
    except FileNotFoundError:
        return None
    if header is None and path.suffix == QCOW2:
        log.error("volume.not_qcow2", uuid=path.stem)
        return None
    description = _read_description(path.with_suffix(".json"))
    return Volume(
        uuid=path.stem,
        size_bytes=header.virtual_size_bytes if header else status.st_size,
        allocated_bytes=status.st_blocks * _BLOCK_BYTES,
        volume_type=description.get("volumeType", ""),
        image_id=_image_of(header) if header else None,
        transfer_id=description.get("transferId", ""),
        shared=header is None,
        encrypted=header is not None and header.encrypted,
    )


def make_raw(path: Path, size_bytes: int) -> None:
    """A new file of this size that reads as zeros, and takes space only where it is written to."""
    with path.open("xb") as file:
        file.truncate(size_bytes)


def supports_direct_io(directory: Path) -> bool:
    """Whether files in the directory can be opened with O_DIRECT (tmpfs, for one, may refuse)."""
    probe = directory / f".direct-io-{os.getpid()}"
    try:
        os.close(os.open(probe, os.O_CREAT | os.O_RDWR | os.O_DIRECT, 0o600))
    except OSError:
        return False
    finally:
        probe.unlink(missing_ok=True)
    return True


def check_content(header: Qcow2Header | None, spec: VolumeSpec) -> None:
    """What another node has sent is not trusted to name the files that QEMU opens. Raises VolumeCorrupt."""
    if header is None or header.external_data or header.encrypted != spec.encrypted:
        raise VolumeCorrupt(f"volume {spec.uuid}: what has come is no volume")
    if (header.virtual_size_bytes, _image_of(header)) != (spec.size_bytes, spec.image_id):
        raise VolumeCorrupt(
            f"volume {spec.uuid}: {header.virtual_size_bytes} bytes from {_image_of(header) or 'no image'} have come, "
            f"{spec.size_bytes} from {spec.image_id or 'no image'} were expected"
        )


def _image_of(header: Qcow2Header) -> str | None:
    return Path(header.backing_file).stem if header.backing_file else None


def _read_description(path: Path) -> dict[str, str]:
    try:
        return {str(name): str(value) for name, value in json.loads(path.read_bytes()).items()}
    except (FileNotFoundError, ValueError, AttributeError):
        return {}
