"""States of nodes and their numbers."""

from coordinator.scheduler.gpu.state import StateTable, state_after
from tests.builders import a_gpu_request

STATE = (64, 262_144, 0, (1000, 1000, 600, 300))


def test_a_share_leaves_the_rest_of_its_gpu() -> None:
    assert state_after(STATE, a_gpu_request(1, 250), 600) == (60, 261_120, 0, (1000, 1000, 350, 300))


def test_a_gang_leaves_nothing_of_its_gpus() -> None:
    assert state_after(STATE, a_gpu_request(2), 1000) == (60, 261_120, 0, (600, 300, 0, 0))


def test_gpus_stay_when_none_is_wanted() -> None:
    assert state_after(STATE, a_gpu_request(0), 1000) == (60, 261_120, 0, (1000, 1000, 600, 300))


def test_gpus_with_equally_much_left_are_one_way() -> None:
    table = StateTable()
    (moves,) = table.moves(a_gpu_request(1, 500), [table.number(STATE)])
    assert [free_milli for free_milli, _ in moves] == [600, 1000]


def test_equal_states_have_one_number() -> None:
    table = StateTable()
    number = table.number(STATE)
    assert table.number((*STATE[:3], (1000, 1000, 600, 300))) == number
    assert table.number((*STATE[:3], (1000, 1000, 600, 200))) != number


def test_a_number_is_never_used_again() -> None:
    table = StateTable()
    number = table.number(STATE)
    table.moves(a_gpu_request(1, 500), [number])
    assert len(table) == 4
    table.clear()
    assert len(table) == 0
    assert table.number(STATE) > number
