"""Guests whose memory is put on disk, so that they go on from there when they are next started.

libvirt does it, as a "managed save", and goes on whoever listens: the state of a domain is the truth. What is saved is
libvirt's own file on the node's disk, and is gone once the guest runs again.
Source: https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainManagedSave.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import libvirt
import structlog

from agent.errors import AgentError, DomainForeign, DomainStateConflict, StorageExhausted
from agent.hypervisor.affinity import Affinities
from agent.hypervisor.connection import Connection
from agent.hypervisor.description import GuestDescription, PowerState, read_power_state
from agent.hypervisor.events import CHANGED, DomainEvents
from agent.hypervisor.guest import Guests, find_owned
from agent.hypervisor.guest_agent import GuestAgents

_PROGRESS_SECONDS: Final = 0.5
_KIB: Final = 1024
_CLOCK_SECONDS: Final = 5.0
_CLOCK_ATTEMPTS: Final = 5
# What the file has besides the memory: the definition, and the state of devices.
_OVERHEAD_BYTES: Final = 64 * 1024**2

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class SaveProgress:
    """How much of the memory is on disk; the total is 0 while it is not known."""

    done_bytes: int
    total_bytes: int


class Hibernations:
    """Puts guests on disk, and gives that up."""

    def __init__(
        self,
        connection: Connection,
        guests: Guests,
        guest_agents: GuestAgents,
        affinities: Affinities,
        events: DomainEvents,
        directory: Path,
    ) -> None:
        """`directory` is where libvirt keeps what it saves."""
        self._connection = connection
        self._guests = guests
        self._guest_agents = guest_agents
        self._affinities = affinities
        self._events = events
        self._directory = directory
        # Awaited with the UUID of a guest that has gone on from there.
        self.on_restored: Callable[[str], Awaitable[None]] | None = None
        # By the UUID of the guest; a restart of the agent forgets them, and finds libvirt at work.
        self._saves: dict[str, asyncio.Task[None]] = {}
        self._clocks: set[asyncio.Task[None]] = set()

    async def ensure_hibernated(self, uuid: str) -> AsyncGenerator[SaveProgress]:
        """The guest is off, and its memory on disk. To stop listening stops nothing.

        Raises DomainNotFound, DomainForeign, DomainStateConflict when it does not run, was cancelled, or libvirt cannot
        save it, StorageExhausted.
        """
        if (await self._look(uuid)).power_state is PowerState.HIBERNATED:
            return
        yield SaveProgress(0, 0)
        save = self._saves.get(uuid)
        if save is None and await self._read_job(uuid) is None:
            await self._check_space(uuid)
            # Another call may have begun meanwhile.
            save = self._saves.get(uuid) or self._begin(uuid)
        while not save.done() if save is not None else await self._read_job(uuid) is not None:
            if progress := await self._read_job(uuid):
                yield progress
            await (asyncio.wait([save], timeout=_PROGRESS_SECONDS) if save else asyncio.sleep(_PROGRESS_SECONDS))
        if save is not None:
            await asyncio.shield(save)
        description = await self._guests.get(uuid)
        if description.power_state is not PowerState.HIBERNATED:
            raise DomainStateConflict(f"domain {description.name} was not saved: it is {description.power_state.value}")

    async def cancel(self, uuid: str) -> GuestDescription:
        """The guest runs: saving was given up, or it goes on from what was saved by then."""
        while uuid in self._saves or await self._read_job(uuid) is not None:
            await self._connection.call(lambda handle: _abort(find_owned(handle, uuid)))
            await asyncio.sleep(_PROGRESS_SECONDS)
        description = await self._look(uuid)
        if description.power_state in (PowerState.HIBERNATED, PowerState.PAUSED):
            return await self.start(uuid)
        return description

    async def start(self, uuid: str) -> GuestDescription:
        """The guest runs; one that was hibernated is told what time it is, if its guest agent answers.

        Raises what `Guests.start` raises.
        """
        before = await self._guests.get(uuid)
        started = await self._guests.start(uuid)
        if before.power_state is PowerState.HIBERNATED:
            # It floats where it did when it was saved, and others may have pinned these CPUs since.
            with contextlib.suppress(AgentError):
                await self._affinities.settle(anew=True)
            if self.on_restored:
                with contextlib.suppress(AgentError):
                    await self.on_restored(uuid)
            clock = asyncio.create_task(self._set_clock(uuid), name=f"clock-{uuid}")
            self._clocks.add(clock)
            clock.add_done_callback(self._clocks.discard)
        return started

    def _begin(self, uuid: str) -> asyncio.Task[None]:
        save = self._saves[uuid] = asyncio.create_task(self._save(uuid), name=f"save-{uuid}")
        save.add_done_callback(lambda _: self._saves.pop(uuid, None))
        return save

    async def _set_clock(self, uuid: str) -> None:
        for attempt in range(_CLOCK_ATTEMPTS):
            await asyncio.sleep(attempt)
            try:
                now = {"time": time.time_ns()}
                await self._guest_agents.execute(uuid, "guest-set-time", now, timeout_seconds=_CLOCK_SECONDS)
            except AgentError as error:
                log.info("guest.clock_not_set", uuid=uuid, reason=error.message)
            else:
                return

    async def _look(self, uuid: str) -> GuestDescription:
        description = await self._guests.get(uuid)
        if description.foreign:
            raise DomainForeign(f"domain {description.name} was not created by Nodewright")
        return description

    async def _save(self, uuid: str) -> None:
        def save(handle: libvirt.virConnect) -> None:
            domain = find_owned(handle, uuid)
            try:
                if read_power_state(domain) is not PowerState.RUNNING:
                    raise DomainStateConflict(f"domain {domain.name()} does not run: only a guest that does hibernates")
                domain.managedSave()
            finally:
                self._events.announce(domain, CHANGED)

        await self._connection.call_migration(save)

    async def _read_job(self, uuid: str) -> SaveProgress | None:
        """How far libvirt is with saving the guest; None: it is not saved now."""
        return await self._connection.call(lambda handle: _read_job(find_owned(handle, uuid)))

    async def _check_space(self, uuid: str) -> None:
        wanted = _OVERHEAD_BYTES + await self._connection.call(lambda handle: _read_used(find_owned(handle, uuid)))
        free = (await asyncio.to_thread(shutil.disk_usage, _existing(self._directory))).free
        if free < wanted:
            raise StorageExhausted(
                f"the memory may take {wanted // 1024**2} MiB, and {self._directory} has {free // 1024**2} MiB free"
            )


def _read_job(domain: libvirt.virDomain) -> SaveProgress | None:
    try:
        stats: dict[str, Any] = domain.jobStats()
    except libvirt.libvirtError as error:
        if error.get_error_code() in (libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_SUPPORT):
            return None
        raise
    if stats.get("type", libvirt.VIR_DOMAIN_JOB_NONE) not in (
        libvirt.VIR_DOMAIN_JOB_BOUNDED,
        libvirt.VIR_DOMAIN_JOB_UNBOUNDED,
    ):
        return None
    if stats.get("operation", libvirt.VIR_DOMAIN_JOB_OPERATION_SAVE) != libvirt.VIR_DOMAIN_JOB_OPERATION_SAVE:
        return None  # a migration, say, which is not to be given up here
    return SaveProgress(int(stats.get("memory_processed", 0)), int(stats.get("memory_total", 0)))


def _abort(domain: libvirt.virDomain) -> None:
    try:
        domain.abortJob()
    except libvirt.libvirtError as error:
        # It has not begun yet, or has ended.
        if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID:
            raise


def _read_used(domain: libvirt.virDomain) -> int:
    """Bytes of memory that the guest has touched, as far as QEMU's process tells: with huge pages it does not."""
    most = domain.maxMemory() * _KIB if domain.isActive() else 0
    stats = domain.memoryStats() if domain.isActive() else {}
    backed_by_file = "<hugepages" in domain.XMLDesc(0)
    return most if backed_by_file or "rss" not in stats else min(most, int(stats["rss"]) * _KIB)


def _existing(directory: Path) -> Path:
    """The directory, or the nearest above it: libvirt makes it when it first needs it."""
    return next(path for path in (directory, *directory.parents) if path.exists())
