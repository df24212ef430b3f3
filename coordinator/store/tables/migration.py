"""Migrations of instances."""

from datetime import datetime
from typing import Any

from sqlmodel import JSON, Field, SQLModel, Text

from coordinator.domain.migration import MigrationNetwork, MigrationState, MigrationType
from coordinator.store.column import UtcDateTime


class Migration(SQLModel, table=True):
    """One move of an instance, in whose id's name the target is claimed until the instance is there."""

    id: str = Field(primary_key=True, max_length=36)
    instance_id: int = Field(foreign_key="instance.id", index=True)
    type: MigrationType = Field(sa_type=Text)
    state: MigrationState = Field(sa_type=Text, index=True)
    source_node_id: str = Field(foreign_key="node.id", max_length=32)
    target_node_id: str = Field(foreign_key="node.id", max_length=32)
    operation_id: str = Field(default="", max_length=32)
    # What cleans up the node that the instance is not on, once it is known which; empty before.
    cleaning_id: str = Field(default="", max_length=32)
    network: MigrationNetwork = Field(sa_type=Text)
    created_at: datetime = Field(sa_type=UtcDateTime)
    started_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    # Why it did not end well.
    reason: str = Field(default="", sa_type=Text)
    # MigrationOptions, without the network.
    options: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    # UUIDs of the volumes that the target does not share, by where they were found when it began. None: nobody has
    # looked, so none is copied, nor removed from any node.
    copied: list[str] | None = Field(default=None, sa_type=JSON)
