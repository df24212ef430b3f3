"""Copies of volumes that stand alone, made by the real qemu-img."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path

import pytest
from lxml import etree

from agent.domainxml.backup import BackupDisk, BackupDisks, BackupDriver, BackupTarget, DomainBackup
from agent.domainxml.element import format_document
from agent.errors import ExportNotFound, SnapshotNotFound, StorageExhausted, VolumeInUse, VolumeNotFound
from agent.storage.base import VolumeSpec
from agent.storage.choice import StorageChoice
from agent.storage.directory import DirectoryBackend
from agent.storage.exporting import ExportOrder, ExportProgress, Exports, LiveCopies, LiveCopy
from agent.storage.image_format import read_qcow2_header
from agent.storage.snapshots import VolumeSnapshots
from tests.unit.agent.storage_builder import MIB, Source, a_cache, a_qcow2, a_ref, fetch, nobody

UUID = "0f1e8c1e-7e64-4a7e-9c60-0e2a4a7a7d12"
GUEST = "1f1e8c1e-7e64-4a7e-9c60-0e2a4a7a7d12"


class NobodyRuns:
    """What copies disks of guests that run, where none does."""

    async def has(self, domain_uuid: str, volume_uuid: str) -> bool:
        """Of a guest that is off or gone."""
        return False

    def copying(
        self, domain_uuid: str, volume_uuid: str, target: Path, *, quiesces: bool
    ) -> AbstractAsyncContextManager[LiveCopy]:
        """Nobody asks for it."""
        raise NotImplementedError


class OneRuns:
    """A guest that runs with the volume, of which a copy is the disk that was told before."""

    def __init__(self, disk: Path, reason: str) -> None:
        self.disk, self.reason, self.is_frozen = disk, reason, False

    async def has(self, domain_uuid: str, volume_uuid: str) -> bool:
        """It does."""
        return (domain_uuid, volume_uuid) == (GUEST, UUID)

    @asynccontextmanager
    async def copying(
        self, domain_uuid: str, volume_uuid: str, target: Path, *, quiesces: bool
    ) -> AsyncGenerator[LiveCopy]:
        """At once."""
        self.is_frozen = quiesces and not self.reason
        shutil.copyfile(self.disk, target)
        yield self

    async def percents(self) -> AsyncGenerator[int]:
        """Half, and then all."""
        yield 50


async def a_node(directory: Path, *, reserved_bytes: int = 0, live: LiveCopies | None = None) -> tuple[Exports, Path]:
    """Its copies, and a volume on an image to which a guest has written."""
    directory.mkdir(exist_ok=True)
    content = a_qcow2(directory / "source.qcow2")
    cache = a_cache(directory / "images", Source(img_1=content))
    await fetch(cache, a_ref(content))
    volumes = DirectoryBackend(
        directory / "volumes", owner="node-1", find_image=cache.find, find_users=nobody, reserved_bytes=0
    )
    volumes.prepare()
    await volumes.ensure_volume(VolumeSpec(UUID, 64 * MIB, "ssd", "img-1"))
    path = (await volumes.describe_volume(UUID)).path
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 0x5a 32M 1M", path], check=True, capture_output=True)
    exports = Exports(
        directory / "exports",
        StorageChoice(volumes, {}),
        VolumeSnapshots(StorageChoice(volumes, {})),
        live or NobodyRuns(),
        find_image=cache.find,
        reserved_bytes=reserved_bytes,
    )
    exports.prepare()
    return exports, path


async def follow(exports: Exports, order: ExportOrder) -> ExportProgress:
    """What is told last of the copy."""
    told = [progress async for progress in exports.ensure(order)]
    assert [progress.percent for progress in told] == sorted(progress.percent for progress in told)
    return told[-1]


async def export(exports: Exports, uuid: str = UUID) -> tuple[int, str]:
    """Size and checksum of the copy."""
    last = await follow(exports, ExportOrder(uuid, "img-new"))
    return last.size_bytes, last.sha256


async def test_a_copy_stands_alone_and_is_the_same_disk(tmp_path: Path) -> None:
    exports, volume = await a_node(tmp_path)
    size_bytes, sha256 = await export(exports)
    copy = tmp_path / "exports/img-new.f.qcow2"
    assert (copy.stat().st_size, hashlib.sha256(copy.read_bytes()).hexdigest()) == (size_bytes, sha256)
    header = read_qcow2_header(copy)
    assert header is not None
    assert (header.backing_file, header.virtual_size_bytes) == (None, 64 * MIB)
    subprocess.run(["qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", volume, copy], check=True)
    with exports.open("img-new", size_bytes - 10) as file:
        assert file.read() == copy.read_bytes()[-10:]
    # Asked for again it is the same, though the volume is another by now.
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 1 1M 1M", volume], check=True, capture_output=True)
    assert await export(exports) == (size_bytes, sha256)
    for _ in range(2):
        exports.ensure_removed("img-new")
    assert list((tmp_path / "exports").iterdir()) == []
    with pytest.raises(ExportNotFound):
        exports.open("img-new", 0)


async def test_a_copy_of_a_snapshot_is_the_disk_as_it_was_then(tmp_path: Path) -> None:
    exports, volume = await a_node(tmp_path)
    then = tmp_path / "then.raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", volume, then], check=True)
    subprocess.run(["qemu-img", "snapshot", "-c", "old/c", volume], check=True)
    write = ("-c", "write -P 7 32M 2M", "-c", "write -P 8 63M 1M")
    subprocess.run(["qemu-io", "-f", "qcow2", *write, volume], check=True, capture_output=True)
    subprocess.run(["qemu-img", "resize", "-q", volume, "80M"], check=True)
    # Somebody runs with it, and writes on.
    guest = await asyncio.create_subprocess_exec("qemu-io", "-f", "qcow2", str(volume), stdin=-1, stdout=-1)
    assert guest.stdout is not None
    await guest.stdout.readuntil(b"qemu-io> ")
    try:
        last = await follow(exports, ExportOrder(UUID, "img-new", snapshot_id="old"))
        with pytest.raises(SnapshotNotFound):
            await follow(exports, ExportOrder(UUID, "img-other", snapshot_id="other"))
    finally:
        guest.kill()
        await guest.wait()
    assert last.consistency == "crash"
    [copy] = (tmp_path / "exports").iterdir()
    header = read_qcow2_header(copy)
    assert header is not None
    assert (header.backing_file, header.virtual_size_bytes) == (None, 64 * MIB)
    subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", "qcow2", then, copy], check=True)


@pytest.mark.parametrize(
    ("quiesces", "reason", "consistency"),
    [(True, "", "file-system"), (True, "no guest agent", "crash"), (False, "", "crash")],
)
async def test_a_copy_of_a_guest_that_runs_tells_whether_it_was_frozen(
    tmp_path: Path, quiesces: bool, reason: str, consistency: str
) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(a_qcow2(tmp_path / "source"))
    exports, _ = await a_node(tmp_path, live=OneRuns(disk, reason))
    order = ExportOrder(UUID, "img-new", GUEST, quiesces=quiesces)
    last = await follow(exports, order)
    assert (last.consistency, last.reason) == (consistency, reason)
    # A call that is repeated, by whoever did not hear the answer.
    assert (await follow(exports, order)).consistency == consistency
    assert [path.name for path in (tmp_path / "exports").iterdir()] == [f"img-new.{consistency[0]}.qcow2"]


async def test_what_is_broken_off_leaves_nothing(tmp_path: Path) -> None:
    exports, _ = await a_node(tmp_path)
    async with aclosing(exports.ensure(ExportOrder(UUID, "img-new"))) as looks:
        await anext(looks)
    assert list((tmp_path / "exports").iterdir()) == []
    for name in (".new-12345678-img-new.qcow2", "old.qcow2", "young.qcow2"):
        (tmp_path / "exports" / name).touch()
    long_ago = time.time() - 49 * 3600
    os.utime(tmp_path / "exports/old.qcow2", (long_ago, long_ago))
    exports.prepare()
    assert [path.name for path in (tmp_path / "exports").iterdir()] == ["young.qcow2"]


async def test_what_cannot_be_copied(tmp_path: Path) -> None:
    exports, volume = await a_node(tmp_path)
    with pytest.raises(VolumeNotFound):
        await export(exports, UUID.replace("0f", "1f"))
    full, _ = await a_node(tmp_path / "full", reserved_bytes=1 << 60)
    with pytest.raises(StorageExhausted):
        await export(full)
    guest = await asyncio.create_subprocess_exec(
        "qemu-io", "-f", "qcow2", str(volume), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert guest.stdout is not None
    await guest.stdout.readuntil(b"qemu-io> ")
    try:
        with pytest.raises(VolumeInUse):
            await export(exports)
    finally:
        guest.kill()
        await guest.wait()


def test_the_job_for_a_guest_that_runs_is_valid_by_the_schema_of_libvirt() -> None:
    disk = BackupDisk("vda", BackupDriver("qcow2"), BackupTarget("/srv/agent/exports/img-new.qcow2"))
    document = etree.fromstring(format_document(DomainBackup(BackupDisks((disk,)))))
    schema = etree.RelaxNG(etree.parse("/usr/share/libvirt/schemas/domainbackup.rng"))
    assert schema.validate(document), schema.error_log
