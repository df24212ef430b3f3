"""Snapshots of instances, and what they hold of each volume."""

from datetime import datetime

from sqlalchemy import Index
from sqlmodel import BigInteger, Field, SQLModel, Text

from coordinator.domain.snapshot import Consistency, SnapshotStatus, SnapshotType
from coordinator.store.column import UtcDateTime
from coordinator.store.tables.base import Timestamped


class Snapshot(Timestamped, table=True):
    """All volumes of an instance at one moment. The data is in the volumes' own files, on whatever node those are."""

    __table_args__ = (
        Index("ix_snapshot_listed", "tenant_id", "created_at", "id"),
        # What is under way, and what could not be taken and is forgotten after a time.
        Index("ix_snapshot_status", "status", "created_at"),
    )

    id: int | None = Field(default=None, primary_key=True)
    # Names it on nodes, too.
    snapshot_id: str = Field(unique=True, max_length=32)
    name: str = Field(max_length=127)
    description: str = Field(default="", max_length=255)
    tenant_id: str = Field(foreign_key="tenant.id", max_length=19)
    department_id: str = Field(max_length=32)
    resource_group_id: str = Field(default="", max_length=32)
    instance_id: int = Field(foreign_key="instance.id", index=True)
    status: SnapshotStatus = Field(sa_type=Text)
    type: SnapshotType = Field(default=SnapshotType.MANUAL, sa_type=Text)
    consistency: Consistency = Field(default=Consistency.UNKNOWN, sa_type=Text)
    error_message: str = Field(default="", sa_type=Text)
    expires_at: datetime | None = Field(default=None, sa_type=UtcDateTime, index=True)
    # It is in the recycle bin since then: neither listed nor shown, but its data is kept.
    deleted_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    # When the bin deletes it for good; what the configuration says later changes nothing for it.
    purge_at: datetime | None = Field(default=None, sa_type=UtcDateTime, index=True)


class VolumeSnapshot(SQLModel, table=True):
    """What a snapshot holds of one volume, which cannot be deleted while it does."""

    __tablename__ = "volume_snapshot"

    snapshot_id: int = Field(primary_key=True, foreign_key="snapshot.id")
    volume_id: int = Field(primary_key=True, foreign_key="volume.id", index=True)
    # As they were at that moment.
    size_gib: int
    is_os_disk: bool = False
    image_id: str | None = Field(default=None, foreign_key="image.id")
    # Space of the volume on its node at that moment, snapshots included.
    allocated_bytes: int = Field(default=0, sa_type=BigInteger)
