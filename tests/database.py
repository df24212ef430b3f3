"""The `database` fixture's parts: both engines, migrated, empty."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Final
from uuid import uuid4
from zlib import crc32

import pytest
from sqlalchemy import create_engine, make_url, text

from coordinator.store.database import Database
from coordinator.store.migration import migrate
from coordinator.store.schema import REVISION
from tests.postgresql import fresh_database, private_server

SERVER_VARIABLE = "NODEWRIGHT_TEST_POSTGRESQL_URL"

_POSTGRESQL: Final = pytest.param("postgresql", marks=pytest.mark.postgresql)
# Parameters of the fixture `database`: each test with it runs on both.
ENGINES = ["sqlite", _POSTGRESQL]
# Marks of a test or of a module that needs only one, see README.md.
SQLITE_ONLY = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
POSTGRESQL_ONLY = pytest.mark.parametrize("database", [_POSTGRESQL], indirect=True)
# "sample" runs on SQLite only those with this mark and a sample of all others; without it everything runs on both.
DATABASES_VARIABLE: Final = "NODEWRIGHT_TEST_DATABASES"
BOTH_DATABASES = pytest.mark.both_databases
_ONE_IN: Final = 4

# What earlier tests wrote is deleted, and numbers begin anew; the many tables that they left empty cost nearly nothing.
_EMPTY: Final = """
DO $$
DECLARE found text;
BEGIN
  PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
  WHERE datname = current_database() AND pid <> pg_backend_pid();
  SET LOCAL session_replication_role = replica;
  FOR found IN
    SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'
  LOOP
    EXECUTE 'DELETE FROM ' || found;
  END LOOP;
  FOR found IN
    SELECT quote_ident(sequencename) FROM pg_sequences WHERE schemaname = 'public' AND last_value IS NOT NULL
  LOOP
    EXECUTE 'ALTER SEQUENCE ' || found || ' RESTART';
  END LOOP;
END $$
"""


@contextmanager
def postgresql_server() -> Iterator[str]:
    """The server that the environment names, else a private one."""
    given = os.environ.get(SERVER_VARIABLE)
    if given:
        yield given
    else:
        with private_server() as url:
            yield url


def leave_postgresql(items: Sequence[pytest.Item]) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """Those to run, and those on SQLite whose twin on PostgreSQL runs: names decide, in every run alike."""
    on_postgresql = {_name_of_twins(item) for item in items if _engine_of(item) == "postgresql"}
    left: list[pytest.Item] = []
    twins: list[pytest.Item] = []
    for item in items:
        name = _name_of_twins(item)
        is_twin = _engine_of(item) == "sqlite" and name in on_postgresql
        is_on_both = item.get_closest_marker(BOTH_DATABASES.name) or crc32(name.encode()) % _ONE_IN == 0
        (twins if is_twin and not is_on_both else left).append(item)
    return left, twins


def _engine_of(item: pytest.Item) -> str:
    """The database of a test that has one, else nothing."""
    return str(item.callspec.params.get("database", "")) if hasattr(item, "callspec") else ""


def _name_of_twins(item: pytest.Item) -> str:
    return item.nodeid.replace(_engine_of(item), "", 1)


class Lending:
    """Migrated databases of one server: making one takes a second, and emptying a used one milliseconds."""

    def __init__(self, server_url: str) -> None:
        self._server_url = server_url
        self._idle: list[str] = []
        self._made = ExitStack()

    def close(self) -> None:
        """All of them are gone."""
        self._made.close()

    @contextmanager
    def lend(self) -> Iterator[Database]:
        """A database with all tables, all of them empty."""
        url = self._idle.pop() if self._idle else self._make()
        database = Database(url)
        try:
            yield database
        finally:
            database.close()
        if _empty(url):
            self._idle.append(url)

    def _make(self) -> str:
        url = self._made.enter_context(fresh_database(self._server_url, f"nw_{uuid4().hex[:16]}"))
        _migrate(url)
        return url


@contextmanager
def migrated_database(engine: str, directory: Path, request: pytest.FixtureRequest) -> Iterator[Database]:
    """An empty database with all tables; the PostgreSQL server starts with the first test that needs it."""
    if engine == "sqlite":
        with migrated(f"sqlite:///{directory / 'coordinator.db'}") as database:
            yield database
    else:
        lending: Lending = request.getfixturevalue("postgresql_databases")
        with lending.lend() as database:
            yield database


@contextmanager
def database_url(engine: str, directory: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a database without any table."""
    if engine == "sqlite":
        yield f"sqlite:///{directory / 'coordinator.db'}"
    else:
        server: str = request.getfixturevalue("postgresql_url")
        with fresh_database(server, f"nw_{uuid4().hex[:16]}") as url:
            yield url


@contextmanager
def migrated(url: str) -> Iterator[Database]:
    """The database behind `url`, without tables before, with all of them."""
    if make_url(url).get_backend_name() == "sqlite":
        # All migrations take a second: they run once in each process, and every test gets a copy.
        Path(str(make_url(url).database)).write_bytes(_sqlite_template())
    else:
        _migrate(url)
    database = Database(url)
    try:
        yield database
    finally:
        database.close()


@cache
def _sqlite_template() -> bytes:
    # In memory: a directory of its own would stay behind a killed run.
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "template.db"
        _migrate(f"sqlite:///{path}")
        return path.read_bytes()


def _migrate(url: str) -> None:
    database = Database(url)
    migrate(database)
    database.close()


def _empty(url: str) -> bool:
    """Whether it can be lent again: a test that failed may have left another schema."""
    engine = create_engine(url)
    with engine.begin() as connection:
        found = connection.execute(text("SELECT to_regclass('alembic_version')")).scalar_one()
        version = found and connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
        if version == REVISION:
            connection.execute(text(_EMPTY))
    engine.dispose()
    return version == REVISION
