"""The connection to the database: one engine, read sessions and write transactions."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlmodel import Session

_SQLITE_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA busy_timeout=30000",
    "PRAGMA temp_store=MEMORY",
)


class Database:
    """SQLite (default) or PostgreSQL behind one URL.

    `read()` gives a session whose changes are never committed; `write()` one that commits when its block ends and rolls
    back on an exception. SQLite writers begin IMMEDIATE: they queue up instead of failing when a read would have to
    become a write.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_sqlite = url.startswith("sqlite")
        self.engine: Engine = create_engine(url, **self._engine_options())
        if self.is_sqlite:
            event.listen(self.engine, "connect", _configure_sqlite)
            event.listen(self.engine, "begin", _begin_deferred)

    def _engine_options(self) -> dict[str, Any]:
        if self.is_sqlite:
            return {"connect_args": {"check_same_thread": False, "timeout": 30}}
        return {"pool_size": 10, "max_overflow": 10, "pool_pre_ping": True}

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session to read from; objects stay usable after it ends."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction: committed when the block ends, rolled back when it raises."""
        with Session(self.engine, expire_on_commit=False) as session:
            if self.is_sqlite:
                session.connection(execution_options={"nodewright_immediate": True})
            yield session
            session.commit()

    def close(self) -> None:
        """Closes all pooled connections."""
        self.engine.dispose()


def _configure_sqlite(connection: DBAPIConnection, _record: object) -> None:
    # The driver's own transaction handling is turned off: BEGIN is emitted below, so that it can be IMMEDIATE.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in _SQLITE_PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _begin_deferred(connection: Any) -> None:
    immediate = connection.get_execution_options().get("nodewright_immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
