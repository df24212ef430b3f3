"""Ceph's command line, as far as images of one pool need it: told of as JSON, and never waited for without end.

Ceph's own tools wait for minutes, or for ever, for a cluster that is away. So each has a time here and is killed after
it, and with the agent, too.

Source: https://docs.ceph.com/en/latest/man/8/rbd/, https://docs.ceph.com/en/latest/rbd/qemu-rbd/.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import errno
import json
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from agent.errors import (
    AgentError,
    StorageExhausted,
    StorageFailed,
    StorageUnavailable,
    VolumeInUse,
    VolumeNotFound,
    VolumePresent,
    tells_out_of_space,
)
from agent.storage.base import StorageCapacity

_QUICK_SECONDS: Final = 20.0
# All objects of an image are gone through.
_LONG_SECONDS: Final = 540.0
_DYING_WITH_AGENT: Final = ("setpriv", "--pdeathsig", "KILL", "--")
# What rbd says of an image or a snapshot, and not of a cluster, a pool or a key, when there is no such.
_ABSENT: Final = re.compile(
    r"error opening image|metadata failed|(clone|delete) error|(snap|rollback) failed|failed to \w+ snapshot"
)
_ERRORS: Final[dict[int, type[AgentError]]] = {
    errno.EBUSY: VolumeInUse,
    errno.ENOTEMPTY: VolumeInUse,
    errno.EEXIST: VolumePresent,
    errno.ENOSPC: StorageExhausted,
    errno.EDQUOT: StorageExhausted,
    errno.ETIMEDOUT: StorageUnavailable,
}
_FSID: Final = re.compile(r"^\s*fsid\s*=\s*([0-9A-Fa-f-]{36})\s*$", re.MULTILINE)
_DATE: Final = "%a %b %d %H:%M:%S %Y"


@dataclass(frozen=True)
class CephAccess:
    """How the node is let into its cluster."""

    # Where the monitors are; QEMU reads it as well.
    config: Path
    # As in "client.nodewright", without the "client.".
    user: str

    @property
    def keyring(self) -> Path:
        """Where the user's key is, as Ceph itself would look for it."""
        return self.config.with_name(f"{self.config.stem}.client.{self.user}.keyring")

    @property
    def options(self) -> tuple[str, ...]:
        """For each of Ceph's commands."""
        return ("--conf", str(self.config), "--id", self.user, "--keyring", str(self.keyring))

    def read_cluster_id(self) -> str:
        """The cluster's UUID, as the configuration tells it, also while it is away. Raises StorageFailed."""
        try:
            found = _FSID.search(self.config.read_text())
        except OSError as error:
            raise StorageFailed(f"{self.config}: {error.strerror}") from error
        if found is None:
            raise StorageFailed(f"{self.config}: there is no fsid")
        return found[1].lower()

    def read_key(self) -> str:
        """The user's key, in base64. Raises StorageFailed."""
        try:
            lines = [line.strip() for line in self.keyring.read_text().splitlines()]
        except OSError as error:
            raise StorageFailed(f"{self.keyring}: {error.strerror}") from error
        section = ""
        for line in lines:
            name, _, value = (part.strip() for part in line.partition("="))
            if line.startswith("["):
                section = line.strip("[]")
            elif (section, name) == (f"client.{self.user}", "key") and _is_base64(value):
                return value
        raise StorageFailed(f"{self.keyring}: there is no key in base64 of client.{self.user}")


@dataclass(frozen=True)
class RbdImage:
    """An image as Ceph has it."""

    size_bytes: int
    # Image and snapshot in the same pool that the image is a clone of; empty: of none.
    parent: str


@dataclass(frozen=True)
class RbdSnapshot:
    """A snapshot of an image."""

    name: str
    size_bytes: int
    # Seconds since 1970.
    taken_at_seconds: int


