"""A bound on work that waits for others, so that one caller cannot take all threads."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from coordinator.errors import RequestsTooMany


class ConcurrencyLimit:
    """At most `per_key` things at once for one key, and `total` for all. Used from any thread."""

    def __init__(self, *, per_key: int, total: int) -> None:
        self._per_key = per_key
        self._total = total
        self._running: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def hold(self, key: str) -> Iterator[None]:
        """A place for the time of the block; RequestsTooMany when there is none: nobody waits for one."""
        with self._lock:
            if self._running[key] >= self._per_key or self._running.total() >= self._total:
                raise RequestsTooMany(
                    "too many such requests are under way; try again soon", "同类请求过多，请稍后重试"
                )
            self._running[key] += 1
        try:
            yield
        finally:
            with self._lock:
                self._running[key] -= 1
                if not self._running[key]:
                    del self._running[key]
