"""How large an instance can become while it runs: room that its definition leaves for vCPUs and memory to come."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from coordinator.domain.unit import GIB

# Keys of `Instance.options`: the room, and what a guest has that runs with more than the instance's size until it is
# next started.
ROOM: Final = "room"
OUTGROWN: Final = "outgrown"
# More CPUs would need an IOMMU in the guest, which it sees.
_MOST_VCPUS: Final = 128
_MOST_MEMORY_BYTES: Final = 4096 * GIB
# With room above 4 GiB, Linux sets 64 MiB aside for devices that reach no further: too much for a small guest.
_LEAST_MEMORY_BYTES: Final = 2 * GIB


@dataclass(frozen=True, slots=True)
class Room:
    """vCPUs and memory in bytes that it can have at most; 0: as many as it has."""

    vcpus: int = 0
    memory_bytes: int = 0

    def to_json(self) -> dict[str, int]:
        """As it is kept with the instance."""
        return {"vcpus": self.vcpus, "memoryBytes": self.memory_bytes}

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """What was kept; none for an instance from before there was any."""
        kept = options.get(ROOM, {})
        return cls(kept.get("vcpus", 0), kept.get("memoryBytes", 0))


def make_room(vcpus: int, memory_bytes: int, factor: int, *, architecture: str, floats: bool) -> Room:
    """Room for `factor` times the size, where a guest can use it.

    Only x86 guests whose vCPUs and memory float over their node can: what is pinned or comes from huge pages is planned
    before the start.
    """
    if architecture != "x86" or not floats or factor <= 1:
        return Room()
    most_vcpus = min(factor * vcpus, _MOST_VCPUS)
    most_memory = min(factor * memory_bytes, _MOST_MEMORY_BYTES) if memory_bytes >= _LEAST_MEMORY_BYTES else 0
    return Room(most_vcpus if most_vcpus > vcpus else 0, most_memory if most_memory > memory_bytes else 0)
