"""The host has enough of every counted resource."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import numpy as np

from coordinator.domain.placement import (
    Consumer,
    PlacementRequest,
    Rejection,
    RejectionReason,
    ResourceClass,
)
from coordinator.domain.unit import GIB, MIB, format_bytes
from coordinator.scheduler.column import BoolColumn, IntColumn
from coordinator.scheduler.snapshot import Snapshot

_REASONS: Final[Mapping[ResourceClass, RejectionReason]] = {
    ResourceClass.VCPU: RejectionReason.TOO_FEW_VCPUS,
    ResourceClass.DEDICATED_VCPU: RejectionReason.TOO_FEW_DEDICATED_CPUS,
    ResourceClass.MEMORY_MIB: RejectionReason.TOO_LITTLE_MEMORY,
    ResourceClass.STORAGE_GIB: RejectionReason.TOO_LITTLE_STORAGE,
    ResourceClass.LOCAL_STORAGE_GIB: RejectionReason.TOO_LITTLE_LOCAL_STORAGE,
}

_FORMATS: Final[Mapping[ResourceClass, Callable[[int], str]]] = {
    ResourceClass.VCPU: lambda amount: f"{amount} vCPU" if amount == 1 else f"{amount} vCPUs",
    ResourceClass.DEDICATED_VCPU: lambda amount: f"{amount} CPU" if amount == 1 else f"{amount} CPUs",
    ResourceClass.MEMORY_MIB: lambda amount: format_bytes(amount * MIB),
    ResourceClass.STORAGE_GIB: lambda amount: format_bytes(amount * GIB),
    ResourceClass.LOCAL_STORAGE_GIB: lambda amount: format_bytes(amount * GIB),
}


class CapacityFilter:
    """Rejects hosts with too little of a counted resource, naming the first one."""

    name = "capacity"

    def admit(self, hosts: Snapshot, consumer: Consumer, request: PlacementRequest) -> BoolColumn | None:
        """See Filter."""
        columns = [_suffices(hosts, name, amount) for name, amount in consumer.resources.items() if amount > 0]
        return np.logical_and.reduce(columns) if columns else None

    def explain(self, hosts: Snapshot, row: int, consumer: Consumer, request: PlacementRequest) -> Rejection:
        """See Filter."""
        wanted = ((name, consumer.resources.get(name, 0)) for name in ResourceClass)
        resource_class = next(name for name, amount in wanted if amount and not _suffices(hosts, name, amount)[row])
        free = max(int(hosts.free(resource_class)[row]), 0)
        to_text = _FORMATS[resource_class]
        return Rejection(
            self.name,
            _REASONS[resource_class],
            wanted=to_text(consumer.resources[resource_class]),
            available=to_text(free),
        )

    def part(
        self, hosts: Snapshot, rows: IntColumn, consumer: Consumer, request: PlacementRequest
    ) -> Iterable[IntColumn]:
        """See Filter."""
        for resource_class in ResourceClass:
            wanted, free = consumer.resources.get(resource_class, 0), hosts.free(resource_class)[rows]
            short = ~_suffices(hosts, resource_class, wanted)[rows]
            if wanted > 0 and short.any():
                yield rows[short][np.argsort(-free[short], kind="stable")]
                rows = rows[~short]


def _suffices(hosts: Snapshot, resource_class: ResourceClass, amount: int) -> BoolColumn:
    enough: BoolColumn = hosts.free(resource_class) >= amount
    if resource_class is ResourceClass.STORAGE_GIB and hosts.storage.is_used:
        # Space that is counted by type is StorageFilter's.
        enough |= hosts.storage.told(len(hosts))
    return enough
