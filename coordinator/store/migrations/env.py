"""Alembic's environment: always over the connection that `coordinator.store.migration` hands in."""

from typing import Any, Literal

from alembic import context
from sqlmodel import SQLModel
from sqlmodel.sql.sqltypes import AutoString

import coordinator.store.tables  # noqa: F401 - fills SQLModel.metadata
from coordinator.store.column import UtcDateTime


def render_type(kind: str, column_type: Any, _autogen_context: Any) -> str | Literal[False]:
    """Revisions name plain SQLAlchemy types, so that they outlive our own."""
    if kind == "type" and isinstance(column_type, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(column_type, AutoString):
        return f"sa.String(length={column_type.length})" if column_type.length else "sa.String()"
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    render_item=render_type,
    # SQLite cannot alter most things: Alembic copies the table instead.
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
