"""When scheduled tasks are due, where clocks are turned, too."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.domain.cron import CronInvalid, CronTimes, ZoneUnknown, normalize_cron, parse_cron

NOW = datetime(2026, 1, 1, tzinfo=UTC)
# Turned by an hour, by half an hour, not at all, and one that left out a whole day.
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Shanghai", "Pacific/Apia"]
MOMENTS = st.datetimes(datetime(2010, 1, 1), datetime(2035, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC))
_MINUTES = st.one_of(st.just("*"), st.integers(0, 59).map(str), st.integers(1, 59).map(lambda step: f"*/{step}"))
_HOURS = st.one_of(st.just("*"), st.integers(0, 23).map(str), st.just("*/6"), st.just("1-3"))
EXPRESSIONS = st.tuples(_MINUTES, _HOURS, st.sampled_from(["*", "1", "L"]), st.just("*"), st.sampled_from(["*", "1"]))


def times_of(expression: str, zone: str = "UTC") -> CronTimes:
    return parse_cron(expression, zone, NOW)


def after(expression: str, zone: str, local: str, count: int = 1, fold: int = 0) -> list[str]:
    """The next times by the zone's clocks, with their offsets."""
    moment = datetime.fromisoformat(local).replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC)
    times, found = times_of(expression, zone), []
    for _ in range(count):
        due = times.next_after(moment)
        assert due is not None
        moment = due
        found.append(due.astimezone(ZoneInfo(zone)).isoformat(timespec="minutes"))
    return found


def test_the_clocks_of_the_zone_count() -> None:
    assert after("1 1 1 1 1", "Asia/Shanghai", "2023-12-31T12:00") == ["2024-01-01T01:01+08:00"]
    assert after("0 9 * * *", "Europe/Berlin", "2026-03-28T08:00", 2) == [
        "2026-03-28T09:00+01:00",
        "2026-03-29T09:00+02:00",
    ]


def test_a_time_that_is_left_out_comes_right_after_the_gap() -> None:
    expected = ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"]
    assert after("30 2 * * *", "Europe/Berlin", "2026-03-29T00:00", 2) == expected


def test_a_time_that_comes_twice_comes_once() -> None:
    expected = ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]
    assert after("30 2 * * *", "Europe/Berlin", "2026-10-25T00:00", 2) == expected
    # Also for who asks within the second of the two hours.
    assert after("30 2 * * *", "Europe/Berlin", "2026-10-25T02:10", fold=1) == expected[1:]
    assert after("30 2 * * *", "Europe/Berlin", "2026-10-25T02:45", fold=0) == expected[1:]


def test_what_repeats_within_hours_goes_by_real_time() -> None:
    assert after("*/30 * * * *", "Europe/Berlin", "2026-10-25T02:00", 4) == [
        "2026-10-25T02:30+02:00",
        "2026-10-25T02:00+01:00",
        "2026-10-25T02:30+01:00",
        "2026-10-25T03:00+01:00",
    ]
    assert after("*/30 * * * *", "Europe/Berlin", "2026-03-29T01:30", 2) == [
        "2026-03-29T03:00+02:00",
        "2026-03-29T03:30+02:00",
    ]


@given(EXPRESSIONS, st.sampled_from(ZONES), MOMENTS)
def test_times_grow_and_lie_on_whole_minutes(fields: tuple[str, ...], zone: str, moment: datetime) -> None:
    times, found = times_of(" ".join(fields), zone), [moment]
    for _ in range(5):
        due = times.next_after(found[-1])
        assert due is not None
        found.append(due)
    assert all(earlier < later for earlier, later in pairwise(found))
    assert all((due.second, due.microsecond) == (0, 0) for due in found[1:])


@given(EXPRESSIONS, st.sampled_from(ZONES), MOMENTS, st.integers(0, 5), st.integers(0, 3000))
def test_from_wherever_one_asks_the_times_are_the_same(
    fields: tuple[str, ...], zone: str, moment: datetime, count: int, seconds: int
) -> None:
    times = times_of(" ".join(fields), zone)
    first = due = times.next_after(moment)
    assert due is not None
    assert first is not None
    for _ in range(count):
        following = times.next_after(due)
        assert following is not None
        # Nothing comes between the two, for whoever asks in between.
        assert (
            times.next_after(min(due + timedelta(seconds=seconds), following - timedelta(microseconds=1))) == following
        )
        assert times.last_between(first, following - timedelta(microseconds=1)) == due
        due = following
    assert times.last_between(first, due) == due
    assert times.last_between(first, first - timedelta(microseconds=1)) is None


@given(st.integers(0, 59), st.integers(0, 23), st.sampled_from(ZONES[:-1]), MOMENTS)
def test_a_daily_time_comes_once_on_every_day(minute: int, hour: int, zone: str, moment: datetime) -> None:
    times, dates = times_of(f"{minute} {hour} * * *", zone), []
    for _ in range(370):
        due = times.next_after(moment)
        assert due is not None
        moment = due
        dates.append(due.astimezone(times.zone).date())
    # What is left out before midnight comes after it, in no zone of these.
    assert all(later - earlier == timedelta(days=1) for earlier, later in pairwise(dates))


@pytest.mark.parametrize(("written", "meant"), [("* / 5 * * * 1", "*/5 * * * 1"), (" 0  1\t* * * ", "0 1 * * *")])
def test_spaces_are_set_right(written: str, meant: str) -> None:
    assert normalize_cron(written) == meant
    assert times_of(written).expression == meant


NO_EXPRESSIONS = (
    *("", "@daily", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "0 0 0 * *", "0 0 * 13 *", "* * * * 8"),
    *("*/0 * * * *", "a * * * *", "5-1 * * * *", "1/ * * * *", "-1 * * * *", "² * * * *"),
    # No such month has that day.
    *("0 0 30 2 *", "0 0 31 4,6 *"),
)


@pytest.mark.parametrize("expression", NO_EXPRESSIONS)
def test_what_is_no_expression_or_never_comes_is_refused(expression: str) -> None:
    with pytest.raises(CronInvalid):
        times_of(expression)


@given(st.text(alphabet="0123456789*/,-L#W SUNMO²@", max_size=40))
def test_nothing_but_an_expression_passes(text: str) -> None:
    try:
        times = times_of(text)
    except CronInvalid:
        return
    assert times.next_after(NOW) is not None


@pytest.mark.parametrize("zone", ["", "Mars/Olympus", "Europe", "../../etc/passwd", "localtime", "europe/berlin", "+8"])
def test_what_is_no_zone_is_refused(zone: str) -> None:
    with pytest.raises(ZoneUnknown):
        times_of("0 0 * * *", zone)
