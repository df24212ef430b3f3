"""Snapshots of guests that run, on real libvirt and QEMU: what their disks held is proven inside the guest."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from agent.domain_lock import DomainLocks
from agent.hypervisor.freeze import Freezes
from agent.hypervisor.pause import Pauses
from agent.hypervisor.prober import GuestAgentState
from agent.hypervisor.snapshot import LiveSnapshots
from agent.snapshot import SnapshotOrder, Snapshots
from agent.storage.base import Volume, VolumeSpec
from agent.storage.choice import StorageChoice
from agent.storage.snapshot_file import SnapshotFiles
from agent.storage.snapshots import VolumeSnapshots
from tests.lab.host import Host
from tests.scenario.test_agent_disks import MIB, DiskAgent, needs_demo_image
from tests.unit.agent.guest_builder import GUEST_UUID

pytestmark = [
    pytest.mark.scenario,
    pytest.mark.xdist_group("agents"),
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

UUIDS = [f"{number}f1e8c1e-7e64-4a7e-9c60-0e2a4a7a7d13" for number in (1, 2, 3)]
# None is as large as the system disk.
SIZES_MIB = (72, 80, 88)
PAUSE_SECONDS = 0.5
THAW_SECONDS = 30.0
ONE, TWO, THREE = "ecs.snapshot-1", "ecs.snapshot-2", "ecs.snapshot-3"
# Writes a number to each disk in turn, past the caches, and keeps the longest time that one took (in 1/100 s).
WRITER = """
max=0; n=0
while [ ! -e /tmp/stop ]; do
  n=$((n+1))
  for d in %s; do
    read a rest < /proc/uptime
    printf '%%-512s' $n > /tmp/n; dd if=/tmp/n of=$d bs=512 count=1 oflag=direct conv=notrunc 2> /dev/null
    read b rest < /proc/uptime
    t=$(( $(echo $b | tr -d .) - $(echo $a | tr -d .) )); [ $t -gt $max ] && max=$t
  done
  echo "$n $max" > /tmp/written
done
echo "$n $max" > /tmp/written; rm /tmp/stop; touch /tmp/stopped
"""


class SnapshotAgent(DiskAgent):
    """With snapshots of its volumes, and a guest with three of them."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.files = SnapshotFiles(self.volumes)
        self.stores = VolumeSnapshots(StorageChoice(self.volumes, {}))
        self.live = LiveSnapshots(self.connection)
        self.freezes = self.new_freezes()
        self.snapshots = self.new_snapshots()
        self.names: list[str] = []

    def new_snapshots(self) -> Snapshots:
        """With the freezes that there are."""
        pauses = Pauses(self.guests, self.directory / "pauses")
        pauses.resume()
        return Snapshots(self.stores, self.live, self.freezes, pauses, DomainLocks())

    def new_freezes(self) -> Freezes:
        """As the next start of the agent has them."""
        freezes = Freezes(self.guest_agents, self.live, self.directory / "freezes")
        freezes.resume()
        return freezes

    async def boot_with_disks(self) -> None:
        """A guest that answers, with three disks."""
        await self.boot()
        for uuid, size_mib in zip(UUIDS, SIZES_MIB, strict=True):
            await self.attachments.attach(GUEST_UUID, await self.make(uuid, size_mib))
        await self.find_disks()

    async def boot_again(self) -> None:
        """With the disks that it has."""
        await self.guests.start(GUEST_UUID)
        async with asyncio.timeout(150):
            while await self.agent_state() is not GuestAgentState.RUNNING:
                await asyncio.sleep(0.2)
        await self.find_disks()

    async def find_disks(self) -> None:
        """Their names in the guest."""
        self.names = [await self.find(size_mib) for size_mib in SIZES_MIB]

    async def fill(self) -> str:
        """Something new on all disks; their checksums."""
        for name in self.names:
            await self.run(f"dd if=/dev/urandom of={name} bs=1M seek=1 count=8 conv=fsync")
        return await self.sums()

    async def sums(self) -> str:
        """What the guest reads, past its cache."""
        script = "echo 3 > /proc/sys/vm/drop_caches; for d in %s; do dd if=$d bs=1M skip=1 count=8 | sha256sum; done"
        return await self.run(script % " ".join(self.names))

    async def take(self, snapshot_id: str, *, quiesces: bool = True) -> float | None:
        """Takes it; how long the guest waited."""
        taken = await self.snapshots.take(SnapshotOrder(snapshot_id, GUEST_UUID, tuple(UUIDS), quiesces))
        assert len(taken.volumes) == len(UUIDS)
        # Of one that was there nobody knows any more why.
        was_there = taken.paused_seconds is None
        assert was_there or (taken.consistency == "crash") == bool(taken.reason or not quiesces), taken
        return taken.paused_seconds

    async def numbers(self, snapshot_id: str) -> list[int]:
        """What the writer had written to each disk by then."""
        return [await self._number(uuid, snapshot_id) for uuid in UUIDS]

    async def _number(self, uuid: str, snapshot_id: str) -> int:
        with (await self.read(uuid, snapshot_id)).open("rb") as file:
            return int(file.read(512).strip(b"\0 ") or b"0")

    async def read(self, uuid: str, snapshot_id: str) -> Path:
        """A raw file with what the volume held."""
        copy = uuid[:-1] + "9"
        spec = VolumeSpec(copy, 96 * MIB, "ssd")
        steps = [step async for step in self.files.ensure_copied(spec, uuid, snapshot_id)]
        assert isinstance(steps[-1], Volume)
        path, raw = (await self.volumes.describe_volume(copy)).path, self.directory / "raw"
        subprocess.run(["qemu-img", "convert", "-O", "raw", path, raw], check=True)
        await self.volumes.ensure_removed(copy)
        return raw

    async def status(self) -> str:
        """What the guest agent says of file systems."""
        return str(await self.guest_agents.execute(GUEST_UUID, "guest-fsfreeze-status", timeout_seconds=40))


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    host = Host(1, tmp_path_factory.mktemp("agent-snapshots"))
    host.start_libvirt()
    yield host
    host.end()


