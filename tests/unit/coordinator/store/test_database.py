"""Sessions and transactions on both databases."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import StatementError
from sqlmodel import col, select

from coordinator.store.database import Database, DatabaseInUse
from coordinator.store.tables.node import Node
from tests.builders import a_node
from tests.database import BOTH_DATABASES, POSTGRESQL_ONLY
from tests.stopwatch import Stopwatch

pytestmark = BOTH_DATABASES


def names(database: Database) -> list[str]:
    with database.read() as session:
        return list(session.exec(select(Node.name).order_by(col(Node.name))))


def test_a_read_session_never_commits(database: Database) -> None:
    with database.read() as session:
        session.add(a_node())
        session.flush()
    assert names(database) == []


def test_an_exception_rolls_back_what_was_written(database: Database) -> None:
    def fail() -> None:
        with database.write() as session:
            session.add(a_node())
            session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert names(database) == []
    with database.write() as session:
        session.add(a_node("after"))
    assert names(database) == ["after"]


@POSTGRESQL_ONLY
def test_postgresql_interprets_queries_instead_of_compiling_them(database: Database) -> None:
    for _ in range(2):
        # Whoever has the connection next, after the rollback, finds the setting, too.
        with database.read() as session:
            assert session.exec(text("SHOW jit")).scalar_one() == "off"  # type: ignore[call-overload]


def test_writers_of_many_threads_all_get_their_turn(database: Database) -> None:
    def write(number: int) -> None:
        for part in range(5):
            with database.write() as session:
                session.add(a_node(f"node-{number:02}-{part}"))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(write, range(16)))
    assert len(names(database)) == 80


def test_readers_do_not_wait_for_a_writer(database: Database) -> None:
    with database.write() as session:
        session.add(a_node())
        session.flush()
        with Stopwatch() as watch:
            assert names(database) == []
        assert watch.seconds < 1


def test_a_lost_update_is_impossible(database: Database) -> None:
    """Read, think, write: the second writer sees what the first one wrote."""
    with database.write() as session:
        node = a_node(generation=0)
        session.add(node)
    barrier = threading.Barrier(8)

    def count_up(_number: int) -> None:
        barrier.wait()
        for _ in range(5):
            with database.write() as session:
                row = session.get_one(Node, node.id, with_for_update=True)
                row.generation += 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count_up, range(8)))
    with database.read() as session:
        assert session.get_one(Node, node.id).generation == 40


def test_moments_keep_their_instant_and_come_back_in_utc(database: Database) -> None:
    moment = datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=8)))
    with database.write() as session:
        node = a_node(lease_expires_at=moment)
        session.add(node)
    with database.read() as session:
        stored = session.get_one(Node, node.id).lease_expires_at
    assert stored == moment
    assert stored is not None
    assert stored.tzinfo is UTC


def test_moments_without_an_offset_are_refused(database: Database) -> None:
    with pytest.raises(StatementError), database.write() as session:
        session.add(a_node(lease_expires_at=datetime(2026, 5, 1)))


def test_a_sqlite_database_has_one_user(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'coordinator.db'}"
    first, second = Database(url), Database(url)
    first.claim_sole_use()
    first.claim_sole_use()
    with pytest.raises(DatabaseInUse):
        second.claim_sole_use()
    first.close()
    second.claim_sole_use()
    second.close()
