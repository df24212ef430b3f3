"""Instances that ran when their node went down, until they run again."""

from datetime import datetime

from sqlmodel import Field, SQLModel

from coordinator.store.column import UtcDateTime


class Interruption(SQLModel, table=True):
    """One instance that is to be started again, or is booting for that reason."""

    instance_id: int = Field(primary_key=True, foreign_key="instance.id")
    # When it was last looked after: interrupted, or a start begun. What people do to it later settles the matter.
    at: datetime = Field(sa_type=UtcDateTime)
    # The start that was begun last; None: none, or it failed and another one is due.
    operation_id: str | None = Field(default=None, max_length=32)
    # When that start was seen to have succeeded: the guest boots from then on.
    booting_since: datetime | None = Field(default=None, sa_type=UtcDateTime)
    # Starts that have failed, and when the next may begin.
    failures: int = 0
    not_before: datetime | None = Field(default=None, sa_type=UtcDateTime)
