"""When a migration without progress changes its ways."""

import pytest

from agent.hypervisor.convergence import Convergence, Step


def _steps(convergence: Convergence, remaining: list[int]) -> list[Step]:
    return [convergence.observe(number, size) for number, size in enumerate(remaining, start=1)]


def test_rounds_that_leave_less_go_on() -> None:
    assert set(_steps(Convergence(True, 2, 9), [90, 80, 70, 60, 50])) == {Step.GO_ON}


def test_rounds_that_leave_as_much_lead_to_post_copy_where_it_is_allowed() -> None:
    assert _steps(Convergence(True, 2, 9), [90, 80, 80, 85]) == [*[Step.GO_ON] * 3, Step.POST_COPY]
    assert set(_steps(Convergence(False, 2, 9), [90, 80, 80, 85])) == {Step.GO_ON}


@pytest.mark.parametrize(("allowed", "end"), [(False, Step.GIVE_UP), (True, Step.POST_COPY)])
def test_too_many_rounds_are_the_end(allowed: bool, end: Step) -> None:
    convergence = Convergence(allowed, 99, 3)
    assert _steps(convergence, [90, 80, 70, 60]) == [*[Step.GO_ON] * 3, end]
    assert "after 4 rounds" in convergence.complaint


def test_a_long_round_counts_once() -> None:
    convergence = Convergence(True, 1, 9)
    assert [convergence.observe(1, 90) for _ in range(50)] == [Step.GO_ON] * 50
    assert convergence.observe(2, 95) is Step.POST_COPY


def test_guests_with_vgpus_may_pause_longer_before_rounds_count() -> None:
    convergence = Convergence(False, 5, 3, max_downtime_ms=2000, most_downtime_ms=5000)
    looks = [(1, 90), (2, 50), (400, 50), (800, 50), (801, 50), (803, 40), (804, 40)]
    steps = [convergence.observe(*look) for look in looks]
    assert steps == [Step.GO_ON] * 2 + [Step.LONGER_PAUSE] * 2 + [Step.GO_ON] * 2 + [Step.GIVE_UP]
    assert convergence.max_downtime_ms == 5000
    assert "a pause of 5000 ms" in convergence.complaint
    # Of a guest that writes little what is left becomes less by a hair, with every round.
    convergence = Convergence(False, 5, 3, max_downtime_ms=2000, most_downtime_ms=5000)
    assert convergence.observe(1, 90) is Step.GO_ON
    assert convergence.observe(300, 89) is Step.LONGER_PAUSE
