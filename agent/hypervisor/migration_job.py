"""Migrations from this node: each is done once for its id, whoever listens and whatever is restarted.

The journal says that one has begun before libvirt is asked, and how it ended. In between libvirt is the truth: an agent
that was restarted watches on when libvirt still has the job, and else tells from the domain what became of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal
from weakref import WeakValueDictionary

import structlog

from agent.durable_file import remove_file
from agent.errors import (
    AgentError,
    DomainNotFound,
    DomainStateConflict,
    HypervisorUnsupported,
    MigrationNotFound,
    RequestInvalid,
)
from agent.hypervisor import migration
from agent.hypervisor.connection import Connection
from agent.hypervisor.convergence import Convergence, Step
from agent.hypervisor.description import GuestDescription, PowerState
from agent.hypervisor.guest import Guests
from agent.hypervisor.migration import MigrationOrder, MigrationStats
from agent.hypervisor.migration_journal import MigrationEntry, MigrationJournal, MigrationState

_LOOK_SECONDS: Final = 0.5
_CANCEL_SECONDS: Final = 60.0
# So long without a single byte is no slow network but none.
_SILENT_SECONDS: Final = 30.0
# After this much of it, who wants to cancel does not wait for the network any more.
_DOUBTFUL_SECONDS: Final = 3.0
_MOVABLE: Final = (PowerState.RUNNING, PowerState.PAUSED)
# Of a paused guest whose other half may be the one that runs.
_UNDECIDED_REASONS: Final = ("migration", "postcopy", "postcopy-failed")

Phase = Literal["preparing", "disks", "memory", "post-copy"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class MigrationProgress:
    """A look at a migration; the last one has its end."""

    phase: Phase
    stats: MigrationStats
    entry: MigrationEntry


class _Job:
    """One migration that runs, watched until its end."""

    def __init__(self, migrations: Migrations, entry: MigrationEntry, order: MigrationOrder | None) -> None:
        self._migrations = migrations
        self._connection = migrations.connection
        self._order = order
        self._convergence = Convergence(
            entry.allow_post_copy,
            entry.stalled_iterations,
            entry.most_iterations,
            entry.max_downtime_ms,
            entry.most_downtime_ms,
        )
        self._given_up = ""
        self._moved_bytes = -1
        self._moved_at = time.monotonic()
        # Of one that is watched on QEMU has it already, unless the agent ended in between: then it is told again.
        self._limited = not entry.max_downtime_ms
        self.entry = entry
        self.phase: Phase = "preparing"
        self.stats = MigrationStats()
        self.task = asyncio.create_task(self._run(), name=f"migration-{entry.migration_id}")

    def cancel(self) -> None:
        """It is given up at the next look."""
        self.entry = self._migrations.journal.write(replace(self.entry, is_cancelled=True))

    async def _run(self) -> None:
        failure = await self._perform(self._order) if self._order is not None else ""
        guest = await self._await_end()
        self.entry = self._migrations.finish(self.entry, *self._judge(guest, failure))

    async def _await_end(self) -> GuestDescription | None:
        """The domain that is left here when libvirt has no job for it any more, however long libvirt is away."""
        while True:
            try:
                if not await self._look():
                    return await self._migrations.guests.find(self.entry.uuid)
            except AgentError as error:
                log.warning("migration.end_unknown", migration_id=self.entry.migration_id, reason=error.message)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _perform(self, order: MigrationOrder) -> str:
        """Empty when libvirt says that it went well, else libvirt's reason."""
        call = asyncio.create_task(migration.perform(self._connection, order))
        while True:
            done, _ = await asyncio.wait((call,), timeout=_LOOK_SECONDS)
            if done:
                break
            await self._look()
        try:
            await call
        except AgentError as error:
            return error.message
        return ""

    async def _look(self) -> bool:
        """Reads and steers; False when there is certainly no job."""
        try:
            stats = await migration.read_stats(self._connection, self.entry.uuid)
        except (DomainNotFound, HypervisorUnsupported):
            return False
        except AgentError:  # libvirt is away, or busy with the cut-over
            return True
        if stats is None:
            return False
        self._note(stats)
        try:
            await self._steer()
        except AgentError as error:  # it has ended since, or cannot do at this moment what it is asked for
            log.info("migration.not_steered", migration_id=self.entry.migration_id, reason=error.message)
        return True

    def _note(self, stats: MigrationStats) -> None:
        self.stats = stats
        moved_bytes = stats.memory_done_bytes + stats.disk_done_bytes
        if moved_bytes != self._moved_bytes:
            self._moved_bytes, self._moved_at = moved_bytes, time.monotonic()
        if self.phase != "post-copy":
            self.phase = "memory" if stats.memory_iteration else "disks" if stats.disk_total_bytes else "preparing"

    async def _steer(self) -> None:
        uuid = self.entry.uuid
        if self.phase == "post-copy":
            return
        silent_seconds = time.monotonic() - self._moved_at
        if silent_seconds > _SILENT_SECONDS and not self.entry.is_cancelled:
            self._given_up = f"not a byte has come through for {_SILENT_SECONDS:g} s: is the network cut?"
        if self.entry.is_cancelled or self._given_up:
            if silent_seconds > _DOUBTFUL_SECONDS:
                await self._migrations.sever(self.entry.data_address)
            await migration.abort(self._connection, uuid)
            return
        if not self._limited:
            await migration.limit_downtime(self._connection, uuid, self._convergence.max_downtime_ms)
            self._limited = True
        match self._convergence.observe(self.stats.memory_iteration, self.stats.memory_remaining_bytes):
            case Step.LONGER_PAUSE:
                self._limited = False
            case Step.POST_COPY:
                await migration.start_post_copy(self._connection, uuid)
                self.phase = "post-copy"
            case Step.GIVE_UP:
                self._given_up = self._convergence.complaint
                await migration.abort(self._connection, uuid)

    def _judge(self, guest: GuestDescription | None, failure: str) -> tuple[MigrationState, str]:
        """What became of the guest, in the words of the domain that is left here."""
        if guest is None or _has_left(guest):
            return "completed", ""
        reason = self._given_up or failure or "the migration was interrupted"
        if guest.power_state is PowerState.SHUTOFF and guest.power_state_reason == "unknown":
            # libvirt has forgotten how it ended, as after a boot of the node: it may have been cut over before.
            return "undecided", f"the node went down meanwhile: {reason}"
        if guest.power_state not in _MOVABLE:
            return "failed", f"the guest is off: {reason}"
        if guest.power_state is PowerState.PAUSED and guest.power_state_reason in _UNDECIDED_REASONS:
            return "undecided", reason
        if self.entry.is_cancelled and not self._given_up:
            return "canceled", "cancelled before the cut-over"
        return "failed", reason


