"""How empty a host stays: spreads consumers over hosts with a positive weight, packs them with a negative one."""

from collections.abc import Callable
from typing import Final

import numpy as np

from coordinator.domain.placement import Consumer, PlacementRequest, ResourceClass
from coordinator.scheduler.column import FloatColumn, IntColumn
from coordinator.scheduler.snapshot import Snapshot

_CLASSES: Final = (ResourceClass.VCPU, ResourceClass.MEMORY_MIB)


def shares_left(hosts: Snapshot, rows: IntColumn, consumer: Consumer, resource_class: ResourceClass) -> FloatColumn:
    """The share of each host's limit that is free once the consumer is there."""
    left = hosts.free(resource_class)[rows] - consumer.resources.get(resource_class, 0)
    return np.clip(left / np.maximum(hosts.limit(resource_class)[rows], 1), 0.0, 1.0)


class RoomWeigher:
    """The mean of the shares of vCPUs and memory that stay free.

    Of hosts with GPUs always a half: there the GPUs decide, and spreading would break up room for many of them.
    """

    name = "room"

    def weigh(self, hosts: Snapshot, rows: IntColumn, consumer: Consumer, request: PlacementRequest) -> FloatColumn:
        """See Weigher."""
        return _weigh(hosts, rows, consumer, lambda vcpus, memory: (vcpus + memory) / 2)


class BalanceWeigher:
    """How alike the shares of vCPUs and memory are: what is left of one is of no use without the other."""

    name = "balance"

    def weigh(self, hosts: Snapshot, rows: IntColumn, consumer: Consumer, request: PlacementRequest) -> FloatColumn:
        """See Weigher."""
        return _weigh(hosts, rows, consumer, lambda vcpus, memory: 1.0 - np.abs(vcpus - memory))


def _weigh(
    hosts: Snapshot,
    rows: IntColumn,
    consumer: Consumer,
    judge: Callable[[FloatColumn, FloatColumn], FloatColumn],
) -> FloatColumn:
    """What the shares that stay free are worth; a half where there are GPUs."""
    with_gpus = hosts.gpus.present(rows)
    if with_gpus.all():
        return np.full(len(rows), 0.5)
    vcpus, memory = (shares_left(hosts, rows, consumer, resource_class) for resource_class in _CLASSES)
    return np.where(with_gpus, 0.5, judge(vcpus, memory))
