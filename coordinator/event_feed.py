"""Events as this process sees them come: one look at the database a second for all who listen to it."""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from coordinator.domain.event import EventFilter
from coordinator.store.database import Database
from coordinator.store.queries.event import has_unnumbered, number_events, read_events, read_last_position
from coordinator.store.tables.event import Event

# What other coordinators wrote is seen after this long at most; what this one wrote, at once.
POLL_SECONDS: Final = 1.0
# Kept for those who listen; who is further behind reads the database.
_RECENT: Final = 256
_PAGE: Final = 100

log = structlog.get_logger(__name__)


class EventFeed:
    """Numbers the events of everybody, and wakes those who wait for them.

    A listener is nothing but a place in the order, which it keeps itself: a slow one is behind, and costs no memory.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()
        self._moved = asyncio.Event()
        self._recent: deque[Event] = deque(maxlen=_RECENT)
        # All up to here has been seen; what lies after `_recent_after` is among the recent ones.
        self.position = 0
        self._recent_after = 0
        self.closed = False
        database.after_events = self.wake

    def wake(self) -> None:
        """Something was committed. Callable from any thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended: nobody listens any more
                self._loop.call_soon_threadsafe(self._woken.set)

    def close(self) -> None:
        """Sends the listeners home."""
        self.closed = True
        self._moved.set()

    async def run(self) -> None:
        """Looks for events until it is cancelled."""
        self._loop = asyncio.get_running_loop()
        self._woken.set()
        is_begun = False
        while True:
            try:
                if is_begun:
                    await self._look()
                else:
                    self.position = self._recent_after = await asyncio.to_thread(self._read_last)
                    is_begun = True
                    # Listeners were here before: what they are behind with is in the database.
                    self._tell()
            except (SQLAlchemyError, TimeoutError) as error:
                log.warning("events.not_read", reason=str(error))
            await self._pause()

    async def read(self, after: int, wanted: EventFilter) -> tuple[Sequence[Event], int]:
        """The next events after that place, some at a time, and the place up to which all have been looked at."""
        if after >= self._recent_after:
            found = [event for event in self._recent if _place(event) > after and wanted.admits(event)][:_PAGE]
            return found, _place(found[-1]) if len(found) == _PAGE else max(after, self.position)
        # What comes while the database is asked is for the next time.
        seen = self.position
        events = await asyncio.to_thread(self._read, after, wanted)
        return events, _place(events[-1]) if len(events) == _PAGE else max(after, seen, *map(_place, events))

    async def wait_beyond(self, position: int, timeout_seconds: float) -> bool:
        """Whether there is more than up to that place; waits for it that long."""
        try:
            async with asyncio.timeout(timeout_seconds):
                while self.position <= position and not self.closed:
                    await self._moved.wait()
        except TimeoutError:
            return False
        return not self.closed

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await self._woken.wait()
        except TimeoutError:
            pass
        self._woken.clear()

    async def _look(self) -> None:
        while True:
            events = await asyncio.to_thread(self._settle)
            for event in events:
                if len(self._recent) == _RECENT:
                    self._recent_after = _place(self._recent[0])
                self._recent.append(event)
                self.position = _place(event)
            if not events:
                return
            self._tell()

    def _tell(self) -> None:
        """Wakes who waits now; who comes later waits for the next time."""
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
        if self.closed:
            self._moved.set()

    def _settle(self) -> Sequence[Event]:
        if not self._database.is_sqlite:
            settle_events(self._database)
        return self._read(self.position, EventFilter())

    def _read(self, after: int, wanted: EventFilter) -> Sequence[Event]:
        with self._database.read() as session:
            return read_events(session, after, wanted, _PAGE)

    def _read_last(self) -> int:
        with self._database.read() as session:
            return read_last_position(session)


def settle_events(database: Database) -> None:
    """All that was committed before has a place in the order afterwards."""
    while True:
        with database.read() as session:
            if not has_unnumbered(session):
                return
        with database.write() as session:
            number_events(session)


def _place(event: Event) -> int:
    return event.position or 0
