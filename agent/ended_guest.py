"""Which guests have ended by themselves or because somebody wanted it, and not in a power failure.

libvirt forgets with each boot how a guest ended. The coordinator hears of each end, but may be away just then, and go
down with the node: so each end is kept here, an empty file by the guest's UUID, until the guest is started again.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import structlog

from agent.durable_file import remove_file, write_file
from agent.errors import AgentError
from agent.hypervisor.description import GuestDescription, PowerState
from agent.hypervisor.events import DomainChange, DomainEvents
from agent.hypervisor.guest import Guests

_RETRY_SECONDS: Final = 15.0
_CHANGES: Final = frozenset(("started", "resumed", "shutdown", "stopped", "crashed", "undefined"))
# A guest that has already asked for the end of its machine wants to be off, too.
_ENDS: Final = frozenset((PowerState.SHUTTING_DOWN, PowerState.SHUTOFF, PowerState.CRASHED))
# libvirt does not know how such a guest ended, or could not start it, or has lost it: nobody wanted that.
_UNWANTED_REASONS: Final = frozenset(("unknown", "failed", "daemon"))

log = structlog.get_logger(__name__)


class EndRecord:
    """The files of one node. Blocking: call it from threads."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def add(self, uuid: str) -> None:
        """The guest has ended, which is kept over a power failure. Raises OSError."""
        path = self._directory / uuid
        if not path.exists():
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_file(path, b"")

    def discard(self, uuid: str) -> None:
        """The guest runs, is about to, or is gone for good. Raises OSError."""
        path = self._directory / uuid
        if path.exists():
            remove_file(path)

    def list(self) -> list[str]:
        """UUIDs of guests that have ended and were not started since."""
        return sorted(path.name for path in self._directory.glob("????????-*"))


class EndWatch:
    """Keeps the record while the agent runs."""

    def __init__(self, record: EndRecord, guests: Guests, events: DomainEvents) -> None:
        self._record = record
        self._guests = guests
        self._events = events

    async def run(self) -> None:
        """Notes what happens, and everything after changes were lost, until it is cancelled."""
        async with self._events.subscribe() as changes:
            is_behind = True
            while True:
                try:
                    if is_behind:
                        await self._note_all()
                        is_behind = False
                    change = await changes.get()
                    is_behind = change.is_resync
                    await self._note_change(change)
                except (AgentError, OSError) as error:
                    log.warning("guest.end_not_recorded", reason=str(error))
                    is_behind = True
                    await asyncio.sleep(_RETRY_SECONDS)

    async def _note_all(self) -> None:
        for guest in await self._guests.list():
            await asyncio.to_thread(self._note, guest)

    async def _note_change(self, change: DomainChange) -> None:
        if change.kind not in _CHANGES:
            return
        guest = await self._guests.find(change.uuid)
        if guest is None:
            await asyncio.to_thread(self._record.discard, change.uuid)
        else:
            await asyncio.to_thread(self._note, guest)

    def _note(self, guest: GuestDescription) -> None:
        if guest.power_state not in _ENDS:
            self._record.discard(guest.uuid)
        elif not guest.foreign and guest.power_state_reason not in _UNWANTED_REASONS:
            self._record.add(guest.uuid)
