"""Kinds of volumes, what becomes of them, and how much of them there may be."""

from enum import StrEnum
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

# Storage classes as tenants see them; each node maps them to what it has.
VolumeType = Literal["hdd", "ssd", "essd"]
VOLUME_TYPES: Final[tuple[VolumeType, ...]] = ("hdd", "ssd", "essd")
# That of disks which a flavor brings along, out of storage that nodes have for them: nobody orders one by itself.
ELASTIC_TYPE: Final = "elasticity"
# Of one instance, the system disk included.
MAXIMUM_VOLUMES: Final = 16
# Instances that share one volume.
MAXIMUM_SHARERS: Final = 16
MAXIMUM_VOLUME_GIB: Final = 64 * 1024


class VolumeLimit(BaseModel):
    """What one volume of a type may do at most, a second; 0: not limited. A total and its parts exclude each other."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    total_iops: int = Field(default=0, ge=0, le=10**9)
    read_iops: int = Field(default=0, ge=0, le=10**9)
    write_iops: int = Field(default=0, ge=0, le=10**9)
    total_mib_per_second: int = Field(default=0, ge=0, le=10**6)
    read_mib_per_second: int = Field(default=0, ge=0, le=10**6)
    write_mib_per_second: int = Field(default=0, ge=0, le=10**6)
    # So many times the limits may be exceeded, for so many seconds at a time; both or neither.
    burst_factor: int = Field(default=0, ge=0, le=100)
    burst_seconds: int = Field(default=0, ge=0, le=3600)

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        for unit in ("iops", "mib_per_second"):
            parts = [getattr(self, f"{kind}_{unit}") for kind in ("read", "write")]
            if getattr(self, f"total_{unit}") and any(parts):
                raise ValueError(f"total_{unit} excludes read_{unit} and write_{unit}")
        if bool(self.burst_factor) != bool(self.burst_seconds) or self.burst_factor == 1:
            raise ValueError("burst_factor (2 or more) and burst_seconds belong together")
        return self

    @property
    def most_iops(self) -> int:
        """Of reads and writes together; 0: not limited."""
        return self.total_iops or (self.read_iops + self.write_iops if self.read_iops and self.write_iops else 0)

    @property
    def most_mib_per_second(self) -> int:
        """The same of bytes."""
        parts = (self.read_mib_per_second, self.write_mib_per_second)
        return self.total_mib_per_second or (sum(parts) if all(parts) else 0)


class VolumeBackend(StrEnum):
    """Where its node keeps a volume."""

    # An older agent has not told it.
    UNKNOWN = ""
    FILE = "file"
    LVM = "lvm"
    LVM_THIN = "lvmThin"
    CEPH = "ceph"


# No other node finds what is there.
LOCAL_BACKENDS: Final = frozenset({VolumeBackend.LVM, VolumeBackend.LVM_THIN})


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
