"""Snapshots of instances: what they are, and what becomes of them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

MAXIMUM_SNAPSHOT_NAME: Final = 127


class SnapshotStatus(StrEnum):
    """What a snapshot is, or is becoming."""

    CREATING = "creating"
    AVAILABLE = "available"
    ROLLING_BACK = "rollbacking"
    DELETING = "deleting"
    ERROR = "error"


class SnapshotType(StrEnum):
    """Who wanted it."""

    MANUAL = "manual"
    # A snapshot policy or a scheduled task.
    AUTO = "auto"


class Consistency(StrEnum):
    """What the volumes of a snapshot hold together."""

    # It is not there yet.
    UNKNOWN = ""
    # What the disks would have held after a power failure at that moment.
    CRASH = "crash"
    # The guest's file systems were frozen, or the guest was off.
    FILE_SYSTEM = "fileSystem"


@dataclass(frozen=True, slots=True)
class SnapshotOrder:
    """What a snapshot shall be."""

    name: str
    description: str = ""
    type: SnapshotType = SnapshotType.MANUAL
    # When it may be deleted by whoever ordered it; None: never.
    expires_at: datetime | None = None
    # Ask the guest agent to freeze the file systems meanwhile; without one it is taken all the same.
    quiesces: bool = True
