"""Copies of states of volumes: whole, and of what has changed, put together again by the real qemu-img."""

import random
import subprocess
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.errors import SnapshotNotFound, StorageExhausted
from agent.storage import qemu_img as qemu_img_module
from agent.storage.base import VolumeSpec
from agent.storage.choice import StorageChoice
from agent.storage.directory import DirectoryBackend
from agent.storage.exporting import ExportOrder, ExportProgress, Exports
from agent.storage.image_format import read_qcow2_header
from agent.storage.snapshot_file import SnapshotFiles
from agent.storage.snapshots import VolumeSnapshots
from tests.unit.agent.storage_builder import MIB, Source, a_cache, a_qcow2, a_ref, fetch, holding, nobody, qemu_img
from tests.unit.agent.test_exporting import UUID, NobodyRuns

SIZE_MIB = 64


@dataclass
class Lab:
    """A volume, its snapshots, and what was copied of them."""

    directory: Path
    volumes: DirectoryBackend
    files: SnapshotFiles
    exports: Exports
    path: Path

    def write(self, *commands: str) -> None:
        """As a guest does."""
        options = [argument for command in commands for argument in ("-c", command)]
        subprocess.run(["qemu-io", "-f", "qcow2", "-d", "unmap", *options, self.path], check=True, capture_output=True)

    async def take(self, name: str) -> bytes:
        """A snapshot; what the disk holds."""
        await self.files.take(UUID, name)
        return self.read(self.path, name)

    async def export(self, name: str, parent: str = "") -> ExportProgress:
        """The copy of a snapshot, as it was told last."""
        order = an_order(name, parent)
        told = [progress async for progress in self.exports.ensure(order)][-1]
        self.copy(name)
        return told

    def make_anew(self, cluster_bytes: int) -> None:
        """The volume is empty, and has so large clusters: of small ones it takes many tables."""
        header = read_qcow2_header(self.path)
        assert header is not None
        below = ("-b", header.backing_file, "-F", "qcow2") if header.backing_file else ()
        options = ("-o", f"cluster_size={cluster_bytes},lazy_refcounts=on", *below)
        qemu_img("create", "-q", "-f", "qcow2", *options, self.path, f"{SIZE_MIB}M")

    def read(self, path: Path, snapshot: str = "") -> bytes:
        """What a disk holds, with all that its file is based on."""
        raw = self.directory / "raw"
        options = ["-U", "-l", f"snapshot.name={snapshot}/f"] if snapshot else []
        qemu_img("convert", *options, "-f", "qcow2", "-O", "raw", path, raw)
        return raw.read_bytes()

    def copy(self, name: str) -> Path:
        """The file, by the name that increments know."""
        path = self.directory / "exports" / f"{name}.qcow2"
        if not path.exists():
            path.symlink_to(f"{name}.f.qcow2")
        return path


def an_order(name: str, parent: str = "") -> ExportOrder:
    return ExportOrder(UUID, name, snapshot_id=name, parent_id=parent, parent_name=f"{parent}.qcow2" if parent else "")


@pytest.fixture(params=["img-1", None], ids=["image-below", "empty"])
async def lab(tmp_path: Path, request: pytest.FixtureRequest) -> Lab:
    source = tmp_path / "source.qcow2"
    a_qcow2(source, 16 * MIB)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 9 0 8M", source], check=True, capture_output=True)
    content = source.read_bytes()
    cache = a_cache(tmp_path / "images", Source(img_1=content))
    await fetch(cache, a_ref(content))
    volumes = DirectoryBackend(
        tmp_path / "volumes", owner="node-1", find_image=cache.find, find_users=nobody, reserved_bytes=0
    )
    volumes.prepare()
    await volumes.ensure_volume(VolumeSpec(UUID, SIZE_MIB * MIB, "ssd", request.param))
    everywhere = StorageChoice(volumes, {})
    stores = VolumeSnapshots(everywhere)
    files = await stores.of(UUID)
    assert isinstance(files, SnapshotFiles)
    exports = Exports(tmp_path / "exports", everywhere, stores, NobodyRuns(), find_image=cache.find, reserved_bytes=0)
    exports.prepare()
    return Lab(tmp_path, volumes, files, exports, (await volumes.describe_volume(UUID)).path)


def some_writes(randomness: random.Random) -> list[str]:
    """Data, zeros and discards at random, not only whole clusters."""
    kinds = ("write -P {0}", "write -z", "write -zu", "discard")
    return [
        f"{randomness.choice(kinds).format(randomness.randrange(1, 255))} "
        f"{randomness.randrange(0, (SIZE_MIB - 2) * 1024)}k {randomness.choice((4, 64, 100, 1024))}k"
        for _ in range(12)
    ]


