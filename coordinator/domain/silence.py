"""For how long a node was silent, by a clock that somebody may turn."""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

from coordinator.domain.clock import Clock

# Clocks that are corrected are slowed down or sped up, the monotonic one with them: what differs by more was turned.
_TURNED_SECONDS: Final = 1.0


class SilenceClock:
    """Counts no more silence than this process has lived through since its start, or since the clock was turned.

    A clock that is put forward would otherwise make every node look silent for long enough to be given up.
    """

    def __init__(self, now: Clock, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._monotonic = monotonic
        self._since = monotonic()
        self._offset = now().timestamp() - self._since

    def measure_seconds(self, heard_at: datetime) -> float:
        """Seconds since then, or fewer; never more."""
        moment, wall = self._monotonic(), self._now().timestamp()
        if abs(wall - moment - self._offset) > _TURNED_SECONDS:
            self._since, self._offset = moment, wall - moment
        return min(wall - heard_at.timestamp(), moment - self._since)