@pytest.fixture
async def agent(host: Host) -> AsyncIterator[SnapshotAgent]:
    agent = SnapshotAgent(host)
    await agent.connection.open()
    probing = asyncio.create_task(agent.prober.run())
    yield agent
    probing.cancel()
    await agent.definitions.ensure_removed(GUEST_UUID)
    for uuid in UUIDS:
        await agent.volumes.ensure_removed(uuid)
    await agent.freezes.close()
    await agent.connection.close()


@needs_demo_image
async def test_what_disks_held_comes_back_and_removing_snapshots_changes_nothing(
    agent: SnapshotAgent, record_property: Callable[[str, object], None]
) -> None:
    await agent.boot_with_disks()
    sums = [await agent.fill()]
    pauses = [await agent.take(ONE)]
    sums.append(await agent.fill())
    pauses.append(await agent.take(TWO))
    # It is there: asked again, nothing is done.
    assert await agent.take(TWO) is None
    sums.append(await agent.fill())
    pauses.append(await agent.take(THREE, quiesces=False))
    sums.append(await agent.fill())

    # The one in the middle goes while the guest runs; both sides stay.
    started = time.monotonic()
    await agent.snapshots.remove(TWO, UUIDS)
    removed_seconds = time.monotonic() - started
    assert await agent.sums() == sums[3]
    for snapshot_id, wanted in ((ONE, sums[0]), (THREE, sums[2])):
        await agent.guests.destroy(GUEST_UUID)
        await agent.snapshots.roll_back(snapshot_id, UUIDS)
        await agent.boot_again()
        assert await agent.sums() == wanted
    await agent.snapshots.remove(ONE, UUIDS)
    await agent.snapshots.remove(THREE, UUIDS)
    assert await agent.sums() == sums[2]

    told = [round(seconds or 0, 3) for seconds in pauses]
    record_property("pause_seconds", told)
    print(f"3 disks: pauses {told} s, removed while it runs in {removed_seconds:.3f} s")
    assert max(told) < PAUSE_SECONDS
    await agent.guests.destroy(GUEST_UUID)
    for uuid in UUIDS:
        path = (await agent.volumes.describe_volume(uuid)).path
        assert subprocess.run(["qemu-img", "check", "-q", path], check=False).returncode == 0
        assert await agent.files.list(uuid) == []


