"""The host is not the one that is to be left."""

import numpy as np

from coordinator.domain.placement import Consumer, PlacementRequest, Rejection, RejectionReason
from coordinator.scheduler.column import BoolColumn
from coordinator.scheduler.filters.base import OneReason
from coordinator.scheduler.snapshot import Snapshot


class PresentHostFilter(OneReason):
    """Rejects the host that the consumers move away from."""

    name = "present_host"

    def admit(self, hosts: Snapshot, consumer: Consumer, request: PlacementRequest) -> BoolColumn | None:
        """See Filter."""
        row = hosts.find(request.away_from) if request.away_from else None
        if row is None:
            return None
        admitted = np.ones(len(hosts), np.bool_)
        admitted[row] = False
        return admitted

    def explain(self, hosts: Snapshot, row: int, consumer: Consumer, request: PlacementRequest) -> Rejection:
        """See Filter."""
        return Rejection(self.name, RejectionReason.PRESENT_HOST, wanted="another", available=hosts.host(row).name)
