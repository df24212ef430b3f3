"""The host is in a resource pool that the request admits."""

import numpy as np

from coordinator.domain.placement import Consumer, PlacementRequest, Rejection, RejectionReason
from coordinator.scheduler.column import BoolColumn
from coordinator.scheduler.filters.base import OneReason
from coordinator.scheduler.snapshot import Snapshot


class PoolFilter(OneReason):
    """Rejects hosts outside of the pools, when the request is bound to some."""

    name = "pool"

    def admit(self, hosts: Snapshot, consumer: Consumer, request: PlacementRequest) -> BoolColumn | None:
        """See Filter."""
        if not request.pool_ids:
            return None
        admitted: BoolColumn = np.logical_or.reduce([hosts.matches("pool_id", pool) for pool in request.pool_ids])
        return admitted

    def explain(self, hosts: Snapshot, row: int, consumer: Consumer, request: PlacementRequest) -> Rejection:
        """See Filter."""
        return Rejection(
            self.name,
            RejectionReason.OTHER_POOL,
            wanted=", ".join(sorted(request.pool_ids)),
            available=hosts.host(row).pool_id or "none",
        )
