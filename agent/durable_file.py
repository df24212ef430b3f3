"""Files that survive a power failure: whole and old, or whole and new, never half."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import Final

_TEMPORARY_PREFIX: Final = ".new-"
_OWNER: Final = re.compile(rf"{re.escape(_TEMPORARY_PREFIX)}([a-z0-9-]+)\.[0-9a-f]{{8}}-")


def temporary_beside(path: Path, owner: str = "") -> Path:
    """A name in the same directory for what will become `path`; no reader takes it for a finished file.

    `owner`: who writes it, in a directory that several nodes share.
    """
    writer = f"{owner}." if owner else ""
    return path.with_name(f"{_TEMPORARY_PREFIX}{writer}{secrets.token_hex(4)}-{path.name}")


def is_temporary(path: Path) -> bool:
    """Whether a crash left this file before it got its name."""
    return path.name.startswith(_TEMPORARY_PREFIX)


def owner_of(temporary: Path) -> str:
    """Who writes it; empty: it was not said."""
    found = _OWNER.match(temporary.name)
    return found.group(1) if found else ""


def write_file(path: Path, content: bytes, *, mode: int = 0o600, owner: str = "") -> None:
    """`path` holds exactly this content, also after a power failure."""
    temporary = _write_temporary(path, content, mode, owner)
    try:
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_new_file(path: Path, content: bytes, *, mode: int = 0o600, owner: str = "") -> None:
    """The same for a file that nobody else may have made meanwhile. Raises FileExistsError."""
    temporary = _write_temporary(path, content, mode, owner)
    try:
        publish_new(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def publish(temporary: Path, path: Path) -> None:
    """A file that somebody else has written gets its name, durably."""
    _sync_file(temporary)
    temporary.replace(path)
    sync_directory(path.parent)


def publish_new(temporary: Path, path: Path) -> None:
    """The same where a file of that name is kept. Raises FileExistsError; only one of several hosts succeeds."""
    _sync_file(temporary)
    try:
        os.link(temporary, path)
    except FileExistsError:
        # On NFS a request that is sent again may find what it has made the first time.
        if not path.samefile(temporary):
            raise
    temporary.unlink()
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


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _write_temporary(path: Path, content: bytes, mode: int, owner: str) -> Path:
    temporary = temporary_beside(path, owner)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary
