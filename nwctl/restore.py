"""Disks put together again from the files of backups, checked before, by qemu-img and without a coordinator."""

import hashlib
import json
import shutil
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nwctl.error import NwctlError, UsageError

CHUNK_BYTES: Final = 1 << 20
# Big-endian: magic, version, place and length of the backing file's name.
HEADER: Final = struct.Struct(">4sIQI")
MAGIC: Final = b"QFI\xfb"
NAME_MAXIMUM: Final = 1023
# More increments than anybody keeps: what names itself as its parent ends.
LONGEST_CHAIN: Final = 10_000


class BackupDamaged(NwctlError):
    """A file is not what its manifest says."""


@dataclass(frozen=True)
class Link:
    """A backup's file, and what was told of it."""

    file: Path
    manifest: dict[str, Any]


def manifest_of(file: Path) -> Path:
    """Where a backup's manifest is: beside its file."""
    return file.with_suffix(".json")


def read_chain(file: Path) -> list[Link]:
    """The backup and all that it is based on, which lie beside it, the full one last. Raises UsageError."""
    chain: list[Link] = []
    while len(chain) < LONGEST_CHAIN:
        link = read_link(file)
        chain.append(link)
        parent = link.manifest["parentFileName"]
        if not parent:
            return chain
        if Path(parent).name != parent:
            raise BackupDamaged(f"{manifest_of(file)}: {parent!r} is not the name of a file beside it")
        file = file.parent / parent
    raise BackupDamaged(f"{file}: its increments have no end")


def read_link(file: Path) -> Link:
    """One of them."""
    path = manifest_of(file)
    try:
        manifest = json.loads(path.read_text())
        known = {name: manifest[name] for name in ("backupId", "parentFileName", "fileBytes", "sha256", "volumeUuid")}
    except OSError as error:
        raise UsageError(f"{file.name} needs what was told of it in {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BackupDamaged(f"{path} is not the manifest of a backup: {error}") from error
    if not file.is_file():
        raise UsageError(f"{file} is missing: download backup {known['backupId']} into the same directory")
    return Link(file, manifest)


def check_link(link: Link, on_progress: Callable[[int], object]) -> None:
    """The file is the one that the manifest tells of, and refers to no other than that does. Raises BackupDamaged."""
    if (found := digest(link.file, on_progress)) != link.manifest["sha256"]:
        raise BackupDamaged(f"{link.file}: SHA-256 is {found}, not {link.manifest['sha256']}: download it again")
    if (name := backing_name(link.file)) != link.manifest["parentFileName"]:
        raise BackupDamaged(f"{link.file} is based on {name!r}, not on {link.manifest['parentFileName']!r}")


def digest(file: Path, on_progress: Callable[[int], object] = lambda _: None) -> str:
    """The file's SHA-256 in hex."""
    found = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            found.update(chunk)
            on_progress(stream.tell())
    return found.hexdigest()


def backing_name(file: Path) -> str:
    """What a qcow2 file is based on; empty: nothing. Raises BackupDamaged for what is no qcow2 file."""
    with file.open("rb") as stream:
        start = stream.read(HEADER.size)
        if len(start) < HEADER.size or not start.startswith(MAGIC):
            raise BackupDamaged(f"{file} is not a qcow2 file")
        _, _, offset, length = HEADER.unpack(start)
        stream.seek(offset)
        return stream.read(min(length, NAME_MAXIMUM)).decode(errors="replace") if offset else ""


def assemble(file: Path, target: Path, image_format: str) -> None:
    """Writes the disk that a checked chain holds; `target` is there only when it is complete. Raises NwctlError."""
    program = shutil.which("qemu-img")
    if program is None:
        raise UsageError("qemu-img is needed for this: install qemu-utils (Debian) or qemu-img (RHEL)")
    part = target.with_name(f"{target.name}.part")
    command = [program, "convert", "-f", "qcow2", "-O", image_format, str(file), str(part)]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise NwctlError(f"qemu-img: {done.stderr.strip() or done.returncode}")
        part.rename(target)
    finally:
        part.unlink(missing_ok=True)
