"""The region at a glance: how many instances, how much room."""

from dataclasses import dataclass

from coordinator.domain.caller import Caller
from coordinator.domain.instance import ERROR_STATUSES, InstanceStatus
from coordinator.domain.placement import ResourceClass
from coordinator.runtime import Runtime
from coordinator.store.queries import monitor as queries

_MIB_PER_GIB = 1024


@dataclass(frozen=True, slots=True)
class InstanceCount:
    """Instances that are not deleted, by what their status means."""

    total: int
    running: int
    stopped: int
    error: int

    @property
    def other(self) -> int:
        """Those in between."""
        return self.total - self.running - self.stopped - self.error


@dataclass(frozen=True, slots=True)
class Room:
    """One resource over all nodes that are ready; nodes that are away offer nothing."""

    allocatable: int
    used: int

    @property
    def remaining(self) -> int:
        """Never negative, even where a ratio was lowered under the present use."""
        return max(self.allocatable - self.used, 0)


@dataclass(frozen=True, slots=True)
class RegionCapacity:
    """vCPUs after overcommitment, and memory."""

    vcpus: Room
    memory_gib: Room


def count_instances_by_status(runtime: Runtime, caller: Caller) -> InstanceCount:
    """How many instances run, are stopped, are in error."""
    with runtime.database.read() as session:
        counts = dict(queries.count_instances_by_status(session))
    # What is in the recycle bin is deleted, for those who count.
    counts.pop(InstanceStatus.SOFT_DELETED, None)
    return InstanceCount(
        total=sum(counts.values()),
        running=counts.get(InstanceStatus.RUNNING, 0),
        stopped=counts.get(InstanceStatus.STOPPED, 0),
        error=sum(counts.get(status, 0) for status in ERROR_STATUSES),
    )


def get_capacity(runtime: Runtime, caller: Caller) -> RegionCapacity:
    """What the region's nodes can take, and what is taken; dedicated CPUs and huge pages included."""
    with runtime.database.read() as session:
        vcpus = queries.list_capacities(session, ResourceClass.VCPU)
        memory = queries.list_capacities(session, ResourceClass.MEMORY_MIB)
        dedicated_vcpus = queries.sum_dedicated_vcpus(session)
        pages_mib, used_pages_mib = queries.sum_huge_pages_mib(session)
    memory_used_mib = sum(capacity.used for capacity in memory) + used_pages_mib
    return RegionCapacity(
        # A CPU that is dedicated counts once, whatever the ratio.
        vcpus=Room(
            # A node that keeps more for itself than is left takes nothing away from the others.
            sum(max(capacity.limit, 0) for capacity in vcpus) + dedicated_vcpus,
            sum(capacity.used for capacity in vcpus) + dedicated_vcpus,
        ),
        memory_gib=Room(
            (sum(capacity.limit for capacity in memory) + pages_mib) // _MIB_PER_GIB,
            # Rounded up: a started GiB is not free.
            -(-memory_used_mib // _MIB_PER_GIB),
        ),
    )
