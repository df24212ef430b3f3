"""Volumes that leave for another node: each is sent once for its transfer id, whoever listens.

What is sent has no writer and stays as it is, so that sending may begin anew at any time: the journal keeps how a
transfer ended, or that it never shall begin, and knows nothing of one that was interrupted with the agent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal
from weakref import WeakValueDictionary

import structlog

from agent.errors import AgentError, RequestInvalid, StorageFailed
from agent.outcome import OutcomeJournal
from agent.storage.checksum import compute_sha256
from agent.storage.moving import Content, Movable, Opened, Outgoing
from agent.storage.nbd import Export, Program, start_copy

_LOOK_SECONDS: Final = 0.5
_CANCEL_SECONDS: Final = 30.0
# So long without a byte is no slow network or disk but none.
_SILENT_SECONDS: Final = 120.0

SendState = Literal["running", "sent", "failed", "canceled"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class SendOrder:
    """What is sent where."""

    uuid: str
    transfer_id: str
    export: Export
    # 0: all of the network.
    bandwidth_mib_per_second: int = 0
    content: Content = "volume"


@dataclass(frozen=True)
class SendEntry:
    """One transfer, and how it ended."""

    transfer_id: str
    uuid: str
    state: SendState = "running"
    reason: str = ""
    # Of the file that was sent.
    sha256: str = ""
    # Seconds since 1970.
    started_at: float = 0.0
    ended_at: float = 0.0


@dataclass(frozen=True)
class SendProgress:
    """A look at a transfer; the last one has its end."""

    done_bytes: int
    total_bytes: int
    entry: SendEntry


class _Job:
    """One transfer that runs."""

    def __init__(
        self,
        order: SendOrder,
        opened: Opened,
        entry: SendEntry,
        finish: Callable[[SendEntry], SendEntry],
    ) -> None:
        self.entry = entry
        self.total_bytes = opened.allocated_bytes
        self.done_bytes = 0
        self._order = order
        self._opened = opened
        self._finish = finish
        self._is_cancelled = False
        self._moved_bytes = -1
        self._moved_at = time.monotonic()
        self._work = asyncio.create_task(self._send(), name=f"send-{entry.transfer_id}")
        self.task = asyncio.create_task(self._run(), name=f"transfer-{entry.transfer_id}")

    def cancel(self) -> None:
        """It is given up."""
        self._is_cancelled = True
        self._work.cancel()

    async def _run(self) -> None:
        try:
            sha256 = await self._work
        except asyncio.CancelledError:
            if not self._is_cancelled:  # the agent ends: nothing is kept
                raise
            self.entry = self._finish(replace(self.entry, state="canceled", reason="cancelled before its end"))
        except (AgentError, OSError) as error:
            self.entry = self._finish(replace(self.entry, state="failed", reason=str(error)))
        else:
            self.done_bytes = self.total_bytes
            self.entry = self._finish(replace(self.entry, state="sent", sha256=sha256))

    async def _send(self) -> str:
        """The checksum of what the target has."""
        # A writer that comes between the two readings makes checksums differ, and is found out by the target.
        checksum = asyncio.create_task(compute_sha256(self._opened.path, self._opened.file_bytes))
        try:
            await self._copy()
            return await checksum
        finally:
            checksum.cancel()

    async def _copy(self) -> None:
        program = await start_copy(
            self._opened.path, self._order.export, bandwidth_mib_per_second=self._order.bandwidth_mib_per_second
        )
        try:
            ending = asyncio.create_task(program.wait())
            while not ending.done():
                await asyncio.wait((ending,), timeout=_LOOK_SECONDS)
                self._look(program)
            if complaint := await ending:
                raise StorageFailed(complaint)
        finally:
            await program.end()

    def _look(self, program: Program) -> None:
        moved_bytes = program.moved_bytes
        if moved_bytes != self._moved_bytes:
            self._moved_bytes, self._moved_at = moved_bytes, time.monotonic()
            self.done_bytes = max(self.done_bytes, min(moved_bytes, self.total_bytes))
        elif time.monotonic() - self._moved_at > _SILENT_SECONDS:
            raise StorageFailed(f"not a byte has come through for {_SILENT_SECONDS:g} s: is the network cut?")


class Sends:
    """All volumes that leave this node."""

    def __init__(self, movables: Mapping[Content, Movable], directory: Path) -> None:
        self._movables = movables
        self.journal = OutcomeJournal(directory, "transfer", SendEntry)
        self._jobs: dict[str, _Job] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def inspect(self, content: Content, uuid: str) -> Outgoing:
        """What a target has to know. Raises what `Movable.inspect` does."""
        return await self._movables[content].inspect(uuid)

    async def send(self, order: SendOrder) -> AsyncGenerator[SendProgress]:
        """The volume is sent once for this id; a repeated call follows the same job, or answers its outcome.

        Who stops listening ends nothing. Raises VolumeNotFound, VolumeInUse.
        """
        async with self._lock(order.transfer_id):
            entry = self._entry(order.transfer_id, order.uuid)
            job = await self._begin(order) if entry is None else self._jobs.get(order.transfer_id)
        if job is not None:
            while not job.task.done():
                yield SendProgress(job.done_bytes, job.total_bytes, job.entry)
                await asyncio.wait((job.task,), timeout=_LOOK_SECONDS)
            await job.task
            entry = job.entry
        if entry is not None:
            yield SendProgress(job.done_bytes if job else 0, job.total_bytes if job else 0, entry)

    async def cancel(self, uuid: str, transfer_id: str) -> SendEntry:
        """It is over, one way or the other."""
        async with self._lock(transfer_id):
            entry = self._entry(transfer_id, uuid)
            if entry is None:
                now = self.journal.now()
                never = SendEntry(transfer_id, uuid, "canceled", "cancelled before it began", "", now, now)
                return self.journal.keep(transfer_id, never)
            job = self._jobs.get(transfer_id)
            if job is None:
                return entry
            job.cancel()
        await asyncio.wait((job.task,), timeout=_CANCEL_SECONDS)
        return job.entry

    async def close(self) -> None:
        """No transfer runs; those that did may begin anew."""
        jobs = list(self._jobs.values())
        for job in jobs:
            job.task.cancel()
        if jobs:
            await asyncio.wait([job.task for job in jobs])

    async def _begin(self, order: SendOrder) -> _Job:
        opened = await self._movables[order.content].open_source(order.uuid)
        self.journal.prune()
        entry = SendEntry(order.transfer_id, order.uuid, started_at=self.journal.now())
        job = self._jobs[order.transfer_id] = _Job(order, opened, entry, self._finish)
        job.task.add_done_callback(lambda _: self._jobs.pop(order.transfer_id, None))
        return job

    def _finish(self, entry: SendEntry) -> SendEntry:
        log.info("volume.send_ended", transfer_id=entry.transfer_id, uuid=entry.uuid, state=entry.state)
        return self.journal.keep(entry.transfer_id, replace(entry, ended_at=self.journal.now()))

    def _entry(self, transfer_id: str, uuid: str) -> SendEntry | None:
        """What is known of the transfer. Raises RequestInvalid when it is another volume's."""
        job = self._jobs.get(transfer_id)
        entry = job.entry if job else self.journal.read(transfer_id)
        if entry is not None and entry.uuid != uuid:
            raise RequestInvalid(f"transfer_id: {transfer_id} belongs to another volume")
        return entry

    def _lock(self, transfer_id: str) -> asyncio.Lock:
        return self._locks.setdefault(transfer_id, asyncio.Lock())
