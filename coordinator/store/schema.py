"""Which schema a database has, told without Alembic: that would take 10 MB which a running coordinator never needs."""

import multiprocessing
from typing import Final

from sqlalchemy import inspect, text

from coordinator.store.database import Database

# The newest revision; a test compares it with the scripts.
REVISION: Final = "0031"


def is_current(database: Database) -> bool:
    """Whether the schema is that of this version."""
    with database.engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return False
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == REVISION


def migrate_apart(database: Database) -> bool:
    """Brings the schema up to date in a process of its own, whose memory ends with it; False when that failed."""
    process = multiprocessing.get_context("spawn").Process(target=_migrate, args=(database.url,))
    process.start()
    process.join()
    return process.exitcode == 0


def _migrate(url: str) -> None:
    from coordinator.store.migration import migrate

    database = Database(url)
    try:
        migrate(database)
    finally:
        database.close()
