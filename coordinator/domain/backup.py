"""Backups of volumes: what they are, and what becomes of them."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

# Nodes keep a backup's file for two days; an hour of that is theirs.
FILE_LIFE: Final = timedelta(hours=47)
FORMAT: Final = "qcow2"


class BackupStatus(StrEnum):
    """What a backup is, or is becoming."""

    CREATING = "creating"
    AVAILABLE = "available"
    DELETING = "deleting"
    ERROR = "error"


class BackupMode(StrEnum):
    """What of a volume is to be copied."""

    # All of it.
    FULL = "full"
    # What has changed since its last backup; all of it where that cannot be told.
    INCREMENTAL = "incremental"


@dataclass(frozen=True, slots=True)
class BackupOrder:
    """What is to be backed up: all volumes of an instance, or one volume that an instance has."""

    ecs_id: str = ""
    volume_id: str = ""
    mode: BackupMode = BackupMode.INCREMENTAL
    # Ask the guest agent to freeze the file systems meanwhile; without one it is made all the same.
    quiesces: bool = True


def name_file(backup_id: str) -> str:
    """How a backup's file is called; an increment refers to its parent's by this name."""
    return f"{backup_id}.{FORMAT}"
