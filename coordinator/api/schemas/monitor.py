"""Counts and capacity on the wire."""

from pydantic import Field

from coordinator.api.schemas.base import AnswerModel
from coordinator.domain.message import Message
from coordinator.services.monitor import InstanceCount, RegionCapacity, Room

_CORES = Message("cores", "核")


class InstanceCountBody(AnswerModel):
    """How many instances there are."""

    total_count: int
    running_count: int
    stopped_count: int
    error_count: int = Field(description="In a status of error, or unknown.")
    other_count: int = Field(description="In between.")

    @classmethod
    def of(cls, count: InstanceCount) -> "InstanceCountBody":
        return cls(
            total_count=count.total,
            running_count=count.running,
            stopped_count=count.stopped,
            error_count=count.error,
            other_count=count.other,
        )


class RoomBody(AnswerModel):
    """One resource over all nodes."""

    allocatable: int
    usage: int
    remain: int
    unit: str

    @classmethod
    def of(cls, room: Room, unit: str) -> "RoomBody":
        return cls(allocatable=room.allocatable, usage=room.used, remain=room.remaining, unit=unit)


class CapacityBody(AnswerModel):
    """What the nodes can take, and what is taken."""

    cpu: RoomBody = Field(description="vCPUs, overcommitment included.")
    ram: RoomBody = Field(description="Memory.")

    @classmethod
    def of(cls, capacity: RegionCapacity, language: str) -> "CapacityBody":
        return cls(cpu=RoomBody.of(capacity.vcpus, _CORES.text(language)), ram=RoomBody.of(capacity.memory_gib, "Gi"))
