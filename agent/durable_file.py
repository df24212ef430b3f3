"""Files that survive a power failure: whole and old, or whole and new, never half."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

_TEMPORARY_PREFIX = ".new-"


def temporary_beside(path: Path) -> Path:
    """A name in the same directory for what will become `path`; no reader takes it for a finished file."""
    return path.with_name(f"{_TEMPORARY_PREFIX}{secrets.token_hex(4)}-{path.name}")


def is_temporary(path: Path) -> bool:
    """Whether a crash left this file before it got its name."""
    return path.name.startswith(_TEMPORARY_PREFIX)


def write_file(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """`path` holds exactly this content, also after a power failure."""
    temporary = temporary_beside(path)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def publish(temporary: Path, path: Path) -> None:
    """A file that somebody else has written gets its name, durably."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)


def remove_file(path: Path) -> None:
    """`path` is gone for good. Absence is success."""
    path.unlink(missing_ok=True)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Names made, changed or removed in the directory are durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
