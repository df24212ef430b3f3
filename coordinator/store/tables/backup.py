"""Backups of volumes."""

from datetime import datetime

from sqlalchemy import Index
from sqlmodel import BigInteger, Field, Text

from coordinator.domain.backup import BackupStatus
from coordinator.domain.snapshot import Consistency
from coordinator.store.column import UtcDateTime
from coordinator.store.tables.base import Timestamped


class VolumeBackup(Timestamped, table=True):
    """One volume at one moment, as a file that a node keeps for some days. It outlives volume, instance and node."""

    __tablename__ = "volume_backup"
    __table_args__ = (Index("ix_volume_backup_listed", "tenant_id", "created_at", "id"),)

    id: int | None = Field(default=None, primary_key=True)
    # Names the file, too.
    backup_id: str = Field(unique=True, max_length=32)
    # That of all volumes that were backed up at the same moment; names the state that the volume keeps on its node.
    point_id: str = Field(max_length=32)
    tenant_id: str = Field(foreign_key="tenant.id", max_length=19)
    ecs_id: str = Field(max_length=32)
    volume_uuid: str = Field(max_length=36, index=True)
    volume_name: str = Field(max_length=127)
    is_os_disk: bool = False
    # Where the file is.
    node_id: str = Field(max_length=32)
    status: BackupStatus = Field(sa_type=Text)
    # The backup that an increment is based on; empty: it is whole.
    parent_id: str = Field(default="", max_length=32)
    # Why it is whole, though an increment was wanted and there was a backup before.
    whole_because: str = Field(default="", sa_type=Text)
    consistency: Consistency = Field(default=Consistency.UNKNOWN, sa_type=Text)
    # Of the disk.
    size_gib: int
    file_bytes: int = Field(default=0, sa_type=BigInteger)
    sha256: str = Field(default="", max_length=64)
    taken_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    file_expires_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    # The volume still keeps this state: the next increment is what has changed since.
    holds_state: bool = False
    error_message: str = Field(default="", sa_type=Text)
