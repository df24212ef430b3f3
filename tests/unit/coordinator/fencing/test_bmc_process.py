"""How a controller is asked until its node is off, whatever it answers in between."""

import pytest

from coordinator.fencing.bmc_process import describe, ensure_off
from coordinator.fencing.ipmi_address import split_host


class Board:
    """A controller that follows a script: what it says about the power each time, or what it fails with."""

    def __init__(self, *script: bool | Exception) -> None:
        self.script = list(script)
        self.switched: list[float] = []
        self.connected = 0
        self.now = 0.0

    def connect(self) -> "Board":
        self.connected += 1
        return self

    def is_off(self) -> bool:
        answer = self.script.pop(0) if self.script else False
        if isinstance(answer, Exception):
            raise answer
        return answer

    def switch_off(self) -> None:
        self.switched.append(self.now)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def ensure_off(self, seconds: float = 30) -> str:
        return ensure_off(self.connect, clock=lambda: self.now, sleep=self.sleep, seconds=seconds)


def test_a_node_that_is_off_is_not_switched() -> None:
    board = Board(True)
    assert (board.ensure_off(), board.switched) == ("", [])


def test_it_is_asked_until_the_power_is_off() -> None:
    board = Board(False, False, False, True)
    assert (board.ensure_off(), board.switched, board.now) == ("", [0.0], 3.0)


def test_a_controller_that_forgets_is_told_again() -> None:
    board = Board(*[False] * 12, True)
    assert (board.ensure_off(), board.switched) == ("", [0.0, 10.0])


def test_a_failure_in_between_is_no_end() -> None:
    board = Board(False, ConnectionError("reset by peer"), True)
    assert (board.ensure_off(), board.connected) == ("", 2)


def test_what_went_wrong_last_is_told() -> None:
    board = Board(*[ConnectionError("no route")] * 40)
    assert board.ensure_off() == "ConnectionError: no route"
    assert "still says that the power is on" in Board().ensure_off()


def test_an_error_without_words_is_told_by_its_class() -> None:
    assert describe(TimeoutError()) == "TimeoutError"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("bmc-1", ("bmc-1", 623)),
        ("198.51.100.7", ("198.51.100.7", 623)),
        ("198.51.100.7:6230", ("198.51.100.7", 6230)),
        ("2001:db8::7", ("2001:db8::7", 623)),
        ("[2001:db8::7]", ("2001:db8::7", 623)),
        ("[2001:db8::7]:6230", ("2001:db8::7", 6230)),
    ],
)
def test_addresses_of_ipmi_have_a_port_or_none(address: str, expected: tuple[str, int]) -> None:
    assert split_host(address) == expected
