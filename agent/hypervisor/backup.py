"""Copies of disks of guests that run, by libvirt's backup jobs: of one moment, at which file systems may be frozen."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import libvirt
import structlog

from agent.configure.disk import make_serial
from agent.domain_lock import DomainLocks
from agent.domainxml.backup import BackupDisk, BackupDisks, BackupDriver, BackupTarget, DomainBackup
from agent.domainxml.element import format_document
from agent.errors import DomainNotFound, DomainStateConflict, StorageFailed
from agent.hypervisor.connection import Connection
from agent.hypervisor.freeze import THAWED_TOO_SOON, Freezes
from agent.hypervisor.guest import find_owned
from agent.hypervisor.unplug import TIMEOUT_SECONDS, read_live

_LOOK_SECONDS: Final = 0.5
# A job that is given up ends when QEMU has.
_ABORT_SECONDS: Final = 30.0
_ENDED: Final = libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED

Result = TypeVar("Result")

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Look:
    """How far a job is; None: it has ended, with this complaint."""

    percent: int | None
    complaint: str = ""


class DiskCopy:
    """A disk that is being copied."""

    def __init__(self, volume_uuid: str, look: Callable[[], Awaitable[_Look]], *, is_frozen: bool, reason: str) -> None:
        self._volume_uuid = volume_uuid
        self._look = look
        self.is_frozen = is_frozen
        self.reason = reason
        self.is_over = False

    async def percents(self) -> AsyncGenerator[int]:
        """How far it is, until it is done. Raises StorageFailed."""
        while not self.is_over:
            look = await self._look()
            self.is_over = look.percent is None
            if look.complaint:
                raise StorageFailed(f"the copy of volume {self._volume_uuid} failed: {look.complaint}")
            if look.percent is not None:
                yield look.percent
                await asyncio.sleep(_LOOK_SECONDS)


class Backups:
    """Copies disks while guests write to them."""

    def __init__(self, connection: Connection, freezes: Freezes, locks: DomainLocks) -> None:
        self._connection = connection
        self._freezes = freezes
        self._locks = locks

    async def has(self, domain_uuid: str, volume_uuid: str) -> bool:
        """Whether the domain runs, and has the volume."""

        def run(handle: libvirt.virConnect) -> bool:
            with contextlib.suppress(DomainNotFound):
                live = read_live(find_owned(handle, domain_uuid))
                return live is not None and bool(live.find_disk(make_serial(volume_uuid)))
            return False

        return await self._connection.call(run)

    @asynccontextmanager
    async def copying(
        self, domain_uuid: str, volume_uuid: str, target: Path, *, quiesces: bool
    ) -> AsyncIterator[DiskCopy]:
        """The disk goes to a qcow2 file that stands alone; who leaves the context early ends that.

        With `quiesces` the guest's file systems are frozen until it has begun, if its guest agent does that in time.
        Raises DomainStateConflict when the guest has another job or no such disk, StorageFailed.
        """
        await self._end_former(domain_uuid)
        async with self._locks.of(domain_uuid, "domain_uuid"):
            copy = await self._begin(domain_uuid, volume_uuid, target, quiesces=quiesces)
        try:
            yield copy
        finally:
            if not copy.is_over:
                await asyncio.shield(self._call(domain_uuid, _abort))

    async def _begin(self, domain_uuid: str, volume_uuid: str, target: Path, *, quiesces: bool) -> DiskCopy:
        """What the copy holds is settled: the guest goes on."""

        async def look() -> _Look:
            return await self._call(domain_uuid, _look)

        if not quiesces:
            await self._call(domain_uuid, lambda domain: _begin(domain, volume_uuid, target))
            return DiskCopy(volume_uuid, look, is_frozen=False, reason="")
        async with self._freezes.frozen(domain_uuid) as freeze:
            await self._call(domain_uuid, lambda domain: _begin(domain, volume_uuid, target))
        reason = freeze.reason or (THAWED_TOO_SOON if freeze.is_broken else "")
        if reason:
            log.warning("backup.not_frozen", domain=domain_uuid, reason=reason)
        return DiskCopy(volume_uuid, look, is_frozen=not reason, reason=reason)

    async def _end_former(self, domain_uuid: str) -> None:
        """Of an agent that has ended nobody waits for the job: it does not run any more."""
        for _ in range(int(_ABORT_SECONDS / _LOOK_SECONDS)):
            if not await self._call(domain_uuid, _abort):
                return
            await asyncio.sleep(_LOOK_SECONDS)

    async def _call(self, domain_uuid: str, run: Callable[[libvirt.virDomain], Result]) -> Result:
        return await self._connection.call(
            lambda handle: run(find_owned(handle, domain_uuid)), timeout_seconds=TIMEOUT_SECONDS
        )


def _begin(domain: libvirt.virDomain, volume_uuid: str, target: Path) -> None:
    live = read_live(domain)
    found = [disk for disk in live.disks if disk.key == make_serial(volume_uuid)] if live else []
    if not found:
        raise DomainStateConflict(f"domain {domain.name()} does not run with volume {volume_uuid}")
    disk = BackupDisk(found[0].target.dev, BackupDriver("qcow2"), BackupTarget(str(target)))
    domain.backupBegin(format_document(DomainBackup(BackupDisks((disk,)))), None)


def _look(domain: libvirt.virDomain) -> _Look:
    stats = domain.jobStats()
    if stats.get("type", libvirt.VIR_DOMAIN_JOB_NONE) != libvirt.VIR_DOMAIN_JOB_NONE:
        total = int(stats.get("disk_total", 0))
        return _Look(100 * int(stats.get("disk_processed", 0)) // total if total else 0)
    ended = domain.jobStats(_ENDED)
    is_done = ended.get("type") == libvirt.VIR_DOMAIN_JOB_COMPLETED and ended.get("success", True)
    return _Look(None, "" if is_done else str(ended.get("errmsg") or "the guest has ended, or the job was"))


def _abort(domain: libvirt.virDomain) -> bool:
    """Whether a backup job has run, which is over soon."""
    try:
        stats = domain.jobStats()
        if stats.get("operation") == libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP and stats.get("type"):
            domain.abortJob()
            return True
    except libvirt.libvirtError as error:
        # It has ended meanwhile, perhaps with its guest.
        log.info("backup.not_aborted", domain=domain.UUIDString(), reason=str(error))
    return False
