"""Rebooting a guest once for each operation, whatever breaks in between.

A reboot is a stop and a start: each can be proved, and a new definition counts from then on. Its phase is on disk
before the agent acts, so after a crash the same call goes on where it was:

    stopping   the guest has not been started again: still running means still to be stopped
    starting   the guest was off: starting it is all that is left
    done, failed   the outcome, which the same call answers again
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, Literal
from weakref import WeakValueDictionary

from agent.domain_lock import DomainLocks
from agent.durable_file import remove_file, write_file
from agent.errors import DomainStateConflict, DomainStopTimeout, RequestInvalid
from agent.hypervisor.guest import Guests
from agent.hypervisor.stop import OFF_STATES, StopProgress, Stops

_OPERATION_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
# Longer than any coordinator repeats a call.
_KEPT_SECONDS: Final = 7 * 24 * 3600.0

Phase = Literal["stopping", "starting", "done", "failed"]


@dataclass(frozen=True)
class _Entry:
    uuid: str
    phase: Phase
    message: str = ""


class Reboots:
    """Reboots guests, and remembers which operations are done."""

    def __init__(
        self,
        guests: Guests,
        stops: Stops,
        journal: Path,
        *,
        check_startable: Callable[[str], Awaitable[None]],
        locks: DomainLocks,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`check_startable` raises when a guest must not be started; the same call starts it when that is over.

        `locks`: of all who change domains. What `check_startable` has seen of a guest must be so when it is started.
        """
        self._guests = guests
        self._stops = stops
        self._journal = journal
        self._check_startable = check_startable
        self._domain_locks = locks
        self._now = now
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def reboot(
        self, uuid: str, operation_id: str, *, force: bool, grace_seconds: float
    ) -> AsyncGenerator[StopProgress]:
        """The guest was rebooted once for this operation; a repeated call answers its outcome.

        Raises DomainStopTimeout (kept as the outcome), DomainStateConflict when the guest is off or paused.
        """
        path = self._path(operation_id)
        async with self._locks.setdefault(operation_id, asyncio.Lock()):
            entry = self._read(path) or await self._begin(path, uuid)
            if entry.uuid != uuid:
                raise RequestInvalid(f"operation_id: {operation_id} belongs to another domain")
            if entry.phase == "failed":
                raise DomainStopTimeout(entry.message)
            if entry.phase == "stopping":
                stop = self._stop(path, entry, force=force, grace_seconds=grace_seconds)
                async with aclosing(stop) as steps:
                    async for progress in steps:
                        yield progress
                entry = self._write(path, replace(entry, phase="starting"))
            if entry.phase == "starting":
                async with self._domain_locks.of(uuid):
                    await self._check_startable(uuid)
                    await self._guests.start(uuid)
                self._write(path, replace(entry, phase="done"))

    async def _begin(self, path: Path, uuid: str) -> _Entry:
        await self._guests.check_owned(uuid)
        description = await self._guests.get(uuid)
        if description.power_state in OFF_STATES:
            raise DomainStateConflict(f"domain {description.name} is off, so it cannot be rebooted")
        self._prune()
        return self._write(path, _Entry(uuid, "stopping"))

    async def _stop(
        self, path: Path, entry: _Entry, *, force: bool, grace_seconds: float
    ) -> AsyncGenerator[StopProgress]:
        stop = self._stops.force(entry.uuid) if force else self._stops.ask(entry.uuid, grace_seconds=grace_seconds)
        try:
            async with aclosing(stop) as steps:
                async for progress in steps:
                    yield progress
        except DomainStopTimeout as error:
            self._write(path, replace(entry, phase="failed", message=error.message))
            raise
        except DomainStateConflict:
            # Nothing was done to the guest: the same operation may be tried again when it can answer.
            remove_file(path)
            raise

    def _path(self, operation_id: str) -> Path:
        if not _OPERATION_ID.fullmatch(operation_id):
            raise RequestInvalid("operation_id: letters, digits, '_' and '-', at most 64")
        return self._journal / f"reboot-{operation_id}.json"

    def _read(self, path: Path) -> _Entry | None:
        try:
            return _Entry(**json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None

    def _write(self, path: Path, entry: _Entry) -> _Entry:
        self._journal.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_file(path, json.dumps(asdict(entry)).encode())
        return entry

    def _prune(self) -> None:
        for path in self._journal.glob("reboot-*.json"):
            if path.stat().st_mtime < self._now() - _KEPT_SECONDS:
                path.unlink(missing_ok=True)
