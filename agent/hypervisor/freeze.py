"""File systems of guests that are frozen for a moment, and thawed whatever happens.

That a guest is to be thawed is on disk before it is frozen. Thawing is a task of its own, which nobody can cancel and
which goes on until the guest agent has said that it is done, or the guest has ended; a timer begins it when whoever
froze the guest takes too long, and the next start of the agent when this one has died.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from agent.configure.check import check_uuid
from agent.durable_file import is_temporary, remove_file, write_file
from agent.errors import AgentError, DomainForeign, DomainNotFound, GuestAgentCommandFailed, GuestAgentUnavailable
from agent.hypervisor.guest_agent import GuestAgents
from agent.hypervisor.snapshot import LiveSnapshots

# A guest with much to write may take that long, and no longer.
_FREEZE_SECONDS: Final = 8.0
_THAW_SECONDS: Final = 5.0
# From the request to freeze; together with an attempt to thaw it is less than half a minute.
_LIMIT_SECONDS: Final = 15.0
_RETRY_SECONDS: Final = 1.0
_LATE_RETRY_SECONDS: Final = 10.0
# What is thawed by then needs no word in the log.
_PATIENCE_SECONDS: Final = 20.0

# Told of what was done to a guest that has none, or only such as FAT.
NOTHING_FROZEN: Final = "the guest has no file system that can be frozen"
# Told of what was done to a guest whose time was over before.
THAWED_TOO_SOON: Final = "the guest had to be thawed too soon"

log = structlog.get_logger(__name__)


@dataclass
class Freeze:
    """A guest that was asked to freeze."""

    # Why it did not, for people; empty: it did.
    reason: str = ""
    # It was thawed before its time was asked for: what was done meanwhile may be torn.
    is_broken: bool = False
    # Its guest agent has said that it cannot.
    is_refused: bool = False


class Freezes:
    """All guests that are frozen, or may be."""

    def __init__(self, guest_agents: GuestAgents, live: LiveSnapshots, directory: Path) -> None:
        self._guest_agents = guest_agents
        self._live = live
        self._directory = directory
        self._thaws: dict[str, asyncio.Task[None]] = {}

    def resume(self) -> None:
        """Guests that an agent has left frozen when it died are thawed, beside whatever else is done."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self._directory.iterdir():
            if is_temporary(path):  # the agent died before it asked the guest
                path.unlink(missing_ok=True)
                continue
            log.warning("guest.found_frozen", uuid=path.name)
            self._begin_thaw(path.name)

    @asynccontextmanager
    async def frozen(self, uuid: str) -> AsyncIterator[Freeze]:
        """The guest's file systems are frozen meanwhile, if its guest agent does that in time.

        At the end it has been asked to thaw; one that does not answer is asked on.
        """
        check_uuid(uuid, "domain_uuid")
        freeze = Freeze()
        if uuid in self._thaws:
            freeze.reason = "the guest is still being thawed"
            yield freeze
            return
        await asyncio.to_thread(write_file, self._directory / uuid, b"")
        timer = asyncio.get_running_loop().call_later(_LIMIT_SECONDS, self._expire, uuid, freeze)
        try:
            try:
                if not await self._guest_agents.freeze(uuid, timeout_seconds=_FREEZE_SECONDS):
                    freeze.reason = NOTHING_FROZEN
            except AgentError as error:
                freeze.reason = error.message
                freeze.is_refused = isinstance(error, GuestAgentCommandFailed)
            yield freeze
        finally:
            timer.cancel()
            if self._guest_agents.is_held(uuid):
                await asyncio.wait([self._begin_thaw(uuid, is_refused=freeze.is_refused)], timeout=_THAW_SECONDS)
            elif uuid not in self._thaws:
                remove_file(self._directory / uuid)

    async def close(self) -> None:
        """Nothing is being thawed; the next start goes on."""
        for task in self._thaws.values():
            task.cancel()

    def _expire(self, uuid: str, freeze: Freeze) -> None:
        freeze.is_broken = True
        log.error("guest.frozen_too_long", uuid=uuid, seconds=_LIMIT_SECONDS)
        self._begin_thaw(uuid)

    def _begin_thaw(self, uuid: str, *, is_refused: bool = False) -> asyncio.Task[None]:
        task = self._thaws.get(uuid)
        if task is None:
            task = self._thaws[uuid] = asyncio.create_task(self._thaw(uuid, is_refused), name=f"thaw-{uuid}")
            task.add_done_callback(lambda _: self._thaws.pop(uuid, None))
        return task

    async def _thaw(self, uuid: str, is_refused: bool) -> None:
        began = time.monotonic()
        complained = False
        try:
            while not await self._is_thawed(uuid, is_refused):
                if not complained and time.monotonic() - began > _PATIENCE_SECONDS:
                    complained = True
                    log.error("guest.not_thawed", uuid=uuid, seconds=_PATIENCE_SECONDS)
                await asyncio.sleep(_LATE_RETRY_SECONDS if complained else _RETRY_SECONDS)
            await asyncio.to_thread(remove_file, self._directory / uuid)
        finally:
            self._guest_agents.release(uuid)

    async def _is_thawed(self, uuid: str, is_refused: bool) -> bool:
        """Whether it is, after it was asked once."""
        try:
            # What is not frozen says so, and is left as it is.
            await self._guest_agents.thaw(uuid, timeout_seconds=_THAW_SECONDS)
        except (DomainNotFound, DomainForeign):
            return True
        except GuestAgentUnavailable:
            # In a guest that has ended nothing is frozen. A paused one hears it when it goes on.
            return not await self._is_active(uuid)
        except AgentError as error:
            log.warning("guest.thaw_failed", uuid=uuid, reason=error.message)
            return is_refused and isinstance(error, GuestAgentCommandFailed)
        return True

    async def _is_active(self, uuid: str) -> bool:
        try:
            return await self._live.is_active(uuid)
        except (DomainNotFound, DomainForeign):
            return False
        except AgentError:
            return True
