"""Disks that are overwritten with zeros, piece by piece, so that a wiping that is cut off goes on where it was."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

from agent.devices.thread import run_to_end
from agent.errors import DeviceInUse, DeviceWipeFailed

# _IO(0x12, 127), offset and length: the device itself may do it. Source: include/uapi/linux/fs.h.
_BLKZEROOUT: Final = 0x127F
_RANGE: Final = struct.Struct("=QQ")
# _IO(0x12, 95): the kernel forgets partitions that are not there any more.
_BLKRRPART: Final = 0x125F
CHUNK_BYTES: Final = 256 * 1024**2
_WRITE_BYTES: Final = 4 * 1024**2
# What says that there is no such request: no block device, or a driver of old.
_NO_REQUEST: Final = (errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL)


async def wipe(
    path: Path, begin_bytes: int = 0, *, number: str = "", chunk_bytes: int = CHUNK_BYTES
) -> AsyncGenerator[tuple[int, int]]:
    """Overwrites from there to the end; after each piece, when it is durable, how many bytes of how many are done.

    `number`: the device number ("8:16") that must be behind the path. Raises DeviceInUse, DeviceWipeFailed.
    """
    with contextlib.ExitStack() as opened:
        # In a thread: a disk that sleeps or fails takes long to open.
        descriptor = await run_to_end(None, _open, path, number, opened)
        total_bytes = os.lseek(descriptor, 0, os.SEEK_END)
        done_bytes = min(begin_bytes, total_bytes)
        yield done_bytes, total_bytes
        while done_bytes < total_bytes:
            length = min(chunk_bytes, total_bytes - done_bytes)
            # A piece that has begun ends before anybody closes the disk.
            await run_to_end(None, _overwrite, descriptor, done_bytes, length, path)
            done_bytes += length
            yield done_bytes, total_bytes
        with contextlib.suppress(OSError):  # of a disk without partitions, or a file
            await run_to_end(None, fcntl.ioctl, descriptor, _BLKRRPART)


def _open(path: Path, number: str, opened: contextlib.ExitStack) -> int:
    try:
        # Exclusive: the kernel refuses what is mounted, swap, or part of something.
        descriptor = os.open(path, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise DeviceInUse(f"{path} is in use on the node: it cannot be wiped") from error
        raise DeviceWipeFailed(f"{path} cannot be opened: {error.strerror}") from error
    opened.callback(os.close, descriptor)
    status = os.fstat(descriptor)
    present = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    if number and not (stat.S_ISBLK(status.st_mode) and present == number):
        raise DeviceWipeFailed(f"{path} is another disk now ({present}, not {number}): it was left alone")
    return descriptor


def _overwrite(descriptor: int, offset: int, length: int, path: Path) -> None:
    try:
        try:
            fcntl.ioctl(descriptor, _BLKZEROOUT, _RANGE.pack(offset, length))
        except OSError as error:
            if error.errno not in _NO_REQUEST:
                raise
            _write_zeros(descriptor, offset, length)
        os.fsync(descriptor)
    except OSError as error:
        raise DeviceWipeFailed(f"{path} could not be overwritten at byte {offset}: {error.strerror}") from error


def _write_zeros(descriptor: int, offset: int, length: int) -> None:
    zeros = memoryview(bytes(_WRITE_BYTES))
    end = offset + length
    while offset < end:
        offset += os.pwrite(descriptor, zeros[: end - offset], offset)