class RbdTool:
    """Works on one pool.

    Every method raises StorageUnavailable when the cluster does not answer, StorageFailed, StorageExhausted, and those
    that change an image VolumeNotFound, VolumeInUse.
    """

    def __init__(self, access: CephAccess, pool: str) -> None:
        self.access = access
        self.pool = pool

    async def list_images(self, prefix: str) -> list[str]:
        """Names of the pool's images that begin so."""
        names: list[str] = await self._ask("ls", self.pool)
        return sorted(name for name in names if name.startswith(prefix))

    async def find_image(self, image: str) -> RbdImage | None:
        """The image; None when there is no such."""
        try:
            found = await self._ask("info", self._spec(image))
        except VolumeNotFound:
            return None
        parent = found.get("parent")
        return RbdImage(int(found["size"]), f"{parent['image']}@{parent['snapshot']}" if parent else "")

    async def find_note(self, image: str, key: str) -> str | None:
        """What was noted at the image; None without it, or without the image."""
        try:
            return (await self._run("image-meta", "get", self._spec(image), key)).rstrip("\n")
        except VolumeNotFound:
            return None

    async def note(self, image: str, key: str, text: str) -> None:
        """Ceph keeps it with the image."""
        await self._run("image-meta", "set", self._spec(image), key, text)

    async def measure(self, image: str) -> int:
        """Bytes that the image and its snapshots take themselves."""
        found = await self._ask("du", self._spec(image), seconds=_LONG_SECONDS)
        return sum(int(item["used_size"]) for item in found["images"])

    async def create(self, image: str, size_bytes: int) -> None:
        """A new image that reads as zeros. Raises VolumePresent."""
        await self._run("create", "--size", f"{size_bytes}B", self._spec(image))

    async def clone(self, parent: str, image: str) -> None:
        """A new image, whose unwritten parts come from the protected snapshot. Raises VolumePresent."""
        await self._run("clone", self._spec(parent), self._spec(image))

    async def resize(self, image: str, size_bytes: int) -> None:
        """It has this larger size."""
        await self._run("resize", "--no-progress", "--size", f"{size_bytes}B", self._spec(image))

    async def remove(self, image: str) -> None:
        """The image and its unprotected snapshots are gone, also when a call before was cut off in its middle."""
        with contextlib.suppress(VolumeNotFound):
            await self._run("snap", "purge", "--no-progress", self._spec(image), seconds=_LONG_SECONDS)
        await self._run("rm", "--no-progress", self._spec(image), seconds=_LONG_SECONDS)

    async def list_users(self, image: str) -> list[str]:
        """Addresses of those that have it open for writing, on whatever node; of one that died for half a minute."""
        found = await self._ask("status", self._spec(image))
        return sorted({watcher["address"].rpartition(":")[0].strip("[]") for watcher in found["watchers"]})

    async def list_snapshots(self, image: str) -> list[RbdSnapshot]:
        """All of the image, the oldest first."""
        found = await self._ask("snap", "ls", self._spec(image))
        return [RbdSnapshot(item["name"], int(item["size"]), _parse_date(item["timestamp"])) for item in found]

    async def take_snapshot(self, image: str, name: str) -> None:
        """The image keeps its present state. Raises VolumePresent."""
        await self._run("snap", "create", "--no-progress", self._spec(image, name))

    async def remove_snapshot(self, image: str, name: str) -> None:
        """The image does not keep that state, of which no clones can be made; guests that run with it go on."""
        with contextlib.suppress(VolumeNotFound):
            await self._run("snap", "rm", "--no-progress", self._spec(image, name), seconds=_LONG_SECONDS)

    async def rename_snapshot(self, image: str, name: str, new: str) -> None:
        """The image's state has the new name; guests that run with it go on."""
        await self._run("snap", "rename", self._spec(image, name), self._spec(image, new))

    async def roll_back(self, image: str, name: str) -> None:
        """The image, which nobody has open, holds that state again, and has its size."""
        await self._run("snap", "rollback", "--no-progress", self._spec(image, name), seconds=_LONG_SECONDS)

    async def protect(self, image: str, name: str) -> None:
        """Clones can be made of the snapshot. Raises VolumeInUse when they could be already."""
        await self._run("snap", "protect", self._spec(image, name))

    async def unprotect(self, image: str, name: str) -> None:
        """No clones can be made of the snapshot. Raises VolumeInUse while there are some."""
        await self._run("snap", "unprotect", self._spec(image, name))

    async def write(self, source: Path, source_format: Literal["qcow2", "raw"], image: str) -> None:
        """The image, which reads as zeros and is large enough, holds what the file does."""
        options = ("-q", "-n", "--target-is-zero", "-W", "-f", source_format, "-O", "raw")
        command = ("qemu-img", "convert", *options, str(source), self.address(image))
        await _finish("convert", await _start(*_DYING_WITH_AGENT, *command), None)

    def address(self, image: str, snapshot: str = "") -> str:
        """What QEMU's tools call it, or one of its snapshots."""
        words = [f"rbd:{self._spec(image, snapshot)}", f"id={self.access.user}"]
        words += [f"conf={_escape(self.access.config)}", f"keyring={_escape(self.access.keyring)}"]
        return ":".join(words)

    async def read_capacity(self) -> StorageCapacity:
        """What the pool holds and can take, its copies counted once."""
        process = await _start(*_DYING_WITH_AGENT, "ceph", *self.access.options, "df", "--format", "json")
        pools = _parse("df", await _finish("df", process, _QUICK_SECONDS))["pools"]
        found = next((pool["stats"] for pool in pools if pool["name"] == self.pool), None)
        if found is None:
            raise StorageFailed(f"Ceph has no pool {self.pool}")
        free_bytes = int(found["max_avail"])
        return StorageCapacity(total_bytes=int(found["stored"]) + free_bytes, free_bytes=free_bytes)

    async def _ask(self, *arguments: str, seconds: float = _QUICK_SECONDS) -> Any:
        return _parse(arguments[0], await self._run(*arguments, "--format", "json", seconds=seconds))

    async def _run(self, *arguments: str, seconds: float = _QUICK_SECONDS) -> str:
        return await _finish(arguments[0], await _start(*self._command(*arguments)), seconds)

    def _command(self, *arguments: str) -> tuple[str, ...]:
        return (*_DYING_WITH_AGENT, "rbd", *self.access.options, *arguments)

    def _spec(self, image: str, snapshot: str = "") -> str:
        return f"{self.pool}/{image}@{snapshot}" if snapshot else f"{self.pool}/{image}"


