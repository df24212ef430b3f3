"""Backups of volumes on the wire."""

from datetime import datetime
from typing import Final, Self

from pydantic import Field

from coordinator.api.schemas.base import AnswerModel, LenientModel, Moment
from coordinator.domain.backup import FORMAT, BackupMode, BackupOrder, BackupStatus, name_file
from coordinator.store.tables import VolumeBackup

# What rows and answers call alike.
_SAME: Final = (
    *("backup_id", "point_id", "ecs_id", "volume_name", "tenant_id", "status", "parent_id", "whole_because"),
    *("consistency", "file_bytes", "sha256", "taken_at", "file_expires_at", "created_at", "error_message"),
)


class CreateBackupRequest(LenientModel):
    """A backup of all volumes of an instance, or of one volume."""

    ecs_id: str = Field(default="", max_length=32, description="All volumes of this instance, at one moment.")
    volume_id: str = Field(default="", max_length=64, description="This volume instead, by number or UUID.")
    mode: BackupMode = Field(
        default=BackupMode.INCREMENTAL,
        description="incremental: what has changed since the volume's last backup, or all of it where that cannot be "
        "told; full: all of it.",
    )
    quiesce: bool = Field(
        default=True, description="Freeze the guest's file systems meanwhile, if its guest agent answers."
    )

    def to_order(self) -> BackupOrder:
        """The same in our words."""
        return BackupOrder(self.ecs_id, self.volume_id, self.mode, quiesces=self.quiesce)


class BackupBody(AnswerModel):
    """One volume at one moment, as a file: what is told here belongs beside the file when that is kept."""

    backup_id: str = Field(examples=["backup-x7jz40yae9lrepr5"])
    point_id: str = Field(description="The same for all volumes that were backed up at this moment.")
    ecs_id: str = Field(examples=["ecs-erxb7y4ohhk7kv"])
    volume_uuid: str = Field(examples=["volume-0b8c3f0e-5d0e-4b8f-9a57-1f1d3f1b7c55"])
    volume_name: str
    is_os_disk: bool = Field(alias="isOSDisk")
    tenant_id: str
    status: str = Field(description="creating, available, deleting or error.")
    mode: str = Field(description="full: the file stands alone; incremental: it is based on the parent's.")
    parent_id: str = Field(description="The backup that an increment is based on; empty: none.")
    parent_file_name: str = Field(description="What the file of an increment calls its parent's.")
    whole_because: str = Field(description="Why it is full, though there was a backup before; empty: it was wanted so.")
    consistency: str = Field(
        description="fileSystem: the guest was off, or its file systems were frozen; crash: as after a power failure."
    )
    format: str
    file_name: str = Field(examples=["backup-x7jz40yae9lrepr5.qcow2"])
    file_bytes: int
    sha256: str = Field(description="Of the file, in lower-case hex.")
    size_bytes: int = Field(description="Of the disk.")
    has_file: bool = Field(description="Whether it can still be downloaded.")
    file_expires_at: Moment
    is_parent: bool = Field(description="Whether the next increment of the volume will be based on it.")
    taken_at: Moment
    created_at: Moment
    error_message: str

    @classmethod
    def of(cls, row: VolumeBackup, now: datetime) -> Self:
        """The same of a row."""
        is_kept = row.file_expires_at is not None and now < row.file_expires_at
        return cls(
            volume_uuid=f"volume-{row.volume_uuid}",
            is_os_disk=row.is_os_disk,
            mode=BackupMode.INCREMENTAL if row.parent_id else BackupMode.FULL,
            parent_file_name=name_file(row.parent_id) if row.parent_id else "",
            format=FORMAT,
            file_name=name_file(row.backup_id),
            size_bytes=row.size_gib << 30,
            has_file=row.status == BackupStatus.AVAILABLE and is_kept,
            is_parent=row.status == BackupStatus.AVAILABLE and row.holds_state,
            **{name: getattr(row, name) for name in _SAME},
        )


class BackupListBody(AnswerModel):
    """A page of backups."""

    backups: list[BackupBody]
    total_count: int
