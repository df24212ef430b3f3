"""The connection to the database: one engine, read sessions and write transactions."""

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, func, select
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import sessionmaker
from sqlmodel import Session

from coordinator.store.change_event import record_changes
from coordinator.store.queries.event import has_events, number_events
from coordinator.store.queries.storage import note_space_changes

_LOCK_TIMEOUT_SECONDS: Final = 30
# Key of the advisory lock of who leads; any number that nobody else uses.
_LEADER_KEY: Final = 0x6C656164

_SQLITE_PRAGMAS: Final = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    f"PRAGMA busy_timeout={_LOCK_TIMEOUT_SECONDS * 1000}",
    "PRAGMA temp_store=MEMORY",
)


class DatabaseInUse(Exception):
    """Another coordinator already works on this SQLite database."""


class Database:
    """SQLite (default) or PostgreSQL behind one URL.

    `read()` gives a session whose changes are never committed; `write()` one that commits when its block ends and rolls
    back on an exception. SQLite writers begin IMMEDIATE: they queue up instead of failing when a read would have to
    become a write.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_sqlite = url.startswith("sqlite")
        # Called with every write session right before it commits.
        self.before_commit: Callable[[Session], None] | None = None
        # Called after the commit of a write session that wrote events, in its thread.
        self.after_events: Callable[[], None] | None = None
        self.engine: Engine = create_engine(url, **self._engine_options(pool_size=8, max_overflow=24))
        self._writers = sessionmaker(self.engine, class_=Session, expire_on_commit=False)
        event.listen(self._writers, "before_flush", record_changes)
        event.listen(self._writers, "before_flush", note_space_changes)
        self._observer: Engine = create_engine(url, **self._engine_options(pool_size=1, max_overflow=0))
        # SQLite's own waiting is a sleep that grows to 100 ms; threads of one process wait for each other here instead.
        self._writing = threading.Lock()
        self._sole_use_descriptor: int | None = None
        self._leading: Connection | None = None
        # Sweeps ask in threads of their own: a second connection would hold the lock that the first is asked for.
        self._asking_to_lead = threading.Lock()
        for engine in (self.engine, self._observer):
            event.listen(engine, "connect", _configure_sqlite if self.is_sqlite else _configure_postgresql)
            if self.is_sqlite:
                event.listen(engine, "begin", _begin)

    def _engine_options(self, **sizes: int) -> dict[str, Any]:
        pool = {**sizes, "pool_use_lifo": True}
        if self.is_sqlite:
            return {**pool, "connect_args": {"check_same_thread": False, "timeout": _LOCK_TIMEOUT_SECONDS}}
        return {**pool, "pool_pre_ping": True}

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session to read from; objects stay usable after it ends."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def observe(self) -> Iterator[Connection]:
        """A look at what is committed, also from within a write transaction: it waits for no session's connection."""
        with self._observer.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction: committed when the block ends, rolled back when it raises. Not to be nested."""
        with self._writer_turn(), self._writers() as session:
            if self.is_sqlite:
                session.connection(execution_options={"nodewright_immediate": True})
            yield session
            if self.before_commit:
                self.before_commit(session)
            session.flush()
            has_told = has_events(session)
            if has_told and self.is_sqlite:
                number_events(session)
            session.commit()
        if has_told and self.after_events:
            self.after_events()

    def lead(self) -> bool:
        """Whether this process, of all that share the database, is the one for what must not be done twice at once.

        It stays so for as long as it is connected; then another one is, at its next call.
        """
        if self.is_sqlite:
            return True
        with self._asking_to_lead:
            return self._ask_to_lead()

    def _ask_to_lead(self) -> bool:
        try:
            if self._leading is None:
                self._leading = self.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            # One that is held already is held once more, which tells that the connection stands.
            held: bool = self._leading.execute(select(func.pg_try_advisory_lock(_LEADER_KEY))).scalar_one()
        except OperationalError:
            self._stop_leading()
            return False
        return held

    def _stop_leading(self) -> None:
        if self._leading is not None:
            self._leading.invalidate()
            self._leading.close()
            self._leading = None

    def claim_sole_use(self) -> None:
        """Keeps other coordinators off a SQLite database until `close`; raises DatabaseInUse when one is at work.

        PostgreSQL may be shared: nothing happens.
        """
        path = self.engine.url.database
        if not self.is_sqlite or path is None or self._sole_use_descriptor is not None:
            return
        descriptor = os.open(Path(f"{path}.lock"), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise DatabaseInUse(f"another coordinator uses {path}") from None
        self._sole_use_descriptor = descriptor

    def close(self) -> None:
        """Closes all connections."""
        self._stop_leading()
        self.engine.dispose()
        self._observer.dispose()
        if self._sole_use_descriptor is not None:
            os.close(self._sole_use_descriptor)
            self._sole_use_descriptor = None

    def _writer_turn(self) -> AbstractContextManager[object]:
        return self._sqlite_turn() if self.is_sqlite else nullcontext()

    @contextmanager
    def _sqlite_turn(self) -> Iterator[None]:
        if not self._writing.acquire(timeout=_LOCK_TIMEOUT_SECONDS):
            raise TimeoutError("another write transaction of this process does not end")
        try:
            yield
        finally:
            self._writing.release()


def _configure_sqlite(connection: DBAPIConnection, _record: object) -> None:
    # The driver's own transaction handling is turned off: BEGIN is emitted below, so that it can be IMMEDIATE.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in _SQLITE_PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _configure_postgresql(connection: DBAPIConnection, _record: object) -> None:
    # Compiling the query for candidate nodes takes 100 times as long as interpreting it: a second, on a small machine.
    cursor = connection.cursor()
    cursor.execute("SET jit = off")
    cursor.close()
    connection.commit()


def _begin(connection: Any) -> None:
    immediate = connection.get_execution_options().get("nodewright_immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