def _is_base64(text: str) -> bool:
    try:
        return bool(base64.b64decode(text, validate=True))
    except binascii.Error:
        return False


async def _start(*command: str) -> asyncio.subprocess.Process:
    # Times are told in the zone of whoever asks. What the environment adds for people is not for the agent.
    environment = {name: value for name, value in os.environ.items() if name != "CEPH_ARGS"} | {"TZ": "UTC"}
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )


async def _finish(command: str, process: asyncio.subprocess.Process, seconds: float | None) -> str:
    try:
        async with asyncio.timeout(seconds):
            output, complaint = await process.communicate()
    except TimeoutError:
        raise StorageUnavailable(f"Ceph has not answered for {seconds:g} s ({command})") from None
    finally:
        await _end(process)
    _check_end(command, process.returncode, complaint)
    return output.decode()


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()


def _check_end(command: str, status: int | None, complaint: bytes) -> None:
    if status == 0:
        return
    lines = [line for line in complaint.decode(errors="replace").replace("\r", "\n").splitlines() if line.strip()]
    # What librbd logs tells less than what rbd says at the end.
    text = lines[-1].strip() if lines else f"exit status {status}"
    if "failed to execute" in text:
        raise StorageFailed(f"{text} (package ceph-common)")
    kind = _ERRORS.get(status or 0, StorageFailed)
    if status == errno.ENOENT and _ABSENT.search(text):
        kind = VolumeNotFound
    elif tells_out_of_space(text):
        kind = StorageExhausted
    raise kind(f"Ceph, {command}: {text}")


def _parse(command: str, output: str) -> Any:
    try:
        return json.loads(output)
    except ValueError as error:
        raise StorageFailed(f"Ceph, {command}: the answer is no JSON") from error


def _parse_date(text: str) -> int:
    try:
        return int(datetime.strptime(text, _DATE).replace(tzinfo=UTC).timestamp())
    except ValueError:
        return 0


def _escape(path: Path) -> str:
    """Colons, equal signs and others separate words of such an address."""
    return re.sub(r"([:=@/\\])", lambda found: found[1] if found[1] == "/" else f"\\{found[1]}", str(path))
