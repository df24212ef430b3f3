"""What is done at the times of a cron expression: when it is due, and a sweep that does it once.

What was due while no coordinator ran is caught up once, its last time only, unless that is too long ago.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog
from sqlmodel import Session

from coordinator.domain.cron import CronTimes
from coordinator.runtime import Runtime

_FAILURE_PAUSE: Final = timedelta(minutes=1)

log = structlog.get_logger(__name__)


def next_due(times: CronTimes, after: datetime, expires_at: datetime | None) -> datetime | None:
    """When it is due first after that moment; None when it is over by then."""
    found = times.next_after(after)
    return found if found and (expires_at is None or found <= expires_at) else None


def last_due(
    times: CronTimes, next_at: datetime, now: datetime, catch_up: timedelta, expires_at: datetime | None = None
) -> datetime | None:
    """The last of the times since `next_at` that is to be run now; None when all of them are too long ago."""
    earliest = now - catch_up
    first = next_at if next_at >= earliest else times.next_after(earliest)
    return times.last_between(first, min(now, expires_at or now)) if first else None


class DueSweep(ABC):
    """The repeated look at what is due; of several coordinators one does it. What fails holds up nobody else."""

    # What the log calls it.
    noun = ""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        # When one that failed in a way that nobody foresaw is tried again.
        self._not_before: dict[str, datetime] = {}

    @abstractmethod
    def find_due(self, session: Session, now: datetime) -> Sequence[str]:
        """Ids of those that are due, who waits longest first."""

    @abstractmethod
    def run_due(self, session: Session, due_id: str) -> bool:
        """Does it if it is due still, and moves it on to its next time; False when it is not due any more."""

    def __call__(self) -> list[str]:
        """Does what is due; answers the ids of those that were handled."""
        database = self._runtime.database
        if not database.lead():
            return []
        with database.read() as session:
            due = self.find_due(session, self._runtime.now())
        handled = [due_id for due_id in due if self._handle(due_id)]
        if handled:
            self._runtime.wake_tasks()
        return handled

    def _handle(self, due_id: str) -> bool:
        now = self._runtime.now()
        if self._not_before.get(due_id, now) > now:
            return False
        try:
            with self._runtime.database.write() as session:
                handled = self.run_due(session, due_id)
        except Exception:
            # Others shall not wait for it, nor the log be full of it.
            log.exception(f"{self.noun}.failed", dueId=due_id)
            self._not_before[due_id] = now + _FAILURE_PAUSE
            return False
        self._not_before.pop(due_id, None)
        return handled
