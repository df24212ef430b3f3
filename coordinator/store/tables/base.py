"""What tables share: aware timestamps kept by the database layer."""

from datetime import datetime

from sqlalchemy import Index, text
from sqlmodel import Field, SQLModel

from coordinator.domain.clock import utc_now
from coordinator.store.column import UtcDateTime

# Named constraints: a later migration cannot drop what has no name.
SQLModel.metadata.naming_convention = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
}

_NOT_DELETED = text("deleted_at IS NULL")


def index_of_living(name: str, *columns: str, unique: bool = False) -> Index:
    """An index without the rows that are kept after deletion, for statements that ask for the others alone."""
    return Index(name, *columns, unique=unique, sqlite_where=_NOT_DELETED, postgresql_where=_NOT_DELETED)


class Timestamped(SQLModel):
    """Columns of a resource that people see: when it was made and last changed."""

    created_at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)
    updated_at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime, sa_column_kwargs={"onupdate": utc_now})
