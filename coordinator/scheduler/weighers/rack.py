"""How much of a host's rack is free: racks fill alike, so that a rack that fails takes no more than its part along."""

from typing import Final

import numpy as np

from coordinator.domain.placement import Consumer, PlacementRequest, ResourceClass
from coordinator.scheduler.column import FloatColumn, IntColumn
from coordinator.scheduler.snapshot import Snapshot

_NEUTRAL: Final = 0.5
_LEAST_RACKS: Final = 2


class RackWeigher:
    """The share of the rack's vCPUs that is free.

    A half for hosts of no known rack, for all where there are not two racks, and for hosts with GPUs, where the GPUs
    decide: see RoomWeigher.
    """

    name = "rack"

    def weigh(self, hosts: Snapshot, rows: IntColumn, consumer: Consumer, request: PlacementRequest) -> FloatColumn:
        """See Weigher."""
        is_labelled = ~hosts.matches("rack", "")
        codes = hosts.codes("rack")
        racks = np.bincount(codes[is_labelled])
        if np.count_nonzero(racks) < _LEAST_RACKS:
            return np.full(len(rows), _NEUTRAL)
        free = np.bincount(codes, np.maximum(hosts.free(ResourceClass.VCPU), 0))
        limit = np.bincount(codes, np.maximum(hosts.limit(ResourceClass.VCPU), 0))
        shares = (free / np.maximum(limit, 1))[codes[rows]]
        return np.where(is_labelled[rows] & ~hosts.gpus.present(rows), shares, _NEUTRAL)
