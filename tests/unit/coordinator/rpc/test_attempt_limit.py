"""Who guesses has to wait."""

import pytest

from coordinator.errors import RequestsTooMany
from coordinator.rpc.attempt_limit import AttemptLimit


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_source_that_failed_often_waits_a_minute_and_others_do_not() -> None:
    clock = Clock()
    limit = AttemptLimit(clock)
    for _ in range(10):
        limit.check("a")
        limit.note_failure("a")
    with pytest.raises(RequestsTooMany):
        limit.check("a")
    limit.check("b")
    clock.seconds = 60.1
    limit.check("a")


def test_many_sources_together_are_held_back_too() -> None:
    limit = AttemptLimit(Clock())
    for number in range(200):
        limit.note_failure(f"source-{number}")
    with pytest.raises(RequestsTooMany):
        limit.check("an-honest-one")
