"""qemu-img as a child process that is bounded in time, memory and CPU."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Final, Literal

from agent.errors import StorageExhausted, StorageFailed, tells_out_of_space

_TIMEOUT_SECONDS: Final = 60.0
# A crafted image can make qemu-img allocate without end; OpenStack uses the same limits.
_LIMITS: Final = ("prlimit", "--as=1073741824", "--cpu=30", "--")
# All tables of a volume of many TiB are gone through, or an image of many GiB is written out in full.
_LONG_SECONDS: Final = 540.0
# Small volumes have small clusters, which waste little and are copied soon when a snapshot shares them. Large ones have
# larger clusters, so that their tables, which a snapshot goes through while the guest stands still, stay small.
_CLUSTER_BYTES: Final = ((128 * 1024**3, 64 * 1024), (512 * 1024**3, 256 * 1024), (2 * 1024**4, 1024 * 1024))
_LARGEST_CLUSTER_BYTES: Final = 2 * 1024 * 1024
# By which an encrypted file and its passphrase find each other on a command line.
_KEY_OBJECT: Final = "key"
# Passphrases are 256 random bits: to make guessing slow, and each opening with it, adds nothing.
_LUKS: Final = f",encrypt.format=luks,encrypt.key-secret={_KEY_OBJECT},encrypt.iter-time=10"
_CREATE_TRIES: Final = 10
_NOT_MEASURED: Final = "Unable to get accurate CPU usage"
_PERCENT: Final = re.compile(rb"\((\d+)\.\d+/100%\)")


async def create_overlay(
    path: Path, size_bytes: int, backing: Path, backing_format: Literal["qcow2", "raw"], *, key: Path | None = None
) -> None:
    """A new qcow2 file of this size whose unwritten clusters come from `backing`; with a key it is encrypted."""
    # -u: the backing file was checked when it was cached; opening it again would cost as much as the rest.
    await _create(
        *(*_key_object(key), "-f", "qcow2", "-u", *_create_options(size_bytes, key)),
        *("-b", str(backing), "-F", backing_format, str(path), str(size_bytes)),
    )


async def create_empty(path: Path, size_bytes: int, *, key: Path | None = None) -> None:
    """A new qcow2 file of this size that reads as zeros; with a key it is encrypted."""
    options = _create_options(size_bytes, key)
    await _create(*_key_object(key), "-f", "qcow2", *options, str(path), str(size_bytes))


async def grow(path: Path, size_bytes: int, *, key: Path | None = None) -> None:
    """The qcow2 file, which nobody uses, has this larger size."""
    await _run("resize", "-q", *_opened(path, key), str(size_bytes))


async def write_raw(source: Path, source_format: Literal["qcow2", "raw"], device: Path) -> None:
    """The device, which holds zeros and is large enough, holds what the image does."""
    options = ("-q", "-n", "--target-is-zero", "-t", "none", "-W", "-f", source_format, "-O", "raw")
    await _run("convert", *options, str(source), str(device), is_long=True)


async def rebase(
    path: Path, backing: Path, backing_format: Literal["qcow2", "raw"], *, key: Path | None = None
) -> None:
    """The qcow2 file's unwritten clusters come from `backing`, which has the same bytes as what they came from."""
    await _run("rebase", "-q", "-u", "-b", str(backing), "-F", backing_format, *_opened(path, key))


async def take_snapshot(path: Path, name: str, *, key: Path | None = None) -> None:
    """The qcow2 file, which nobody uses, keeps its present state under this name."""
    await _run("snapshot", "-q", "-c", name, *_opened(path, key), is_long=True)


async def apply_snapshot(path: Path, name: str, *, key: Path | None = None) -> None:
    """The qcow2 file, which nobody uses, holds that state again."""
    await _run("snapshot", "-q", "-a", name, *_opened(path, key), is_long=True)


async def delete_snapshot(path: Path, name: str, *, key: Path | None = None) -> None:
    """The qcow2 file, which nobody uses, does not keep that state any more."""
    await _run("snapshot", "-q", "-d", name, *_opened(path, key), is_long=True)


async def set_size(path: Path, size_bytes: int) -> None:
    """The qcow2 file, which nobody uses, has this size; what lies beyond it is lost."""
    await _run("resize", "-q", "--shrink", "-f", "qcow2", str(path), str(size_bytes))


