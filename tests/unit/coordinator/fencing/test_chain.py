"""When fences confirm and when not; what a turned clock does to them."""

from datetime import UTC, datetime, timedelta

import pytest

from coordinator.domain.fence import BmcKind, FenceKind
from coordinator.domain.message import Message
from coordinator.domain.silence import SilenceClock
from coordinator.fencing.bmc import BmcFence
from coordinator.fencing.chain import Fences, make_fences
from coordinator.fencing.model import BmcAccess, FenceResult, FenceSubject
from coordinator.fencing.self_fence import SelfFence

EPOCH = datetime(2026, 3, 14, 9, 0, tzinfo=UTC)


class Clocks:
    """The wall's and the process's, which has lived for an hour."""

    def __init__(self) -> None:
        self.wall = EPOCH
        self.uptime = 0.0
        self.silence = SilenceClock(self.now, lambda: self.uptime)
        self.pass_seconds(3600)

    def now(self) -> datetime:
        return self.wall

    def pass_seconds(self, seconds: float) -> None:
        self.turn(seconds)
        self.uptime += seconds

    def turn(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def a_subject(clocks: Clocks, silent_seconds: float = 0.0, **changes: object) -> FenceSubject:
    values: dict[str, object] = {
        "node_id": "node-a",
        "name": "host-a",
        "heard_at": clocks.wall - timedelta(seconds=silent_seconds),
        "self_fence": True,
        "tolerance_seconds": 30,
    }
    return FenceSubject(**{**values, **changes})  # type: ignore[arg-type]


class Fixed:
    """A fence that always answers the same."""

    def __init__(self, kind: FenceKind, confirmed: bool) -> None:
        self.kind = kind
        self.confirmed = confirmed
        self.asked = 0

    def confirm(self, node: FenceSubject) -> FenceResult:
        self.asked += 1
        return FenceResult(self.kind, self.confirmed, Message(f"{self.kind} of {node.name}", "…"), EPOCH)


@pytest.mark.parametrize(("silent_seconds", "confirmed"), [(0, False), (30, False), (30.1, True)])
def test_a_watchdog_is_done_when_the_node_was_silent_for_longer_than_it_may(
    clocks: Clocks, silent_seconds: float, confirmed: bool
) -> None:
    result = SelfFence(clocks.now, clocks.silence).confirm(a_subject(clocks, silent_seconds))
    assert (result.kind, result.confirmed, result.at) == ("self", confirmed, clocks.wall)


def test_a_node_that_did_not_say_that_its_watchdog_runs_is_never_confirmed(clocks: Clocks) -> None:
    fence = SelfFence(clocks.now, clocks.silence)
    assert "watchdog" in fence.confirm(a_subject(clocks, 3000, self_fence=False)).reason.en
    assert not fence.confirm(a_subject(clocks, 3000, self_fence=False)).confirmed
    assert not fence.confirm(a_subject(clocks, heard_at=None)).confirmed


@pytest.mark.parametrize("turned_seconds", [-3000.0, 5.0, 3000.0, 1e8])
def test_a_clock_that_is_turned_makes_no_node_silent(clocks: Clocks, turned_seconds: float) -> None:
    subject = a_subject(clocks)
    fence = SelfFence(clocks.now, clocks.silence)
    clocks.pass_seconds(28)
    clocks.turn(turned_seconds)
    assert not fence.confirm(subject).confirmed
    clocks.pass_seconds(30)
    assert not fence.confirm(subject).confirmed
    clocks.pass_seconds(1 if turned_seconds > 0 else 1 - turned_seconds)
    assert fence.confirm(subject).confirmed


def test_a_coordinator_that_has_just_started_waits_for_the_whole_tolerance(clocks: Clocks) -> None:
    subject = a_subject(clocks, silent_seconds=3000)
    fence = SelfFence(clocks.now, SilenceClock(clocks.now, lambda: clocks.uptime))
    clocks.pass_seconds(30)
    assert not fence.confirm(subject).confirmed
    clocks.pass_seconds(1)
    assert fence.confirm(subject).confirmed


def test_the_first_fence_that_confirms_is_enough(clocks: Clocks) -> None:
    fences = [Fixed(FenceKind.SELF, False), Fixed(FenceKind.REDFISH, True), Fixed(FenceKind.IPMI, True)]
    outcome = Fences(fences, clocks.silence).confirm(a_subject(clocks, 31))
    assert (outcome.confirmed, outcome.reason.en) == (True, "redfish of host-a")
    assert [fence.asked for fence in fences] == [1, 1, 0]
    assert [result.kind for result in outcome.results] == ["self", "redfish"]


def test_without_a_confirmation_every_reason_is_told(clocks: Clocks) -> None:
    fences = [Fixed(FenceKind.SELF, False), Fixed(FenceKind.IPMI, False)]
    outcome = Fences(fences, clocks.silence).confirm(a_subject(clocks, 31))
    assert (outcome.confirmed, outcome.reason.en) == (False, "self: self of host-a; ipmi: ipmi of host-a")
    assert not Fences([], clocks.silence).confirm(a_subject(clocks, 31)).confirmed


def test_nobody_is_switched_off_before_the_tolerance_is_over(clocks: Clocks) -> None:
    fence = Fixed(FenceKind.REDFISH, True)
    outcome = Fences([fence], clocks.silence).confirm(a_subject(clocks, 30))
    assert (outcome.confirmed, outcome.results, fence.asked) == (False, (), 0)
    assert "30 s of the 30 s" in outcome.reason.en
    assert Fences([fence], clocks.silence).confirm(a_subject(clocks, heard_at=None)).confirmed


def test_the_configured_fences_are_made_in_their_order(clocks: Clocks) -> None:
    fences = make_fences([FenceKind.IPMI, FenceKind.SELF, FenceKind.REDFISH], clocks.now, clocks.silence)
    outcome = fences.confirm(a_subject(clocks, 31, self_fence=False))
    assert [result.kind for result in outcome.results] == ["ipmi", "self", "redfish"]


def test_a_controller_of_another_kind_is_not_asked(clocks: Clocks) -> None:
    access = BmcAccess(BmcKind.IPMI, "127.0.0.1:1", "admin", "hush")
    fence = BmcFence(BmcKind.REDFISH, clocks.now)
    for bmc in (None, access):
        result = fence.confirm(a_subject(clocks, 31, bmc=bmc))
        assert (result.confirmed, result.reason.en) == (
            False,
            "no management controller of the kind redfish is set for the node",
        )