@needs_demo_image
async def test_all_disks_are_kept_at_one_moment_while_the_guest_writes(agent: SnapshotAgent) -> None:
    await agent.boot_with_disks()
    # A call that died half-way has left this.
    disks = await agent.live.find_disks(GUEST_UUID)
    path = await agent.files.path_of(UUIDS[1])
    await agent.live.take(GUEST_UUID, {disks[path].node_name: f"{ONE}/f"})
    await agent.run(
        f"cat > /tmp/writer <<'END'\n{WRITER % ' '.join(agent.names)}\nEND\nsh /tmp/writer > /tmp/log 2>&1 &"
    )
    await asyncio.sleep(2)
    pauses = []
    for snapshot_id in (ONE, TWO, THREE):
        pauses.append(await agent.take(snapshot_id, quiesces=False))
        await asyncio.sleep(1)
    await agent.run("touch /tmp/stop; while [ ! -e /tmp/stopped ]; do sleep 0.1; done")
    count, longest = map(int, (await agent.run("cat /tmp/written")).split())
    before = 0
    for snapshot_id in (ONE, TWO, THREE):
        numbers = await agent.numbers(snapshot_id)
        # The first disk is written first: none can know of more than those before it.
        assert sorted(numbers, reverse=True) == numbers
        assert numbers[0] - numbers[2] <= 1
        assert before < numbers[2] <= count
        before = numbers[2]
    print(f"{count} rounds of writes, the longest write {longest * 10} ms, pauses {pauses}")
    assert longest * 0.01 < PAUSE_SECONDS


@needs_demo_image
async def test_a_guest_is_thawed_whatever_dies(agent: SnapshotAgent) -> None:
    await agent.boot_with_disks()
    disk = agent.names[0]
    await agent.run(f"mke2fs {disk} && mkdir /tmp/m && mount -t ext4 {disk} /tmp/m && echo told-to-nobody > /tmp/m/f")
    # What a program has written and nobody has flushed is in the snapshot all the same.
    pause = await agent.take(TWO)
    assert b"told-to-nobody" in (await agent.read(UUIDS[0], TWO)).read_bytes()
    await agent.snapshots.remove(TWO, UUIDS)
    print(f"paused {pause:.3f} s with a file system to freeze")

    # The agent dies while the guest is frozen.
    freezing = agent.freezes.frozen(GUEST_UUID)
    assert (await freezing.__aenter__()).reason == ""
    assert [path.name for path in _frozen(agent)] == [GUEST_UUID]
    agent.guest_agents.release(GUEST_UUID)
    assert await agent.status() == "frozen"
    started = time.monotonic()
    agent.freezes = agent.new_freezes()
    while await agent.status() != "thawed":
        assert time.monotonic() - started < THAW_SECONDS
        await asyncio.sleep(0.2)
    await _wait_until(lambda: not _frozen(agent))

    # The guest agent does not answer: the snapshot is taken all the same, and what it does later is undone.
    agent.snapshots = agent.new_snapshots()
    await agent.run("(sleep 1; kill -STOP $(pidof qemu-ga); sleep 16; kill -CONT $(pidof qemu-ga)) > /dev/null 2>&1 &")
    await asyncio.sleep(2)
    started = time.monotonic()
    taken = await agent.snapshots.take(SnapshotOrder(ONE, GUEST_UUID, tuple(UUIDS), True))
    assert taken.reason
    assert taken.consistency == "crash"
    assert time.monotonic() - started < THAW_SECONDS
    await _wait_until(lambda: not _frozen(agent))
    assert await agent.status() == "thawed"
    print(f"a guest agent that hung: thawed {time.monotonic() - started:.1f} s after it was asked to freeze")

    # QEMU dies in between: nothing is waited for.
    async with agent.freezes.frozen(GUEST_UUID) as freeze:
        assert freeze.reason == ""
        await agent.guests.destroy(GUEST_UUID)
    await _wait_until(lambda: not _frozen(agent))
    taken = await agent.snapshots.take(SnapshotOrder(THREE, GUEST_UUID, tuple(UUIDS), True))
    assert (taken.consistency, taken.paused_seconds) == ("file-system", None)


def _frozen(agent: SnapshotAgent) -> list[Path]:
    return list((agent.directory / "freezes").iterdir())


async def _wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(THAW_SECONDS):
        while not condition():
            await asyncio.sleep(0.1)
