"""What is in the recycle bin."""

from datetime import datetime

from sqlmodel import Field, SQLModel

from coordinator.store.column import UtcDateTime


class RecycledInstance(SQLModel, table=True):
    """An instance in the recycle bin. It keeps all that it has, until somebody restores it or its time is over."""

    __tablename__ = "recycled_instance"

    instance_id: int = Field(primary_key=True, foreign_key="instance.id")
    recycled_at: datetime = Field(sa_type=UtcDateTime)
    # When it is deleted for good; what the configuration says later changes nothing for it.
    purge_at: datetime = Field(sa_type=UtcDateTime, index=True)
    # What it was doing when it was deleted, for those who restore it.
    status_before: str = Field(max_length=32)
    # Its deletion for good has begun: there is no way back.
    purging: bool = False
    # It was told that its time is nearly over.
    announced: bool = False
    failures: int = 0
    # A deletion that failed is tried again at this moment.
    not_before: datetime | None = Field(default=None, sa_type=UtcDateTime)
