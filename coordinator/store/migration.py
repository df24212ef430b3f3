"""Brings a database to the schema of this version."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, func, select

from coordinator.store.database import Database

_SCRIPTS: Final = Path(__file__).with_name("migrations")
# Key of the advisory lock that lets one of several starting coordinators migrate; any number that nobody else uses.
_LOCK_KEY: Final = 0x6D696772


def migrate(database: Database) -> None:
    """Applies the missing revisions, all or none; does nothing when the schema is current."""
    with (
        database.engine.connect().execution_options(nodewright_immediate=True) as connection,
        _tables_may_be_copied(database, connection),
        connection.begin(),
    ):
        if not database.is_sqlite:
            connection.execute(select(func.pg_advisory_xact_lock(_LOCK_KEY)))
        command.upgrade(make_config(connection), "head")


@contextmanager
def _tables_may_be_copied(database: Database, connection: Connection) -> Iterator[None]:
    """SQLite alters a table by a copy that takes its place: what refers to it must not mind for that moment.

    Has to surround the transaction, within which the setting cannot be changed.
    """
    if not database.is_sqlite:
        yield
        return
    cursor = connection.connection.cursor()
    cursor.execute("PRAGMA foreign_keys=OFF")
    try:
        yield
    finally:
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()


def make_config(connection: Connection) -> Config:
    """Alembic's configuration for a run over `connection`, within its transaction."""
    config = Config()
    # Alembic interpolates options: a percent sign of the path must not be taken for a reference.
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