@pytest.mark.parametrize("seed", range(3))
async def test_increments_on_a_whole_copy_are_each_state(lab: Lab, seed: int) -> None:
    randomness, parent = random.Random(seed), ""
    held: dict[str, bytes] = {}
    for number in range(4):
        lab.write(*some_writes(randomness))
        if number == 2:
            await qemu_img_module.grow(lab.path, (SIZE_MIB + 8) * MIB)
        name = f"state-{number}"
        held[name] = await lab.take(name)
        async with holding(lab.path):
            told = await lab.export(name, parent)
        assert (told.is_increment, told.whole_because) == (number > 0, "")
        assert told.size_bytes == lab.copy(name).stat().st_size
        # The volume keeps two states at most.
        if parent:
            await lab.files.remove(UUID, parent)
        parent = name
    for name, content in held.items():
        qemu_img("check", "-f", "qcow2", lab.copy(name))
        assert lab.read(lab.copy(name)) == content, name
    assert [read_qcow2_header(lab.copy(name)).backing_file for name in held] == [  # type: ignore[union-attr]
        None,
        "state-0.qcow2",
        "state-1.qcow2",
        "state-2.qcow2",
    ]


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_became_of_the_disk_in_between_no_copy_is_wrong(lab: Lab, seed: int) -> None:
    lab.make_anew(4096)
    randomness, parent, size_mib = random.Random(seed), "", SIZE_MIB
    held: dict[str, bytes] = {}
    kept: list[str] = []
    increments = 0
    for number in range(5):
        for step in range(randomness.randrange(3)):
            match randomness.randrange(5):
                case 0:
                    kept.append(f"kept-{number}-{step}")
                    await lab.files.take(UUID, kept[-1])
                case 1 if kept:
                    await lab.files.remove(UUID, kept.pop(randomness.randrange(len(kept))))
                case 2 | 3 if kept:
                    await lab.files.roll_back(UUID, randomness.choice(kept))
                case 4:
                    size_mib += 1
                    await qemu_img_module.grow(lab.path, size_mib * MIB)
            lab.write(*some_writes(randomness)[:6])
        name = f"state-{number}"
        held[name] = await lab.take(name)
        increments += (await lab.export(name, parent)).is_increment
        if parent:
            await lab.files.remove(UUID, parent)
        parent = name
    assert increments
    for name, content in held.items():
        qemu_img("check", "-f", "qcow2", lab.copy(name))
        assert lab.read(lab.copy(name)) == content, name


async def test_what_did_not_change_is_not_copied(lab: Lab) -> None:
    lab.write("write -P 1 0 32M")
    await lab.take("one")
    await lab.export("one")
    lab.write("write -P 2 10M 64k")
    await lab.take("two")
    assert (await lab.export("two", "one")).size_bytes <= 8 * 64 * 1024
    await lab.take("three")
    assert (await lab.export("three", "two")).size_bytes <= 6 * 64 * 1024


async def test_after_a_rollback_a_copy_is_right_or_whole_and_never_wrong(lab: Lab) -> None:
    lab.write("write -P 1 20M 1M")
    await lab.take("old")
    lab.write("write -P 2 20M 1M", "write -P 3 30M 1M", "write -P 3 1M 1M")
    await lab.take("one")
    await lab.export("one")
    lab.write("write -P 4 40M 1M")
    await lab.files.roll_back(UUID, "old")
    lab.write("write -P 5 50M 1M")
    content = await lab.take("two")
    told = await lab.export("two", "one")
    assert told.is_increment is (read_qcow2_header(lab.path).backing_file is None)  # type: ignore[union-attr]
    assert told.is_increment or "rolled back" in told.whole_because
    assert lab.read(lab.copy("two")) == content
    # Asked for again it is the same.
    assert await lab.export("two", "one") == told


async def test_without_the_former_state_it_is_whole(lab: Lab) -> None:
    lab.write("write -P 1 20M 1M")
    content = await lab.take("two")
    told = await lab.export("two", "one")
    assert (told.is_increment, told.whole_because) == (False, "the volume does not hold the former state any more")
    assert lab.read(lab.copy("two")) == content


async def test_what_is_broken_off_or_fails_leaves_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    await lab.take("one")
    lab.write("write -P 1 0 60M")
    await lab.take("two")
    with pytest.raises(SnapshotNotFound):
        await lab.export("none")
    for parent in ("one", ""):
        async with aclosing(lab.exports.ensure(an_order("two", parent))) as looks:
            await anext(looks)
        assert list((lab.directory / "exports").iterdir()) == []
    monkeypatch.setattr(lab.exports, "_reserved_bytes", 1 << 60)
    for parent in ("one", ""):
        with pytest.raises(StorageExhausted):
            await lab.export("two", parent)
    assert list((lab.directory / "exports").iterdir()) == []
    # Nobody reads it any more: so it can go.
    await lab.files.remove(UUID, "one")