def _has_left(guest: GuestDescription) -> bool:
    return guest.power_state is PowerState.SHUTOFF and guest.power_state_reason == "migrated"


class Migrations:
    """All migrations from this node."""

    def __init__(
        self, connection: Connection, guests: Guests, directory: Path, *, sever: Callable[[str], Awaitable[None]]
    ) -> None:
        """`sever` ends the connections of migrations to an address."""
        self.connection = connection
        self.sever = sever
        self.guests = guests
        self.journal = MigrationJournal(directory)
        self._jobs: dict[str, _Job] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def migrate(self, order: MigrationOrder) -> AsyncGenerator[MigrationProgress]:
        """The guest is moved once for this id; a repeated call follows the same job, or answers its outcome.

        Who stops listening ends nothing. Raises DomainStateConflict when the guest does not run, or is on its way
        under another id.
        """
        async with self._lock(order.migration_id):
            entry = self._entry(order.migration_id, order.uuid)
            job = None
            if entry is None:
                job = await self._begin(order)
            elif entry.state == "running":
                job = self._job(entry)
        async for look in self._watch(entry, job):
            yield look

    async def follow(self, uuid: str, migration_id: str) -> AsyncGenerator[MigrationProgress]:
        """The same for a migration that has begun. Raises MigrationNotFound."""
        async with self._lock(migration_id):
            entry = self._entry(migration_id, uuid)
            if entry is None:
                raise MigrationNotFound(f"no migration has the id {migration_id}")
            job = self._job(entry) if entry.state == "running" else None
        async for look in self._watch(entry, job):
            yield look

    async def _watch(self, entry: MigrationEntry | None, job: _Job | None) -> AsyncGenerator[MigrationProgress]:
        if job is not None:
            while not job.task.done():
                yield MigrationProgress(job.phase, job.stats, job.entry)
                await asyncio.wait((job.task,), timeout=_LOOK_SECONDS)
            await job.task
            entry = job.entry
        if entry is not None:
            yield MigrationProgress(job.phase if job else "preparing", job.stats if job else MigrationStats(), entry)

    async def cancel(self, uuid: str, migration_id: str) -> MigrationEntry:
        """It is over, one way or the other. Raises DomainStateConflict after the switch to post-copy."""
        async with self._lock(migration_id):
            entry = self._entry(migration_id, uuid)
            if entry is None:
                now = self.journal.now()
                never = MigrationEntry(migration_id, uuid, "canceled", "cancelled before it began", now, now, True)
                return self.journal.write(never)
            if entry.state != "running":
                return entry
            job = self._job(entry)
            if job.phase == "post-copy":
                raise DomainStateConflict("the guest runs on the target already, and fetches its memory: no way back")
            job.cancel()
        # At once, and again with every look: the next one may take QEMU seconds, in which the guest would move on.
        with contextlib.suppress(AgentError):
            await migration.abort(self.connection, uuid)
        await asyncio.wait((job.task,), timeout=_CANCEL_SECONDS)
        return job.entry

    async def outcome(self, migration_id: str) -> tuple[MigrationEntry, MigrationStats]:
        """How it ended, or that it runs. Raises MigrationNotFound."""
        async with self._lock(migration_id):
            entry = self.journal.read(migration_id)
            if entry is None:
                raise MigrationNotFound(f"no migration has the id {migration_id}")
            if entry.state != "running":
                return entry, MigrationStats()
            job = self._job(entry)
            return job.entry, job.stats

    def resume(self) -> None:
        """Watches on what an earlier agent began; call it once, at the start."""
        for entry in self.journal.read_running():
            self._job(entry)

    def finish(self, entry: MigrationEntry, state: MigrationState, reason: str) -> MigrationEntry:
        """Keeps the outcome; what libvirt leaves behind of a guest that has gone is removed."""
        if state == "completed" and entry.nvram:
            with contextlib.suppress(OSError):
                remove_file(Path(entry.nvram))
        self._jobs.pop(entry.migration_id, None)
        log.info("migration.ended", migration_id=entry.migration_id, uuid=entry.uuid, state=state, reason=reason)
        return self.journal.write(replace(entry, state=state, reason=reason, ended_at=self.journal.now()))

    async def _begin(self, order: MigrationOrder) -> _Job:
        await self.guests.check_owned(order.uuid)
        description = await self.guests.get(order.uuid)
        if description.power_state not in _MOVABLE:
            raise DomainStateConflict(f"domain {description.name} is {description.power_state.value}: it does not run")
        if any(job.entry.uuid == order.uuid for job in self._jobs.values()):
            raise DomainStateConflict(f"domain {description.name} is being migrated already")
        self.journal.prune()
        entry = MigrationEntry(
            migration_id=order.migration_id,
            uuid=order.uuid,
            state="running",
            started_at=self.journal.now(),
            nvram=await migration.read_nvram(self.connection, order.uuid),
            data_address=order.data_address,
            allow_post_copy=order.allow_post_copy,
            stalled_iterations=order.stalled_iterations,
            most_iterations=order.most_iterations,
            max_downtime_ms=order.max_downtime_ms,
            most_downtime_ms=order.most_downtime_ms,
        )
        return self._job(self.journal.write(entry), order)

    def _job(self, entry: MigrationEntry, order: MigrationOrder | None = None) -> _Job:
        job = self._jobs.get(entry.migration_id)
        if job is None:
            job = self._jobs[entry.migration_id] = _Job(self, entry, order)
        return job

    def _entry(self, migration_id: str, uuid: str) -> MigrationEntry | None:
        entry = self.journal.read(migration_id)
        if entry is not None and entry.uuid != uuid:
            raise RequestInvalid(f"migration_id: {migration_id} belongs to another domain")
        return entry

    def _lock(self, migration_id: str) -> asyncio.Lock:
        return self._locks.setdefault(migration_id, asyncio.Lock())
