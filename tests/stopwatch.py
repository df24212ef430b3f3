"""Durations that a test may set a limit to."""

import threading
import time
from types import TracebackType
from typing import Final, Self

_TICK_SECONDS: Final = 0.01


class Stopwatch:
    """How long a block takes, less what this machine stood still meanwhile.

    A thread counts pauses of 10 ms: one that took longer counts as 20 ms, for nothing else could go on either.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._count, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def _count(self) -> None:
        before = time.monotonic()
        while not self._stopped.wait(_TICK_SECONDS):
            now = time.monotonic()
            self.seconds += min(now - before, 2 * _TICK_SECONDS)
            before = now
