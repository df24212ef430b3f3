"""Guests that hibernate on their way between nodes: their memory goes as volumes do, and is put in libvirt's place."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.configure.host_profile import HostProfile
from agent.domain_lock import DomainLocks
from agent.durable_file import is_temporary, temporary_beside
from agent.errors import DomainStateConflict, StorageExhausted
from agent.hypervisor import migration
from agent.hypervisor.saved_memory import SavedMemory
from agent.outcome import OutcomeJournal
from agent.storage.base import Volume
from agent.storage.moving import Opened, Outgoing, ReceiveOrder, make_empty, open_file

_DIRECTORY_MODE: Final = 0o750


@dataclass(frozen=True)
class BroughtMemory:
    """What a transfer has brought, or was about to bring."""

    transfer_id: str
    uuid: str


class HibernatedGuests:
    """See Movable. The journal knows which transfer has brought the memory of a guest."""

    def __init__(
        self,
        memory: SavedMemory,
        locks: DomainLocks,
        read_profile: Callable[[], Awaitable[HostProfile]],
        journal_directory: Path,
    ) -> None:
        self._memory = memory
        self._locks = locks
        self._read_profile = read_profile
        self._journal = OutcomeJournal(journal_directory, "transfer", BroughtMemory)

    def prepare(self) -> None:
        """What a crash left half-made is gone."""
        directory = self._memory.directory
        for path in directory.iterdir() if directory.exists() else ():
            if is_temporary(path):
                path.unlink(missing_ok=True)

    async def inspect(self, uuid: str) -> Outgoing:
        """See Movable. Raises DomainNotFound, DomainForeign, DomainStateConflict."""
        guest = await self._memory.inspect(uuid, await self._read_profile())
        volume = _describe(uuid, guest.path, "")
        return Outgoing(volume, volume.size_bytes, is_raw=True, cpu_xml=guest.cpu_xml)

    async def open_source(self, uuid: str) -> Opened:
        """See Movable. The guest may be woken meanwhile: then checksums differ, or the next look finds no file."""
        return open_file((await self._memory.inspect(uuid, await self._read_profile())).path)

    async def find_brought(self, uuid: str, transfer_id: str) -> Volume | None:
        """See Movable. Raises DomainStateConflict for a guest that hibernates here by other means."""
        path = await self._memory.find(uuid)
        if path is None:
            return None
        if await asyncio.to_thread(self._journal.read, transfer_id) != BroughtMemory(transfer_id, uuid):
            raise DomainStateConflict(f"domain {uuid} hibernates on this node already")
        return _describe(uuid, path, transfer_id)

    async def reserve(self, order: ReceiveOrder) -> Path:
        """See Movable. Raises GuestIncompatible, StorageExhausted."""
        if order.cpu_xml:
            await migration.check_cpu(self._memory.connection, order.cpu_xml, await self._read_profile())
        return await asyncio.to_thread(self._reserve, order)

    async def adopt(self, order: ReceiveOrder, path: Path) -> Volume:
        """See Movable. Raises DomainNotFound while the guest is not defined here, and what `SavedMemory` does."""
        uuid, transfer_id = order.spec.uuid, order.transfer_id
        await asyncio.to_thread(os.truncate, path, order.file_bytes)
        async with self._locks.of(uuid):
            # First: nothing hibernates here yet, so this cannot be taken for what another has brought.
            await asyncio.to_thread(self._journal.keep, transfer_id, BroughtMemory(transfer_id, uuid))
            return _describe(uuid, await self._memory.install(uuid, path), transfer_id)

    async def discard(self, path: Path) -> None:
        """See Movable."""
        await asyncio.to_thread(path.unlink, missing_ok=True)

    def _reserve(self, order: ReceiveOrder) -> Path:
        directory = self._memory.directory
        self._journal.prune()
        directory.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        free = shutil.disk_usage(directory).free
        if free < order.allocated_bytes:
            wanted = f"the memory takes {order.allocated_bytes // 1024**2} MiB"
            raise StorageExhausted(f"{wanted}, and {directory} has {free // 1024**2} MiB free")
        file = temporary_beside(directory / f"{order.spec.uuid}.save")
        make_empty(file, order.file_bytes)
        return file


def _describe(uuid: str, path: Path, transfer_id: str) -> Volume:
    opened = open_file(path)
    return Volume(uuid, opened.file_bytes, opened.allocated_bytes, "", None, transfer_id)
