"""Values that may be remembered for a short while."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class ExpiringCache(Generic[Value]):
    """Forgets each value after `life_seconds`, and everything when it is full. Safe to use from any thread."""

    def __init__(
        self, life_seconds: float, maximum_size: int = 10_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._life_seconds = life_seconds
        self._maximum_size = maximum_size
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[str, tuple[float, Value]] = {}

    def get(self, key: str) -> Value | None:
        """The value that was put under `key`, unless it is too old."""
        entry = self._entries.get(key)
        if entry is None or entry[0] < self._clock():
            return None
        return entry[1]

    def put(self, key: str, value: Value) -> None:
        """Remembers `value` from now on."""
        with self._lock:
            if len(self._entries) >= self._maximum_size:
                self._entries.clear()
            self._entries[key] = (self._clock() + self._life_seconds, value)

    def forget_all(self) -> None:
        """Remembers nothing any more."""
        with self._lock:
            self._entries.clear()
