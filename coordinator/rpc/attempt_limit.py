"""Slows down who tries secrets: after some failures a source has to wait, and after many everybody has."""

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from coordinator.errors import RequestsTooMany

_WINDOW_SECONDS: Final = 60.0
_PER_SOURCE: Final = 10
_IN_ALL: Final = 200
_MAXIMUM_SOURCES: Final = 10_000


class AttemptLimit:
    """Counts failures of the last minute. Used on one event loop only."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._all: deque[float] = deque()
        self._by_source: dict[str, deque[float]] = {}

    def check(self, source: str) -> None:
        """RequestsTooMany when `source`, or everybody together, failed too often in the last minute."""
        failures = self._by_source.get(source, deque())
        if self._count(failures) >= _PER_SOURCE or self._count(self._all) >= _IN_ALL:
            raise RequestsTooMany("too many failed attempts: wait a minute", "失败次数过多，请一分钟后重试")

    def note_failure(self, source: str) -> None:
        """`source` failed just now."""
        if len(self._by_source) >= _MAXIMUM_SOURCES:
            self._by_source = {name: times for name, times in self._by_source.items() if self._count(times)}
        now = self._clock()
        self._all.append(now)
        self._by_source.setdefault(source, deque()).append(now)

    def _count(self, failures: deque[float]) -> int:
        while failures and failures[0] < self._clock() - _WINDOW_SECONDS:
            failures.popleft()
        return len(failures)
