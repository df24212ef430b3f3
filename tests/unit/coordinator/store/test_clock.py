"""The time as the coordinators of a database agree on it."""

from datetime import timedelta

import pytest

from coordinator.domain.clock import utc_now
from coordinator.store.clock import DatabaseClock
from coordinator.store.database import Database
from tests.database import BOTH_DATABASES

pytestmark = BOTH_DATABASES


@pytest.mark.parametrize("wrong", [timedelta(hours=-3), timedelta(seconds=20)])
def test_a_machine_whose_clock_is_wrong_goes_by_that_of_the_server(database: Database, wrong: timedelta) -> None:
    clock = DatabaseClock(database, lambda: utc_now() + wrong)
    clock.adjust()
    # On SQLite there is nobody else to agree with.
    expected = wrong if database.is_sqlite else timedelta()
    assert abs(clock() - utc_now() - expected) < timedelta(seconds=1)


def test_a_look_that_takes_long_changes_nothing(database: Database) -> None:
    if database.is_sqlite:
        pytest.skip("there is no server")
    times = iter([utc_now(), utc_now() + timedelta(seconds=9)])
    clock = DatabaseClock(database, lambda: next(times, utc_now()))
    clock.adjust()
    assert abs(clock() - utc_now()) < timedelta(seconds=1)
