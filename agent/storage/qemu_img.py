"""qemu-img as a child process that is bounded in time, memory and CPU."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final, Literal

from agent.errors import StorageExhausted, StorageFailed, tells_out_of_space

_TIMEOUT_SECONDS: Final = 60.0
# A crafted image can make qemu-img allocate without end; OpenStack uses the same limits.
_LIMITS: Final = ("prlimit", "--as=1073741824", "--cpu=30", "--")


async def create_overlay(path: Path, size_bytes: int, backing: Path, backing_format: Literal["qcow2", "raw"]) -> None:
    """A new qcow2 file of this size whose unwritten clusters come from `backing`."""
    # -u: the backing file was checked when it was cached; opening it again would cost as much as the rest.
    await _run(
        "create", "-q", "-f", "qcow2", "-u", "-b", str(backing), "-F", backing_format, str(path), str(size_bytes)
    )


async def create_empty(path: Path, size_bytes: int) -> None:
    """A new qcow2 file of this size that reads as zeros."""
    await _run("create", "-q", "-f", "qcow2", str(path), str(size_bytes))


async def grow(path: Path, size_bytes: int) -> None:
    """The qcow2 file, which nobody uses, has this larger size."""
    await _run("resize", "-q", "-f", "qcow2", str(path), str(size_bytes))


async def rebase(path: Path, backing: Path, backing_format: Literal["qcow2", "raw"]) -> None:
    """The qcow2 file's unwritten clusters come from `backing`, which has the same bytes as what they came from."""
    await _run("rebase", "-q", "-u", "-f", "qcow2", "-b", str(backing), "-F", backing_format, str(path))


async def _run(*arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *_LIMITS,
        "qemu-img",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            _, complaint = await process.communicate()
    except TimeoutError:
        raise StorageFailed(f"qemu-img {arguments[0]} did not end within {_TIMEOUT_SECONDS:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        reason = complaint.decode(errors="replace").strip() or f"exit status {process.returncode}"
        failure = StorageExhausted if tells_out_of_space(reason) else StorageFailed
        raise failure(f"qemu-img {arguments[0]}: {reason}")
