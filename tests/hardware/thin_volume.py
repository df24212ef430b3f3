"""Thin volumes and their snapshots in the node, by the agent's own code: run there, as root, with a directory."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Final
from uuid import uuid4

from agent.errors import AgentError, SnapshotUnsupported, StorageFailed, VolumeInUse
from agent.storage.base import Volume, VolumeSpec
from agent.storage.choice import StorageChoice
from agent.storage.copying import VolumeCopies
from agent.storage.directory import DirectoryBackend
from agent.storage.lvm import LvmBackend
from agent.storage.lvm_snapshot import LvmSnapshots
from agent.storage.lvm_tool import LvmTool
from agent.storage.snapshots import VolumeSnapshots

MIB: Final = 1024**2
GROUP: Final = "nwthin"
ONE, TWO = "ecs.snapshot-1", "ecs.snapshot-2"


class Bench:
    """A volume of 8 MiB in a pool, and one beside it that is not thin."""

    def __init__(self, directory: Path) -> None:
        def backend(pool: str) -> LvmBackend:
            return LvmBackend(LvmTool(GROUP), pool=pool, find_image=self._no_image, find_users=self._find_users)

        files = DirectoryBackend(
            directory, owner="node", find_image=self._no_image, find_users=self._find_users, reserved_bytes=0
        )
        files.prepare()
        self.volumes, self.thick = backend("pool"), backend("")
        self.choice = StorageChoice(files, {"essd": self.volumes, "hdd": self.thick})
        self.stores = VolumeSnapshots(self.choice)
        self.snapshots = LvmSnapshots(self.volumes)
        self.copies = VolumeCopies(files, self.choice, self.stores)
        self.spec = VolumeSpec(str(uuid4()), 8 * MIB, "essd")

    async def write(self, byte: int) -> None:
        """As a guest does, past the page cache."""
        path = (await self.volumes.describe_volume(self.spec.uuid)).path
        # What comes from /dev/zero is another byte on its way.
        script = (
            f"tr '\\0' '\\{byte:o}' < /dev/zero | dd of={path} bs=1M count=8 iflag=fullblock oflag=direct status=none"
        )
        subprocess.run(["bash", "-c", script], check=True)

    async def holds(self, byte: int, uuid: str = "", size_mib: int = 8) -> bool:
        """Whether it reads so, and the rest as zeros."""
        path = (await self.volumes.describe_volume(uuid or self.spec.uuid)).path
        return path.read_bytes() == bytes((byte,)) * 8 * MIB + bytes((size_mib - 8) * MIB)

    async def kept(self, snapshot_id: str) -> int:
        """What it reads everywhere."""
        async with self.snapshots.opening(await self.snapshots.get(self.spec.uuid, snapshot_id)) as state:
            content = Path(state.address).read_bytes()
        assert content == content[:1] * 8 * MIB
        return content[0]

    async def refused(self, kind: type[AgentError], snapshot_id: str, uuid: str = "") -> None:
        """A snapshot is not taken."""
        try:
            await (await self.stores.of(uuid or self.spec.uuid)).take(uuid or self.spec.uuid, snapshot_id)
        except kind as error:
            print(error.message)
            return
        raise AssertionError(f"{kind.__name__} was expected")

    async def _no_image(self, _image_id: str) -> None:
        return None

    async def _find_users(self, _path: Path) -> list[str]:
        return []


async def prove(bench: Bench) -> None:
    """What a volume held is kept, read, copied, comes back, and is gone with it."""
    uuid, snapshots = bench.spec.uuid, bench.snapshots
    await bench.volumes.ensure_volume(bench.spec)
    await bench.write(1)
    await snapshots.take(uuid, ONE)
    await bench.write(2)
    # As of a guest that runs: somebody has the device open.
    with bench.volumes.path_of(uuid).open("r+b"):
        began = time.monotonic()
        await snapshots.begin(uuid, TWO)
        assert [it.snapshot_id for it in await snapshots.list(uuid)] == [ONE]
        await snapshots.complete(uuid, TWO, "crash")
        print(f"a snapshot of an open volume: {time.monotonic() - began:.2f} s")
        try:
            await snapshots.roll_back(uuid, ONE)
            raise AssertionError("an open volume was rolled back")
        except VolumeInUse as error:
            print(error.message)
    await bench.write(3)
    await bench.volumes.ensure_volume(replace(bench.spec, size_bytes=12 * MIB))
    told = [(it.snapshot_id, it.size_bytes, it.consistency) for it in await snapshots.list(uuid)]
    assert told == [(ONE, 8 * MIB, "file-system"), (TWO, 8 * MIB, "crash")], told
    assert abs((await snapshots.get(uuid, ONE)).taken_at_seconds - time.time()) < 600
    assert (await bench.kept(ONE), await bench.kept(TWO)) == (1, 2)
    assert await bench.holds(3, size_mib=12)
    copy = VolumeSpec(str(uuid4()), 8 * MIB, "essd")
    assert isinstance([step async for step in bench.copies.ensure(copy, uuid, TWO)][-1], Volume)
    for snapshot_id, byte in ((ONE, 1), (TWO, 2)):
        began = time.monotonic()
        await snapshots.roll_back(uuid, snapshot_id)
        print(f"rolled back in {time.monotonic() - began:.2f} s")
        assert await bench.holds(byte, size_mib=12)
    await _cut_off(bench)
    assert [it.snapshot_id for it in await snapshots.list(uuid)] == [ONE, TWO]
    for _ in range(2):
        await snapshots.remove(uuid, ONE)
    assert await bench.kept(TWO) == 2
    await bench.volumes.ensure_removed(uuid)
    assert await bench.holds(2, copy.uuid)
    await bench.volumes.ensure_removed(copy.uuid)
    solid = VolumeSpec(str(uuid4()), 8 * MIB, "hdd")
    await bench.choice.ensure_volume(solid)
    await bench.refused(SnapshotUnsupported, ONE, solid.uuid)
    await bench.choice.ensure_removed(solid.uuid)
    assert [it.name for it in await bench.volumes.tool.list_volumes()] == ["pool"]


async def _cut_off(bench: Bench) -> None:
    """Between two names the volume is found all the same, and the next call ends what was begun."""
    tool, uuid = bench.volumes.tool, bench.spec.uuid
    rename = tool.rename

    async def fail(name: str, new: str) -> None:
        await rename(name, new)
        raise StorageFailed("injected")

    tool.rename = fail  # type: ignore[method-assign]
    try:
        await bench.snapshots.roll_back(uuid, TWO)
        raise AssertionError("it was not cut off")
    except StorageFailed:
        tool.rename = rename  # type: ignore[method-assign]
    assert await bench.holds(2, size_mib=12)
    await bench.snapshots.roll_back(uuid, ONE)
    assert await bench.holds(1, size_mib=12)


def main() -> None:
    """Prints what it did, and at the end that it was right."""
    directory = Path(sys.argv[1])
    disk = directory / "disk"
    with disk.open("wb") as file:
        file.truncate(160 * MIB)
    subprocess.run(["modprobe", "--all", "loop", "dm-thin-pool"], check=True)
    device = subprocess.run(
        ["losetup", "-f", "--show", disk], check=True, capture_output=True, text=True
    ).stdout.strip()
    os.environ["LVM_SUPPRESS_FD_WARNINGS"] = "1"
    for command in (
        ("vgcreate", "-qq", GROUP, device),
        ("lvcreate", "--yes", "--type", "thin-pool", "--size", "96m", "--zero", "y", "--name", "pool", GROUP),
    ):
        subprocess.run(["lvm", *command], check=True)
    try:
        asyncio.run(prove(Bench(directory / "volumes")))
        print("all is right")
    finally:
        subprocess.run(["lvm", "vgremove", "--force", "--yes", GROUP], check=False)
        subprocess.run(["losetup", "-d", device], check=False)


if __name__ == "__main__":
    main()
