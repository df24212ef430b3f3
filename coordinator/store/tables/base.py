"""What tables share: aware timestamps kept by the database layer."""

from datetime import datetime

from sqlmodel import Field, SQLModel

from coordinator.domain.clock import utc_now
from coordinator.store.column import UtcDateTime


class Timestamped(SQLModel):
    """Columns of a resource that people see: when it was made and last changed."""

    created_at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)
    updated_at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime, sa_column_kwargs={"onupdate": utc_now})
