"""Snapshots of thin volumes, and of guests with volumes in several backends: of one moment, or not at all.

What a kernel does with thin volumes is looked at in `tests/hardware/test_thin_volume.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest

from agent.domain_lock import DomainLocks
from agent.errors import (
    AgentError,
    DomainNotFound,
    HypervisorUnavailable,
    SnapshotUnsupported,
    StorageFailed,
    VolumeInUse,
)
from agent.hypervisor import pause as pause_module
from agent.hypervisor.description import PowerState
from agent.hypervisor.freeze import Freeze
from agent.hypervisor.pause import Pauses
from agent.hypervisor.snapshot import LiveDisk
from agent.snapshot import SnapshotOrder, Snapshots
from agent.storage.base import Volume, VolumeSpec
from agent.storage.choice import StorageChoice
from agent.storage.copying import VolumeCopies
from agent.storage.directory import DirectoryBackend
from agent.storage.lvm import LvmBackend
from agent.storage.snapshots import VolumeSnapshots
from tests.unit.agent.storage_builder import MIB, nobody
from tests.unit.agent.thin_pool import ThinTool

DOMAIN = "0f1e8c1e-7e64-4a7e-9c60-0e2a4a7a7d11"
ONE, TWO = "ecs.snapshot-1", "ecs.snapshot-2"


class Guest:
    """One guest, as libvirt and its QEMU have it; what happened in order."""

    def __init__(self) -> None:
        self.state, self.told = PowerState.RUNNING, list[str]()
        self.is_away = False
        self.rest_seconds = 0.0
        self.paths: dict[str, Path] = {}

    async def get(self, uuid: str) -> Any:
        if uuid != DOMAIN:
            raise DomainNotFound(uuid)
        return SimpleNamespace(power_state=self.state)

    async def suspend(self, uuid: str) -> None:
        await asyncio.sleep(self.rest_seconds)
        self.state = PowerState.PAUSED
        self.told.append("held")

    async def resume(self, uuid: str) -> None:
        await self.get(uuid)
        if self.is_away:
            raise HypervisorUnavailable("libvirt is away")
        if self.state is not PowerState.RUNNING:
            self.told.append("goes on")
        self.state = PowerState.RUNNING

    async def is_active(self, uuid: str) -> bool:
        return self.state is not PowerState.SHUTOFF

    async def find_disks(self, uuid: str) -> dict[Path, LiveDisk]:
        return {path: LiveDisk(DOMAIN, f"node-{volume}") for volume, path in self.paths.items()}

    async def find_user(self, path: Path) -> None:
        return None

    async def take(self, uuid: str, names: Mapping[str, str]) -> None:
        self.told.append(f"QEMU takes {len(names)}")

    @asynccontextmanager
    async def frozen(self, uuid: str) -> Any:
        self.told.append("frozen")
        yield Freeze()
        self.told.append("thawed")


class Lab:
    """A node with files, thin volumes and others, and a guest."""

    def __init__(self, directory: Path) -> None:
        self.guest, self.tool = Guest(), ThinTool(directory / "dev")

        def backend(pool: str) -> LvmBackend:
            devices = directory / "dev"
            return LvmBackend(self.tool, pool=pool, find_image=_no_image, find_users=nobody, devices=devices)

        self.files = DirectoryBackend(
            directory / "volumes", owner="node-1", find_image=_no_image, find_users=nobody, reserved_bytes=0
        )
        self.files.prepare()
        self.thin = backend("pool")
        self.choice = StorageChoice(self.files, {"thin": self.thin, "thick": backend("")})
        self.stores = VolumeSnapshots(self.choice)
        self.pauses = Pauses(cast("Any", self.guest), directory / "pauses")
        self.pauses.resume()
        guest = cast("Any", self.guest)
        self.snapshots = Snapshots(self.stores, guest, guest, self.pauses, DomainLocks())

    async def make(self, volume_type: str, byte: int = 0) -> str:
        """A volume that the guest has."""
        uuid = str(uuid4())
        await self.choice.ensure_volume(VolumeSpec(uuid, 8 * MIB, volume_type))
        path = (await self.choice.describe_volume(uuid)).path
        if volume_type != "file":
            path.write_bytes(bytes((byte,)) * 8 * MIB)
        self.guest.paths[uuid] = path
        return uuid

    async def holds(self, uuid: str) -> bytes:
        """What a thin volume holds, its size in MiB behind it."""
        content = (await self.choice.describe_volume(uuid)).path.read_bytes()
        return content[:1] + bytes((len(content) // MIB,))

    def order(self, *uuids: str, quiesces: bool = True) -> SnapshotOrder:
        return SnapshotOrder(ONE, DOMAIN, uuids, quiesces)


async def _no_image(_image_id: str) -> None:
    return None


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


async def test_a_guest_is_held_for_thin_volumes_and_only_for_them(lab: Lab) -> None:
    file, first, second = await lab.make("file"), await lab.make("thin", 1), await lab.make("thin", 2)
    taken = await lab.snapshots.take(lab.order(first, second))
    assert lab.guest.told == ["frozen", "held", "goes on", "thawed"]
    assert (taken.consistency, taken.reason, len(taken.volumes)) == ("file-system", "", 2)
    # It is there: asked again, nothing is done.
    assert (await lab.snapshots.take(lab.order(first, second))).paused_seconds is None
    await lab.snapshots.remove(ONE, [first, second])
    assert lab.tool.names() == sorted([f"nw-{first}", f"nw-{second}"])

    lab.guest.told.clear()
    # QEMU is none here, and takes nothing: what is missing is told.
    with pytest.raises(AgentError, match="has no snapshot"):
        await lab.snapshots.take(lab.order(file, first, quiesces=False))
    assert lab.guest.told == ["held", "QEMU takes 1", "goes on"]
    # One that others have paused stays so.
    await lab.snapshots.remove(ONE, [file, first])
    lab.guest.state = PowerState.PAUSED
    assert (await lab.snapshots.take(lab.order(first, quiesces=False))).consistency == "crash"
    assert lab.guest.state is PowerState.PAUSED
    # Nothing is begun where one of them cannot have any.
    lab.guest.told.clear()
    solid = await lab.make("thick")
    for state in (PowerState.RUNNING, PowerState.SHUTOFF):
        lab.guest.state = state
        with pytest.raises(SnapshotUnsupported, match=f"{solid} is a logical volume outside of a thin pool"):
            await lab.snapshots.take(SnapshotOrder(TWO, DOMAIN, (file, first, solid), True))
    assert lab.guest.told == []
    assert await (await lab.stores.of(file)).list(file) == []


async def test_what_is_taken_too_late_is_not_kept(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pause_module, "_LIMIT_SECONDS", 0.05)
    uuids = [await lab.make("thin"), await lab.make("thin")]
    taking = lab.tool.take_snapshot

    async def slow(origin: str, name: str, *tags: str) -> None:
        await asyncio.sleep(0.2)
        await taking(origin, name, *tags)

    monkeypatch.setattr(lab.tool, "take_snapshot", slow)
    with pytest.raises(StorageFailed, match="had to go on"):
        await lab.snapshots.take(lab.order(*uuids))
    assert lab.tool.names() == sorted(f"nw-{uuid}" for uuid in uuids)
    assert lab.guest.state is PowerState.RUNNING
    # What was begun for a guest that went on meanwhile, and whose agent has died, counts for nothing.
    for uuid in uuids:
        await lab.thin.tool.take_snapshot(f"nw-{uuid}", f"nws-{uuid}.{ONE}.p")
    assert await (await lab.stores.of(uuids[0])).list(uuids[0]) == []
    # A failure of one ends when all have ended; the next call begins with none.
    lab.tool.lives = 0
    monkeypatch.setattr(lab.tool, "take_snapshot", taking)
    with pytest.raises(StorageFailed, match="injected"):
        await lab.snapshots.take(lab.order(*uuids, quiesces=False))
    assert lab.guest.state is PowerState.RUNNING
    # The guest has ended since.
    lab.guest.state = PowerState.SHUTOFF
    assert len((await lab.snapshots.take(lab.order(*uuids, quiesces=False))).volumes) == 2
    assert not [name for name in lab.tool.names() if name.endswith(".p")]


async def test_a_guest_goes_on_whatever_dies(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pause_module, "_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(pause_module, "_RELEASE_SECONDS", 0.02)
    # The agent dies meanwhile; libvirt is away when it is back.
    await lab.pauses.held(DOMAIN).__aenter__()
    assert lab.guest.told == ["held"]
    lab.guest.is_away = True
    again = Pauses(cast("Any", lab.guest), tmp_path / "pauses")
    (tmp_path / "pauses" / DOMAIN.replace("0f1e", "1111")).touch()  # this one is gone since
    again.resume()
    await asyncio.sleep(0.05)
    lab.guest.is_away = False
    async with asyncio.timeout(10):
        while list((tmp_path / "pauses").iterdir()):
            await asyncio.sleep(0.01)
    assert lab.guest.state is PowerState.RUNNING
    # libvirt goes away meanwhile: nobody waits for it, and the guest goes on when it is back.
    async with again.held(DOMAIN):
        lab.guest.is_away = True
    lab.guest.is_away = False
    async with again.held(DOMAIN) as pause:
        assert lab.guest.told[-1] == "held"
    assert not pause.is_broken
    assert lab.guest.told[-1] == "goes on"


@pytest.mark.parametrize("limit_seconds", [10.0, 0.01])
async def test_a_guest_that_comes_to_rest_late_goes_on(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit_seconds: float
) -> None:
    monkeypatch.setattr(pause_module, "_LIMIT_SECONDS", limit_seconds)
    lab.guest.rest_seconds = 0.2
    uuids = [await lab.make("thin"), await lab.make("thin")]
    with pytest.raises(TimeoutError):  # who asked for it is gone by then
        async with asyncio.timeout(0.1):
            await lab.snapshots.take(lab.order(*uuids))
    assert lab.guest.told[-2:] == ["held", "goes on"]
    assert not list((tmp_path / "pauses").iterdir())


@pytest.mark.parametrize("lives", range(5))  # so many changes make a rollback
async def test_a_rollback_that_is_cut_off_loses_nothing(lab: Lab, lives: int) -> None:
    lab.guest.state = PowerState.SHUTOFF
    uuid = await lab.make("thin", 1)
    await lab.snapshots.take(lab.order(uuid))
    lab.guest.paths[uuid].write_bytes(b"\2" * 8 * MIB)
    await lab.choice.ensure_volume(VolumeSpec(uuid, 12 * MIB, "thin"))
    lab.tool.lives = lives
    with pytest.raises(StorageFailed, match="injected"):
        await lab.snapshots.roll_back(ONE, [uuid])
    if lives % 2:  # the agent has died, too
        await lab.choice.prepare()
        assert not [name for name in lab.tool.names() if name.startswith(("nwr-", "nwo-"))]
    assert [volume.uuid for volume in await lab.choice.list_volumes()] == [uuid] or await lab.thin.has_volume(uuid)
    assert await lab.holds(uuid) in (b"\1\x0c", b"\2\x0c")
    await lab.snapshots.roll_back(ONE, [uuid])
    assert await lab.holds(uuid) == b"\1\x0c"
    volume = await lab.thin.get_volume(uuid)
    assert (volume.size_bytes, volume.volume_type) == (12 * MIB, "thin")
    await lab.choice.ensure_removed(uuid)
    assert lab.tool.names() == []


async def test_copies_of_a_thin_snapshot_stand_alone_and_its_volume_does_not_move(lab: Lab) -> None:
    lab.guest.state = PowerState.SHUTOFF
    uuid, copies = await lab.make("thin", 1), VolumeCopies(lab.files, lab.choice, lab.stores)
    await lab.snapshots.take(lab.order(uuid))
    lab.guest.paths[uuid].write_bytes(b"\2" * 8 * MIB)
    old, new, file = (VolumeSpec(str(uuid4()), 12 * MIB, kind) for kind in ("thin", "thin", "file"))
    for spec, snapshot_id in ((old, ONE), (new, ""), (file, ONE)):
        copying = copies.ensure(spec, uuid, snapshot_id)
        steps = [step async for step in copying]
        assert isinstance(steps[-1], Volume)
    interrupted = copies.ensure(VolumeSpec(str(uuid4()), 8 * MIB, "thin"), uuid, ONE)
    await anext(interrupted)
    with pytest.raises(VolumeInUse, match="a copy is being made"):
        await lab.snapshots.remove(ONE, [uuid])
    await interrupted.aclose()
    with pytest.raises(SnapshotUnsupported, match="has snapshots"):
        await lab.choice.get_movable(uuid)
    await lab.choice.ensure_removed(uuid)
    assert [await lab.holds(spec.uuid) for spec in (old, new)] == [b"\1\x0c", b"\2\x0c"]
    assert lab.tool.names() == sorted(f"nw-{spec.uuid}" for spec in (old, new))
    await lab.choice.get_movable(old.uuid)
