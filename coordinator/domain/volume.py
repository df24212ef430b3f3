"""Kinds of volumes, what becomes of them, and how much of them there may be."""

from enum import StrEnum
from typing import Final

# Storage classes as tenants see them; each node maps them to what it has.
VOLUME_TYPES: Final = ("hdd", "ssd", "essd")
# That of disks which a flavor brings along, out of storage that nodes have for them: nobody orders one by itself.
ELASTIC_TYPE: Final = "elasticity"
# Of one instance, the system disk included.
MAXIMUM_VOLUMES: Final = 16
MAXIMUM_VOLUME_GIB: Final = 64 * 1024


class VolumeStatus(StrEnum):
    """What a volume is, or is becoming."""

    AVAILABLE = "available"
    CREATING = "creating"
    ATTACHING = "attaching"
    IN_USE = "inUse"
    DETACHING = "detaching"
    GROWING = "growing"
    DELETING = "deleting"
    ERROR = "error"
