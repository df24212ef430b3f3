"""When a migration that makes no progress changes its ways: by rounds over the memory, never by time.

A slow network makes rounds long and is no reason to give up; a guest that writes faster than it can be moved makes
rounds that leave as much as the ones before.

What vGPUs hold is not in the figures, and is moved at the end: while QEMU expects that to take longer than the guest
may be paused, it begins a round after the other, hundreds in a second, and leaves nothing in any. So each look at such
rounds allows twice the pause, up to the most that there may be, and only then do they count.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Step(Enum):
    """What to do now."""

    GO_ON = auto()
    LONGER_PAUSE = auto()
    POST_COPY = auto()
    GIVE_UP = auto()


@dataclass
class Convergence:
    """Watches the rounds of one migration."""

    allow_post_copy: bool
    stalled_iterations: int
    most_iterations: int
    # 0: as QEMU has it.
    max_downtime_ms: int = 0
    # 0: the pause stays as long.
    most_downtime_ms: int = 0
    _iteration: int = 0
    _counted_from: int = 0
    _least_remaining_bytes: int | None = None
    _stalled: int = 0

    def observe(self, iteration: int, remaining_bytes: int) -> Step:
        """Call it at each look; only the start of a round counts."""
        if iteration <= self._iteration:
            return Step.GO_ON
        self._iteration = iteration
        if self._least_remaining_bytes is None or remaining_bytes < self._least_remaining_bytes:
            self._least_remaining_bytes = remaining_bytes
            self._stalled = 0
        else:
            self._stalled += 1
        is_over = iteration - self._counted_from > self.most_iterations
        if (is_over or self._stalled) and self.max_downtime_ms < self.most_downtime_ms:
            self.max_downtime_ms = min(2 * self.max_downtime_ms, self.most_downtime_ms)
            self._counted_from = iteration
            return Step.LONGER_PAUSE
        if self.allow_post_copy and (is_over or self._stalled >= self.stalled_iterations):
            return Step.POST_COPY
        return Step.GIVE_UP if is_over else Step.GO_ON

    @property
    def complaint(self) -> str:
        """Why the migration is given up."""
        told = f"the guest writes memory faster than it can be moved: no end after {self._iteration} rounds"
        if not self.most_downtime_ms:
            return told
        return f"{told}, or what its vGPUs hold takes longer than a pause of {self.most_downtime_ms} ms"
