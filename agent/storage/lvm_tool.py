"""LVM's command line: a volume group's logical volumes, told of as JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent.devices.thread import finish
from agent.errors import StorageExhausted, StorageFailed, VolumeInUse

_TIMEOUT_SECONDS: Final = 120.0
# LVM ends at the next safe place then; killed in the middle it may leave devices that guests have suspended.
_END_SECONDS: Final = 30.0
_FIELDS: Final = "lv_name,lv_size,lv_tags,data_percent,lv_attr,pool_lv,lv_time"
# So that times are seconds since 1970.
_TIMES: Final = ("--config", 'report/time_format="%s"')


@dataclass(frozen=True)
class LogicalVolume:
    """As LVM's metadata has it."""

    name: str
    size_bytes: int
    tags: frozenset[str]
    # Of its size, where it is thin, or a pool.
    used_percent: float | None
    # Of a thin pool: what it gives out reads as zeros, whoever had it before.
    gives_zeros: bool = False
    # The thin pool that it is in; empty: it has space of its own.
    pool: str = ""
    # Seconds since 1970.
    made_at_seconds: int = 0


@dataclass(frozen=True)
class VolumeGroup:
    """Its identity and its space."""

    uuid: str
    size_bytes: int
    free_bytes: int
    extent_bytes: int


class LvmTool:
    """Works on one volume group. Every method raises StorageFailed, StorageExhausted, VolumeInUse."""

    def __init__(self, group: str) -> None:
        self.group = group

    async def list_volumes(self, *selection: str) -> list[LogicalVolume]:
        """Its logical volumes, or those that LVM's selection names."""
        options = ("-S", " && ".join(selection)) if selection else ()
        rows = await self._report("lvs", "lv", _FIELDS, *_TIMES, *options)
        return [
            LogicalVolume(
                name=row["lv_name"],
                size_bytes=int(row["lv_size"]),
                tags=frozenset(filter(None, row["lv_tags"].split(","))),
                used_percent=float(row["data_percent"]) if row["data_percent"] else None,
                gives_zeros=row["lv_attr"][7:8] == "z",
                pool=row["pool_lv"],
                made_at_seconds=int(row["lv_time"] or 0),
            )
            for row in rows
        ]

    async def read_group(self) -> VolumeGroup:
        """The group itself."""
        rows = await self._report("vgs", "vg", "vg_uuid,vg_size,vg_free,vg_extent_size")
        if not rows:
            raise StorageFailed(f"volume group {self.group} does not exist")
        [row] = rows
        return VolumeGroup(row["vg_uuid"], int(row["vg_size"]), int(row["vg_free"]), int(row["vg_extent_size"]))

    async def create(self, name: str, size_bytes: int, tags: Sequence[str], pool: str) -> None:
        """A logical volume, tagged from the first on, thin when there is a pool; what is in it is not looked at."""
        place = ("--virtualsize", f"{size_bytes}b", "--thinpool", pool) if pool else ("--size", f"{size_bytes}b")
        # Signatures of whoever had the space before are no question: all of it is overwritten.
        wipe = () if pool else ("--zero", "n", "--wipesignatures", "n")
        tagged = [part for tag in tags for part in ("--addtag", tag)]
        await self._run("lvcreate", "--yes", *wipe, *place, *tagged, "--name", name, self.group)

    async def activate(self, name: str) -> None:
        """Its device is there, also that of a snapshot."""
        await self._run("lvchange", "--ignoreactivationskip", "--activate", "y", f"{self.group}/{name}")

    async def deactivate(self, name: str) -> None:
        """Its device is gone. Raises VolumeInUse while somebody has it open."""
        await self._run("lvchange", "--activate", "n", f"{self.group}/{name}")

    async def take_snapshot(self, origin: str, name: str, *tags: str) -> None:
        """A thin volume with these tags that holds what the thin volume `origin` does, and has no device yet."""
        added = (part for tag in tags for part in ("--addtag", tag))
        skip = ("--setactivationskip", "n" if tags else "y", "--activate", "n")
        await self._run("lvcreate", "--yes", "--snapshot", *skip, *added, "--name", name, f"{self.group}/{origin}")

    async def rename(self, name: str, new: str) -> None:
        """It has the new name."""
        await self._run("lvrename", self.group, name, new)

    async def change_tags(self, name: str, *, add: tuple[str, ...] = (), remove: tuple[str, ...] = ()) -> None:
        """All of them at once: LVM commits a command's changes together."""
        added = (part for tag in add for part in ("--addtag", tag))
        removed = (part for tag in remove for part in ("--deltag", tag))
        await self._run("lvchange", *removed, *added, f"{self.group}/{name}")

    async def extend(self, name: str, size_bytes: int) -> None:
        """It has that larger size."""
        await self._run("lvextend", "--size", f"{size_bytes}b", f"{self.group}/{name}")

    async def remove(self, name: str) -> None:
        """It is gone."""
        await self._run("lvremove", "--force", f"{self.group}/{name}")

    async def _report(self, command: str, kind: str, fields: str, *options: str) -> list[dict[str, Any]]:
        form = ("--reportformat", "json", "--units", "b", "--nosuffix", "--options", fields)
        text = await self._run(command, *form, *options, self.group)
        try:
            rows: list[dict[str, Any]] = json.loads(text)["report"][0][kind]
        except (ValueError, LookupError, TypeError) as error:
            raise StorageFailed(f"{command} {self.group}: the answer is no report") from error
        return rows

    async def _run(self, command: str, *arguments: str) -> str:
        """Who is cancelled waits for its end."""
        return await finish(asyncio.ensure_future(self._execute(command, *arguments)))

    async def _execute(self, command: str, *arguments: str) -> str:
        try:
            process = await asyncio.create_subprocess_exec(
                *("lvm", command, *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except FileNotFoundError as error:
            raise StorageFailed("lvm is not installed on this node (package lvm2)") from error
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                output, complaint = await process.communicate()
        except TimeoutError:
            raise StorageFailed(f"{command} {self.group} did not end within {_TIMEOUT_SECONDS:g} s") from None
        finally:
            if process.returncode is None:
                await _end(process)
        if process.returncode != 0:
            raise _explain(command, complaint.decode(errors="replace"))
        return output.decode()


async def _end(process: asyncio.subprocess.Process) -> None:
    process.terminate()
    try:
        async with asyncio.timeout(_END_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _explain(command: str, complaint: str) -> StorageFailed | StorageExhausted | VolumeInUse:
    lines = [line.strip() for line in complaint.splitlines() if "WARNING" not in line and "leaked on" not in line]
    reason = f"{command}: {'; '.join(filter(None, lines)) or 'it failed'}"
    if "insufficient free" in complaint.lower():
        return StorageExhausted(reason)
    return VolumeInUse(reason) if "in use" in complaint else StorageFailed(reason)
