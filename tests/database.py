"""The `database` fixture's parts: both engines, migrated, empty."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest
from sqlalchemy import URL, create_engine, make_url, text

from coordinator.store.database import Database
from coordinator.store.migration import migrate
from tests.postgresql import fresh_database, private_server

SERVER_VARIABLE = "NODEWRIGHT_TEST_POSTGRESQL_URL"

# The template database of each server that this process has tests on.
_templates: Final[dict[URL, str]] = {}

# Parameters of a fixture: each test with it runs on both.
ENGINES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)]


@contextmanager
def postgresql_server() -> Iterator[str]:
    """The server that the environment names, else a private one."""
    given = os.environ.get(SERVER_VARIABLE)
    if given:
        try:
            yield given
        finally:
            for name in _templates.values():
                _run_sql(make_url(given).set(database="postgres"), f'DROP DATABASE "{name}" WITH (FORCE)')
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


def _copy_template(url: URL) -> None:
    """All migrations take a second: they run once for each server and process, and every test gets a copy."""
    if url.get_backend_name() == "sqlite":
        assert url.database is not None
        Path(url.database).write_bytes(_sqlite_template())
        return
    server = url.set(database="postgres")
    template = _postgresql_template(server)
    _run_sql(server, f'DROP DATABASE "{url.database}"', f'CREATE DATABASE "{url.database}" TEMPLATE "{template}"')


@cache
def _sqlite_template() -> bytes:
    # In memory: a directory of its own would stay behind a killed run.
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "template.db"
        _migrate(f"sqlite:///{path}")
        return path.read_bytes()


def _postgresql_template(server: URL) -> str:
    if server not in _templates:
        name = f"nw_template_{uuid4().hex[:16]}"
        _run_sql(server, f'CREATE DATABASE "{name}"')
        _migrate(server.set(database=name).render_as_string(hide_password=False))
        _templates[server] = name
    return _templates[server]


def _run_sql(server: URL, *statements: str) -> None:
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    admin.dispose()


def _migrate(url: str) -> None:
    database = Database(url)
    migrate(database)
    database.close()


@contextmanager
def migrated(url: str) -> Iterator[Database]:
    """The database behind `url`, empty before, with all tables."""
    _copy_template(make_url(url))
    database = Database(url)
    try:
        yield database
    finally:
        database.close()
