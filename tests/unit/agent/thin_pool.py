"""LVM with a thin pool, of files in the place of devices: what it keeps of itself is in memory."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from agent.errors import StorageFailed
from agent.storage.lvm_tool import LogicalVolume, LvmTool, VolumeGroup
from tests.unit.agent.storage_builder import MIB

_CONDITION = re.compile(r"(lv_name|lv_tags)(=~\^|=)([^ )]+)")


class ThinTool(LvmTool):
    """A group with the pool `pool`, and volumes outside of it."""

    def __init__(self, directory: Path) -> None:
        super().__init__("group")
        self.directory = directory / "group"
        self.directory.mkdir(parents=True)
        pool = LogicalVolume("pool", 64 * MIB, frozenset(), 0.0, gives_zeros=True)
        self.volumes: dict[str, LogicalVolume] = {"pool": pool}
        # So many changes are made; the next one is, too, but whoever has asked for it dies before he hears of it.
        self.lives: int | None = None

    def names(self) -> list[str]:
        """All that there is beside the pool."""
        return sorted(name for name in self.volumes if name != "pool")

    async def list_volumes(self, *selection: str) -> list[LogicalVolume]:
        return [it for it in self.volumes.values() if all(_matches(it, text) for text in selection)]

    async def read_group(self) -> VolumeGroup:
        return VolumeGroup("uuid", 256 * MIB, 128 * MIB, 4 * MIB)

    async def create(self, name: str, size_bytes: int, tags: Sequence[str], pool: str) -> None:
        self.volumes[name] = LogicalVolume(name, size_bytes, frozenset(tags), 0.0 if pool else None, pool=pool)
        self._resize(name, size_bytes)
        self._end()

    async def activate(self, name: str) -> None:
        """Its file is there."""

    async def deactivate(self, name: str) -> None:
        """It stays."""

    async def change_tags(self, name: str, *, add: tuple[str, ...] = (), remove: tuple[str, ...] = ()) -> None:
        found = self.volumes[name]
        self.volumes[name] = replace(found, tags=frozenset((found.tags | set(add)) - set(remove)))
        self._end()

    async def extend(self, name: str, size_bytes: int) -> None:
        self.volumes[name] = replace(self.volumes[name], size_bytes=size_bytes)
        self._resize(name, size_bytes)
        self._end()

    async def remove(self, name: str) -> None:
        del self.volumes[name]
        (self.directory / name).unlink()
        self._end()

    async def take_snapshot(self, origin: str, name: str, *tags: str) -> None:
        assert name not in self.volumes
        found = self.volumes[origin]
        assert found.pool, "a snapshot of a volume outside of a pool needs a size"
        now = int(time.time()) + len(self.volumes)
        self.volumes[name] = replace(found, name=name, tags=frozenset(tags), made_at_seconds=now)
        shutil.copy(self.directory / origin, self.directory / name)
        self._end()

    async def rename(self, name: str, new: str) -> None:
        assert new not in self.volumes
        self.volumes[new] = replace(self.volumes.pop(name), name=new)
        (self.directory / name).rename(self.directory / new)
        self._end()

    def _resize(self, name: str, size_bytes: int) -> None:
        with (self.directory / name).open("ab") as file:
            file.truncate(size_bytes)

    def _end(self) -> None:
        if self.lives is None:
            return
        self.lives -= 1
        if self.lives < 0:
            self.lives = None
            raise StorageFailed("injected")


def _matches(found: LogicalVolume, text: str) -> bool:
    """Whether one of the conditions holds."""
    conditions = _CONDITION.findall(text)
    assert conditions, text
    return any(_holds(found, *condition) for condition in conditions)


def _holds(found: LogicalVolume, field: str, operator: str, value: str) -> bool:
    if field == "lv_tags":
        return value in found.tags
    return found.name.startswith(value) if operator == "=~^" else found.name == value
