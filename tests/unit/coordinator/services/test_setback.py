"""What fails in a way that nobody foresaw holds up nobody else."""

from datetime import timedelta
from typing import cast

from coordinator.domain.clock import utc_now
from coordinator.runtime import Runtime
from coordinator.services.setback import Setbacks
from coordinator.services.slots import choose


class Clock:
    """The part of a runtime that counts here."""

    at = utc_now()

    def now(self) -> object:
        return self.at


def test_one_that_failed_leaves_its_place_to_others_for_a_minute() -> None:
    clock = Clock()
    setbacks = Setbacks(cast("Runtime", clock))
    waiting = [("broken", "node"), ("well", "node")]

    def chosen() -> list[str]:
        return choose(setbacks.pass_over(waiting), {}, most=1, most_of_node=1)

    assert chosen() == ["broken"]
    with setbacks.noting("broken", "it.failed"):
        raise KeyError("nobody foresaw it")
    assert chosen() == ["well"]
    clock.at += timedelta(minutes=1)
    assert chosen() == ["broken"]
