"""Who did what: kept in memory for a moment, then stored in batches, so that no call waits for it or fails of it."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

from coordinator.store.database import Database
from coordinator.store.queries.audit import store_records
from coordinator.store.tables.event import AuditRecord

# What a crash can lose.
FLUSH_SECONDS: Final = 0.5
_BATCH: Final = 500
# While the database is away, this many wait for it.
_MAXIMUM_WAITING: Final = 10_000
# Of calls with unknown credentials, each second: strangers shall not fill the database.
_STRANGERS_A_SECOND: Final = 10

log = structlog.get_logger(__name__)


class AuditLog:
    """Collects the calls of this process. Safe to use from any thread."""

    def __init__(self, database: Database, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._monotonic = monotonic
        self._waiting: deque[AuditRecord] = deque()
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._second = 0
        self._strangers = 0

    def record(self, record: AuditRecord) -> None:
        """Notes a call. Never raises; what cannot be kept is told to the log instead."""
        with self._lock:
            is_kept = len(self._waiting) < _MAXIMUM_WAITING and (bool(record.caller_id) or self._admit_stranger())
            if is_kept:
                self._waiting.append(record)
        if not is_kept:
            log.warning("audit.dropped", requestId=record.request_id, operation=record.operation, code=record.code)

    async def run(self) -> None:
        """Stores what was noted, until it is cancelled."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            try:
                await asyncio.to_thread(self.flush)
            except Exception:
                log.exception("audit.not_stored", waiting=len(self._waiting))

    def flush(self) -> None:
        """Stores all that has been noted; what cannot be stored is kept for the next time."""
        with self._flushing:
            while batch := self._take():
                try:
                    with self._database.write() as session:
                        store_records(session, batch)
                except BaseException:
                    with self._lock:
                        # Copies: those were the failed session's.
                        self._waiting.extendleft(AuditRecord(**row.model_dump()) for row in reversed(batch))
                    raise

    def _take(self) -> list[AuditRecord]:
        with self._lock:
            return [self._waiting.popleft() for _ in range(min(len(self._waiting), _BATCH))]

    def _admit_stranger(self) -> bool:
        second = int(self._monotonic())
        if second != self._second:
            self._second, self._strangers = second, 0
        self._strangers += 1
        return self._strangers <= _STRANGERS_A_SECOND
