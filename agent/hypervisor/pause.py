"""Guests that are held for a moment, and go on whatever happens.

For what no QEMU can keep together: its disks' requests are done and flushed when a guest stands still. That a guest
is to go on is on disk before it is held; whoever held it lets it go, a timer when that takes too long, and the next
start of the agent when this one has died. One that others have paused stays so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from agent.configure.check import check_uuid
from agent.durable_file import is_temporary, remove_file, write_file
from agent.errors import AgentError, DomainForeign, DomainNotFound, DomainStateConflict
from agent.hypervisor.description import PowerState
from agent.hypervisor.guest import Guests

# From the request to hold; a guest notices, but nothing in it gives up.
_LIMIT_SECONDS: Final = 10.0
_RELEASE_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 1.0

log = structlog.get_logger(__name__)


@dataclass
class Pause:
    """A guest that is held."""

    # It had to go on before its time: what was done meanwhile is not of one moment.
    is_broken: bool = False


class Pauses:
    """All guests that are held, or may be."""

    def __init__(self, guests: Guests, directory: Path) -> None:
        self._guests = guests
        self._directory = directory
        self._releases: dict[str, asyncio.Task[None]] = {}
        # Requests to stand still; libvirt carries one out even if nobody waits for it any more.
        self._holds: dict[str, asyncio.Task[object]] = {}

    def resume(self) -> None:
        """Guests that an agent has held when it died go on, beside whatever else is done."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self._directory.iterdir():
            if is_temporary(path):  # the agent died before it held the guest
                path.unlink(missing_ok=True)
                continue
            log.warning("guest.found_held", uuid=path.name)
            self._begin_release(path.name)

    @asynccontextmanager
    async def held(self, uuid: str) -> AsyncIterator[Pause]:
        """The guest, which the caller has locked, runs no instruction meanwhile, and all it wrote has arrived."""
        check_uuid(uuid, "domain_uuid")
        pause = Pause()
        if uuid in self._releases:
            await asyncio.wait([self._releases[uuid]])
        if (await self._guests.get(uuid)).power_state is not PowerState.RUNNING:
            yield pause
            return
        await asyncio.to_thread(write_file, self._directory / uuid, b"")
        timer = asyncio.get_running_loop().call_later(_LIMIT_SECONDS, self._expire, uuid, pause)
        try:
            hold = self._holds[uuid] = asyncio.create_task(self._guests.suspend(uuid), name=f"hold-{uuid}")
            await asyncio.shield(hold)
            yield pause
        finally:
            timer.cancel()
            await asyncio.wait([self._begin_release(uuid)], timeout=_RELEASE_SECONDS)

    async def close(self) -> None:
        """Nothing is being let go of; the next start goes on."""
        for task in self._releases.values():
            task.cancel()

    def _expire(self, uuid: str, pause: Pause) -> None:
        pause.is_broken = True
        log.error("guest.held_too_long", uuid=uuid, seconds=_LIMIT_SECONDS)
        self._begin_release(uuid)

    def _begin_release(self, uuid: str) -> asyncio.Task[None]:
        task = self._releases.get(uuid)
        if task is None:
            task = self._releases[uuid] = asyncio.create_task(self._release(uuid), name=f"release-{uuid}")
            task.add_done_callback(lambda _: self._releases.pop(uuid, None))
        return task

    async def _release(self, uuid: str) -> None:
        if hold := self._holds.pop(uuid, None):
            # Else a guest that is still coming to rest would be taken for one that runs, and then stand still for good.
            await asyncio.gather(hold, return_exceptions=True)
        while True:
            try:
                await self._guests.resume(uuid)
                break
            except (DomainNotFound, DomainForeign, DomainStateConflict):  # it has ended
                break
            except AgentError as error:
                log.warning("guest.not_released", uuid=uuid, reason=error.message)
                await asyncio.sleep(_RETRY_SECONDS)
        await asyncio.to_thread(remove_file, self._directory / uuid)
