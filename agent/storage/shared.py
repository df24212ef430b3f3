"""A directory that several nodes may share: one identity for all of them, and locks that reach from host to host.

The locks are Linux's open file description locks on byte ranges. NFS carries them to its server unless it is mounted
with `nolock`; a crash, of the agent or of its host, releases them.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
import struct
from collections.abc import AsyncGenerator, Iterable
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from agent.durable_file import write_new_file
from agent.errors import StorageFailed
from agent.storage.share import Share

_ID_NAME: Final = ".storage-id"
_LOCK_NAME: Final = ".lock"
_NODE_PREFIX: Final = ".node-"
_RETRY_SECONDS: Final = 0.05
# struct flock: type, whence, start, length, process (0 with these locks).
_FLOCK: Final = struct.Struct("hhqqi4x")
# Where QEMU keeps its locks on an image: what a program needs, and what it does not let others do.
# Source: block/file-posix.c of QEMU, RAW_LOCK_PERM_BASE and RAW_LOCK_SHARED_BASE.
_QEMU_LOCKS: Final = ((100, 64), (200, 64))
_QEMU_WRITE_LOCK: Final = ((101, 1),)


def ensure_storage_id(directory: Path, owner: str) -> str:
    """The identity of the directory: the same for all nodes that have it, made once. Raises StorageFailed."""
    path = directory / _ID_NAME
    try:
        if not path.exists():
            with contextlib.suppress(FileExistsError):  # another node was first
                write_new_file(path, f"{uuid4()}\n".encode(), mode=0o644, owner=owner)
        return str(UUID(path.read_text().strip()))
    except (OSError, ValueError) as error:
        raise StorageFailed(f"{path}: {error}") from error


def leave_mark(directory: Path, owner: str) -> None:
    """The nodes that share the directory can see that this one has it, too."""
    (directory / f"{_NODE_PREFIX}{owner}").touch(mode=0o644)


def list_other_nodes(directory: Path, owner: str) -> list[str]:
    """Who else has served with this directory; nobody when there is none."""
    marks = directory.glob(f"{_NODE_PREFIX}*")
    return sorted({mark.name.removeprefix(_NODE_PREFIX) for mark in marks} - {owner})


def is_open_in_qemu(path: Path, *, for_writing: bool = False) -> bool:
    """Whether a program of QEMU has the image open (for writing), on this host or on another one that shares it."""
    return are_locked(path, _QEMU_WRITE_LOCK if for_writing else _QEMU_LOCKS)


def are_locked(path: Path, ranges: Iterable[tuple[int, int]]) -> bool:
    """Whether anybody, on any host, has locked a byte of these ranges (start, length) of the file."""
    with path.open("rb") as file:
        return any(_is_locked(file.fileno(), start, length) for start, length in ranges)


@contextlib.asynccontextmanager
async def locked(directory: Path, name: str, share: Share) -> AsyncGenerator[None]:
    """Nobody else, on whatever host, is in here with this name.

    Raises StorageFailed where locks do not work, or their server does not answer.
    """
    start = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7])
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    descriptor = await share.run(os.open, directory / _LOCK_NAME, flags, 0o600)
    try:
        while True:
            if await share.run(_try_lock, descriptor, start):
                break
            await asyncio.sleep(_RETRY_SECONDS)
        yield
    finally:
        with contextlib.suppress(StorageFailed):  # it is closed, and unlocked, once the server answers
            await share.finish(os.close, descriptor)


def _try_lock(descriptor: int, start: int) -> bool:
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, 1, 0))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise StorageFailed(f"locks do not work where volumes are kept: {error}") from error
    return True


def _is_locked(descriptor: int, start: int, length: int) -> bool:
    wanted = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
    kind, *_ = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, wanted))
    return bool(kind != fcntl.F_UNLCK)