async def copy(
    source: Path,
    target: Path,
    *,
    snapshot: str = "",
    size_bytes: int,
    backing: tuple[Path, str] | None = None,
    source_format: Literal["qcow2", "raw"] = "qcow2",
) -> AsyncGenerator[int]:
    """A new qcow2 file that holds what `source` holds, or held in that snapshot; yields percentages.

    Only what `source` itself holds is copied when `backing` (with its format) is what it is based on. A snapshot may be
    copied while QEMU has the file open. To close the generator ends the copy.
    """
    # A snapshot's tables and data do not change as long as there is the snapshot.
    options = ("-U", "-l", f"snapshot.name={snapshot}") if snapshot else ()
    base = ("-B", str(backing[0]), "-F", backing[1]) if backing else ()
    into = ("-O", "qcow2", *_create_options(size_bytes), *base)
    async with aclosing(_convert(*options, "-f", source_format, *into, str(source), str(target))) as percents:
        async for percent in percents:
            yield percent


async def copy_raw(source: Path, target: Path) -> AsyncGenerator[int]:
    """The device, which is large enough, begins with what the other one holds; yields percentages."""
    options = ("-n", "-t", "none", "-T", "none", "-f", "raw", "-O", "raw")
    async with aclosing(_convert(*options, str(source), str(target))) as percents:
        async for percent in percents:
            yield percent


async def fill(source: str, target: str) -> AsyncGenerator[int]:
    """What reads as zeros, and is large enough, begins with what the other one holds, both raw; yields percentages.

    They are named as QEMU's tools know them. `rbd cp` would copy what is noted at an image, too.
    """
    async with aclosing(_convert("-n", "--target-is-zero", "-W", "-f", "raw", "-O", "raw", source, target)) as percents:
        async for percent in percents:
            yield percent


async def _convert(*arguments: str) -> AsyncGenerator[int]:
    process = await asyncio.create_subprocess_exec(
        *("setpriv", "--pdeathsig", "KILL", "--", "qemu-img", "convert", "-p", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None  # noqa: S101 - for the type checker
    assert process.stderr is not None  # noqa: S101 - for the type checker
    complaints = asyncio.create_task(process.stderr.read())
    try:
        while text := await process.stdout.read(4096):
            for found in _PERCENT.findall(text)[-1:]:
                yield int(found)
        await process.wait()
        _check_end(process, "convert", await complaints)
    finally:
        complaints.cancel()
        if process.returncode is None:
            process.kill()
            await process.wait()


def _create_options(size_bytes: int, key: Path | None = None) -> tuple[str, str]:
    wanted = next((cluster for limit, cluster in _CLUSTER_BYTES if size_bytes <= limit), _LARGEST_CLUSTER_BYTES)
    return ("-o", f"cluster_size={wanted}{_LUKS if key else ''}")


def _opened(path: Path, key: Path | None) -> tuple[str, ...]:
    """A qcow2 file; its format is told, not guessed."""
    image = f"driver=qcow2,file.driver=file,file.filename={_escape(path)}"
    return (*_key_object(key), "--image-opts", f"{image},encrypt.key-secret={_KEY_OBJECT}" if key else image)


def _key_object(key: Path | None) -> tuple[str, ...]:
    """The passphrase is read from its file: command lines are everybody's to read."""
    return ("--object", f"secret,id={_KEY_OBJECT},file={_escape(key)}") if key else ()


def _escape(path: Path) -> str:
    return str(path).replace(",", ",,")


async def _create(*arguments: str) -> None:
    """QEMU measures how fast it derives keys, which fails now and then on a machine that has other work."""
    for tries_left in reversed(range(_CREATE_TRIES)):
        try:
            await _run("create", "-q", *arguments)
        except StorageFailed as error:
            if _NOT_MEASURED not in error.message or not tries_left:
                raise
        else:
            return


async def _run(*arguments: str, is_long: bool = False) -> None:
    """`is_long`: it goes through all of what is our own, or was checked when it was cached."""
    timeout_seconds = _LONG_SECONDS if is_long else _TIMEOUT_SECONDS
    process = await asyncio.create_subprocess_exec(
        *(() if is_long else _LIMITS),
        "qemu-img",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(timeout_seconds):
            _, complaint = await process.communicate()
    except TimeoutError:
        raise StorageFailed(f"qemu-img {arguments[0]} did not end within {timeout_seconds:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    _check_end(process, arguments[0], complaint)


def _check_end(process: asyncio.subprocess.Process, command: str, complaint: bytes) -> None:
    if process.returncode != 0:
        reason = complaint.decode(errors="replace").strip() or f"exit status {process.returncode}"
        failure = StorageExhausted if tells_out_of_space(reason) else StorageFailed
        raise failure(f"qemu-img {command}: {reason}")
