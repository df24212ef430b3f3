"""The lease on highly available guests: it never lasts longer than the coordinator waits, whatever is lost or late."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from agent.errors import DomainFenced, LeaseExpired, LeaseFailed
from agent.self_fence import SelfFence
from agent.watchdog.lease import (
    LOOK_SECONDS,
    Health,
    Lease,
    margin_seconds,
    read_boot_id,
    read_lease,
    write_health,
    write_lease,
)
from agent.watchdog.record import FencedGuest, FenceRecord

GUEST = "5b1e8c1e-7e64-4a7e-9c60-0e2a4a7a7d11"
OTHER = "0f1e8c1e-7e64-4a7e-9c60-0e2a4a7a7d12"
BOOT = "boot-1"
TOLERANCES = (30, 60, 120, 300, 600)


class Clock:
    """Seconds that a test lets pass."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def record(tmp_path: Path) -> FenceRecord:
    return FenceRecord(tmp_path / "fenced")


@pytest.fixture
def fence(tmp_path: Path, clock: Clock, record: FenceRecord) -> SelfFence:
    return start(tmp_path, clock, record)


def start(directory: Path, clock: Clock, record: FenceRecord, boot_id: str = BOOT) -> SelfFence:
    return SelfFence(directory, record, boot_id=lambda: boot_id, clock=clock)


def lease_of(directory: Path) -> Lease:
    lease = read_lease(directory)
    assert lease is not None
    return lease


@pytest.mark.parametrize("tolerance", TOLERANCES)
def test_the_margin_covers_reaction_and_drift_and_leaves_most_of_the_tolerance(tolerance: int) -> None:
    reaction_seconds = 2 * LOOK_SECONDS + 1
    drift_seconds = 2 * 500e-6 * tolerance
    assert margin_seconds(tolerance) > reaction_seconds + drift_seconds
    assert margin_seconds(tolerance) <= tolerance / 5


def test_a_lease_begins_with_the_sending_of_what_was_stored(fence: SelfFence, clock: Clock, tmp_path: Path) -> None:
    fence.note_sending(0)
    clock.now += 4  # the answer is slow
    fence.begin([GUEST], 30)
    assert lease_of(tmp_path) == Lease(BOOT, 1000.0, 30, (GUEST,))
    for number in (1, 2, 3):
        clock.now = 1000.0 + 10 * number
        fence.note_sending(number)
    fence.renew(2, 60)
    assert lease_of(tmp_path) == Lease(BOOT, 1020.0, 60, (GUEST,))
    assert lease_of(tmp_path).deadline == 1020.0 + 60 - margin_seconds(60)


def test_old_news_and_strange_numbers_change_nothing(fence: SelfFence, clock: Clock, tmp_path: Path) -> None:
    fence.note_sending(0)
    fence.begin([], 30)
    for number in (1, 2):
        clock.now += 5
        fence.note_sending(number)
    fence.renew(2, 30)
    before = lease_of(tmp_path)
    for stored in (1, 0, 7):
        fence.renew(stored, 600)
    assert lease_of(tmp_path) == before


def test_a_session_that_was_lost_counts_no_more(fence: SelfFence, clock: Clock, tmp_path: Path) -> None:
    fence.note_sending(0)
    fence.begin([], 30)
    fence.note_sending(1)
    clock.now += 20
    fence.note_sending(0)  # registers anew
    fence.renew(1, 30)
    assert lease_of(tmp_path).renewed_at == 1000.0
    fence.begin([], 30)
    assert lease_of(tmp_path).renewed_at == 1020.0


def test_guests_are_named_at_once_and_an_agent_that_starts_anew_knows_them(
    fence: SelfFence, clock: Clock, record: FenceRecord, tmp_path: Path
) -> None:
    fence.note_sending(0)
    fence.begin([GUEST], 30)
    fence.set_guest(OTHER, ha_enabled=True)
    assert lease_of(tmp_path).guests == (OTHER, GUEST)
    clock.now += 100
    again = start(tmp_path, clock, record)
    again.set_guest(GUEST, ha_enabled=False)
    # Starting renews nothing.
    assert lease_of(tmp_path) == Lease(BOOT, 1000.0, 30, (OTHER,))
    assert start(tmp_path, clock, record, "boot-2").tolerance_seconds == 0


