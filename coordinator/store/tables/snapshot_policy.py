"""Snapshot policies, and the instances that they are bound to."""

from datetime import datetime

from sqlmodel import Field, SQLModel, Text

from coordinator.store.column import UtcDateTime
from coordinator.store.tables.base import Timestamped


class SnapshotPolicy(Timestamped, table=True):
    """When snapshots are taken, and for how long they are kept."""

    __tablename__ = "snapshot_policy"

    id: int | None = Field(default=None, primary_key=True)
    policy_id: str = Field(unique=True, max_length=32)
    name: str = Field(max_length=127)
    tenant_id: str = Field(foreign_key="tenant.id", max_length=19, index=True)
    department_id: str = Field(default="", max_length=19)
    resource_group_id: str = Field(default="", max_length=19)
    # Numbers with commas between: hours of the day, days of the week from Monday, 1, on.
    hours: str = Field(max_length=63)
    week_days: str = Field(max_length=15)
    # IANA name of the zone whose clocks count.
    time_zone: str = Field(max_length=63)
    # 0: until somebody deletes them.
    keep_minutes: int
    enabled: bool = True
    # When it is due next; None: not while it is paused.
    next_at: datetime | None = Field(default=None, sa_type=UtcDateTime, index=True)


class SnapshotPolicyBinding(SQLModel, table=True):
    """An instance of which the policy has snapshots taken; it has one policy at most."""

    __tablename__ = "snapshot_policy_binding"

    instance_id: int = Field(primary_key=True, foreign_key="instance.id")
    policy_id: int = Field(foreign_key="snapshot_policy.id", index=True)
    bound_at: datetime = Field(sa_type=UtcDateTime)
    # A snapshot that was due then is still to be taken; None: none is.
    due_at: datetime | None = Field(default=None, sa_type=UtcDateTime, index=True)
    # It is tried again at this moment.
    not_before: datetime | None = Field(default=None, sa_type=UtcDateTime)
    # What came of the last one.
    last_due_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    last_snapshot_id: str = Field(default="", max_length=32)
    last_error: str = Field(default="", sa_type=Text)
