"""Copies of disks of guests that run, by libvirt's backup jobs: of one moment, as after a power failure."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import libvirt
import structlog

from agent.configure.disk import make_serial
from agent.domainxml.backup import BackupDisk, BackupDisks, BackupDriver, BackupTarget, DomainBackup
from agent.domainxml.element import format_document
from agent.errors import DomainNotFound, DomainStateConflict, StorageFailed
from agent.hypervisor.connection import Connection
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


class Backups:
    """Copies disks while guests write to them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def has(self, domain_uuid: str, volume_uuid: str) -> bool:
        """Whether the domain runs, and has the volume."""

        def run(handle: libvirt.virConnect) -> bool:
            with contextlib.suppress(DomainNotFound):
                live = read_live(find_owned(handle, domain_uuid))
                return live is not None and bool(live.find_disk(make_serial(volume_uuid)))
            return False

        return await self._connection.call(run)

    async def copy(self, domain_uuid: str, volume_uuid: str, target: Path) -> AsyncGenerator[int]:
        """Writes the disk to a qcow2 file that stands alone; yields percents. Who stops listening ends it.

        Raises DomainStateConflict when the guest has another job or no such disk, StorageFailed.
        """
        await self._end_former(domain_uuid)
        await self._call(domain_uuid, lambda domain: _begin(domain, volume_uuid, target))
        is_over = False
        try:
            while not is_over:
                look = await self._call(domain_uuid, _look)
                is_over = look.percent is None
                if look.complaint:
                    raise StorageFailed(f"the copy of volume {volume_uuid} failed: {look.complaint}")
                if look.percent is not None:
                    yield look.percent
                    await asyncio.sleep(_LOOK_SECONDS)
        finally:
            if not is_over:
                await asyncio.shield(self._call(domain_uuid, _abort))

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
