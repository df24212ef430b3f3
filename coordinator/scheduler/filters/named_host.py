"""The host is the one that was asked for."""

import numpy as np

from coordinator.domain.placement import Consumer, PlacementRequest, Rejection, RejectionReason
from coordinator.scheduler.column import BoolColumn
from coordinator.scheduler.filters.base import OneReason
from coordinator.scheduler.snapshot import Snapshot


class NamedHostFilter(OneReason):
    """Rejects all hosts but the one named by id or by name, when one is named."""

    name = "named_host"

    def admit(self, hosts: Snapshot, consumer: Consumer, request: PlacementRequest) -> BoolColumn | None:
        """See Filter."""
        if not (request.node_id or request.node_name):
            return None
        admitted = np.zeros(len(hosts), np.bool_)
        row = hosts.find(request.node_id) if request.node_id else hosts.find_by_name(request.node_name)
        if row is not None and request.node_name in ("", hosts.host(row).name):
            admitted[row] = True
        return admitted

    def explain(self, hosts: Snapshot, row: int, consumer: Consumer, request: PlacementRequest) -> Rejection:
        """See Filter."""
        host = hosts.host(row)
        wanted, present = (request.node_id, host.node_id) if request.node_id else (request.node_name, host.name)
        return Rejection(self.name, RejectionReason.OTHER_HOST, wanted=wanted, available=present)
