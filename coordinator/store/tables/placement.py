"""Why instances are where they are."""

from datetime import datetime

from sqlmodel import JSON, Field, SQLModel

from coordinator.store.column import UtcDateTime


class PlacementRecord(SQLModel, table=True):
    """The decision that gave an instance its node, kept for people who ask."""

    __tablename__ = "placement_record"

    instance_id: int = Field(primary_key=True, foreign_key="instance.id")
    node_id: str = Field(max_length=32)
    node_name: str = Field(max_length=255)
    decided_at: datetime = Field(sa_type=UtcDateTime)
    host_count: int
    # How many hosts each filter rejected, in the order of the filters.
    rejected: dict[str, int] = Field(default_factory=dict, sa_type=JSON)
    # What each weigher gave the chosen host.
    scores: dict[str, float] = Field(default_factory=dict, sa_type=JSON)
