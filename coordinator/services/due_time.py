"""What is done at the times of a cron expression: when it is due, and a sweep that does it once.

What was due while no coordinator ran is caught up once, its last time only, unless that is too long ago.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlmodel import Session

from coordinator.domain.cron import CronTimes
from coordinator.runtime import Runtime
from coordinator.services.setback import Setbacks


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
        self._setbacks = Setbacks(runtime)

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
        if not self._setbacks.is_over(due_id):
            return False
        with self._setbacks.noting(due_id, f"{self.noun}.failed"), self._runtime.database.write() as session:
            return self.run_due(session, due_id)
        return False
