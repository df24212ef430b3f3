"""The database's clock: what one coordinator writes down another one compares with the present."""

from datetime import datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import func, select

from coordinator.domain.clock import Clock, utc_now
from coordinator.store.database import Database

# A look that took longer does not tell the time.
_LONGEST_LOOK: Final = timedelta(seconds=0.5)
# Less is how exact a look is.
_LEAST_DIFFERENCE: Final = timedelta(seconds=0.1)

log = structlog.get_logger(__name__)


class DatabaseClock:
    """A clock that goes with PostgreSQL's, however the machine's is set; with SQLite it is the machine's."""

    def __init__(self, database: Database, local: Clock = utc_now) -> None:
        self._database = database
        self._local = local
        self._ahead = timedelta()

    def __call__(self) -> datetime:
        return self._local() + self._ahead

    def adjust(self) -> None:
        """Looks at the database's clock. Raises what the database raises when it is away."""
        if self._database.is_sqlite:
            return
        with self._database.observe() as connection:
            before = self._local()
            there = connection.execute(select(func.clock_timestamp())).scalar_one()
            took = self._local() - before
        ahead = there - before - took / 2
        if took <= _LONGEST_LOOK and abs(ahead - self._ahead) >= _LEAST_DIFFERENCE:
            log.warning("clock.differs", seconds=round(ahead.total_seconds(), 3))
            self._ahead = ahead
