"""The `database` fixture's parts: both engines, migrated, empty."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from coordinator.store.database import Database
from coordinator.store.migration import migrate
from tests.postgresql import fresh_database, private_server

SERVER_VARIABLE = "NODEWRIGHT_TEST_POSTGRESQL_URL"

# Parameters of a fixture: each test with it runs on both.
ENGINES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)]


@contextmanager
def postgresql_server() -> Iterator[str]:
    """The server that the environment names, else a private one."""
    given = os.environ.get(SERVER_VARIABLE)
    if given:
        yield given
    else:
        with private_server() as url:
            yield url


@contextmanager
def database_url(engine: str, directory: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of an empty database; the PostgreSQL server starts with the first test that needs it."""
    if engine == "sqlite":
        yield f"sqlite:///{directory / 'coordinator.db'}"
    else:
        server: str = request.getfixturevalue("postgresql_url")
        with fresh_database(server, f"nw_{uuid4().hex[:16]}") as url:
            yield url


@contextmanager
def migrated(url: str) -> Iterator[Database]:
    """The database behind `url`, with all tables."""
    database = Database(url)
    migrate(database)
    try:
        yield database
    finally:
        database.close()