def test_a_guest_that_the_watchdog_cannot_be_told_of_is_refused(
    clock: Clock, record: FenceRecord, tmp_path: Path
) -> None:
    directory = tmp_path / "run"
    directory.mkdir()
    fence = start(directory, clock, record)
    fence.note_sending(0)
    fence.begin([], 30)
    write_health(directory, Health(BOOT, 1, clock.now, 30))
    assert fence.is_armed
    (directory / "lease").unlink()
    (directory / "lease").mkdir()  # nothing can be renamed over it
    with pytest.raises(LeaseFailed):
        fence.set_guest(GUEST, ha_enabled=True)
    assert not fence.is_armed
    with pytest.raises(LeaseFailed):
        fence.set_guest(GUEST, ha_enabled=True)
    (directory / "lease").rmdir()
    fence.set_guest(GUEST, ha_enabled=True)
    assert lease_of(directory).guests == (GUEST,)
    assert fence.is_armed


def test_only_a_watchdog_that_looks_at_this_boot_s_lease_counts(fence: SelfFence, clock: Clock, tmp_path: Path) -> None:
    assert not fence.is_armed
    write_health(tmp_path, Health("boot-0", 1, clock.now, 30))
    assert not fence.is_armed
    write_health(tmp_path, Health(BOOT, 1, clock.now, 30))
    assert fence.is_armed
    clock.now += 3
    assert not fence.is_armed


def test_no_highly_available_guest_starts_without_a_lease(fence: SelfFence, clock: Clock) -> None:
    fence.note_sending(0)
    fence.begin([GUEST], 30)
    fence.check_startable(GUEST)
    clock.now = 1000.0 + 30 - margin_seconds(30)
    with pytest.raises(LeaseExpired, match=GUEST):
        fence.check_startable(GUEST)
    fence.check_startable(OTHER)
    fence.note_sending(0)
    fence.begin([], 30)
    fence.check_startable(GUEST)


def test_a_fenced_guest_starts_only_when_it_was_released(
    fence: SelfFence, clock: Clock, record: FenceRecord, tmp_path: Path
) -> None:
    fence.note_sending(0)
    fence.begin([GUEST, OTHER], 30)
    for uuid in (GUEST, OTHER):
        record.add(FencedGuest(uuid, 1.0, 25.0, 30))
    again = start(tmp_path, clock, record)
    assert [guest.uuid for guest in again.list_fenced()] == [OTHER, GUEST]
    again.release([OTHER])
    again.check_startable(OTHER)
    with pytest.raises(DomainFenced, match=GUEST):
        again.check_startable(GUEST)
    again.forget(GUEST)
    assert again.list_fenced() == []


def test_without_a_tolerance_nothing_is_ever_over() -> None:
    assert not Lease(BOOT, 0.0, 0, (GUEST,)).is_over(1e9)


def test_the_boot_id_of_this_machine_stays() -> None:
    assert read_boot_id() == read_boot_id() != ""


def test_half_a_lease_is_none(tmp_path: Path) -> None:
    write_lease(tmp_path, Lease(BOOT, 1.0, 30, ()))
    path = tmp_path / "lease"
    path.write_text(path.read_text()[:-3])
    assert read_lease(tmp_path) is None


@pytest.mark.parametrize("seed", range(20))
def test_the_node_is_always_done_before_the_coordinator_counts_it_as_fenced(seed: int, tmp_path: Path) -> None:
    """Answers that are late or lost, stores that lag or never happen, tolerances that change: the coordinator's rule

    (the last stored hearing, plus the longest tolerance that the node may go by) is never earlier than the node's end.
    """
    chance = random.Random(seed)
    clock = Clock()
    fence = start(tmp_path, clock, FenceRecord(tmp_path / "fenced"))
    tolerance = chance.choice(TOLERANCES)
    fence.note_sending(0)
    heard_at, stored, told = clock.now + chance.random(), 0, tolerance
    longest = tolerance
    clock.now = heard_at + chance.random()
    fence.begin([GUEST], tolerance)
    pending: tuple[int, float, int, int] | None = None
    for number in range(1, 60):
        clock.now += 5
        fence.note_sending(number)
        reported = fence.tolerance_seconds
        if chance.random() < 0.8:  # it arrives
            pending = (number, clock.now + chance.random(), reported, told)
        answer = (stored, told)
        if pending and chance.random() < 0.6:  # a sweep stores what was heard last
            tolerance = chance.choice(TOLERANCES) if chance.random() < 0.3 else tolerance
            stored, heard_at = pending[0], pending[1]
            longest = max(pending[2], pending[3], told, tolerance)
            told, pending = tolerance, None
        clock.now += chance.random() * 4
        if chance.random() < 0.6:  # the answer arrives, too
            fence.renew(*answer)
        assert lease_of(tmp_path).deadline + 2 * LOOK_SECONDS + 1 < heard_at + longest
