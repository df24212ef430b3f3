"""The host finds volumes where they are."""

import numpy as np

from coordinator.domain.placement import Consumer, PlacementRequest, Rejection, RejectionReason
from coordinator.scheduler.column import BoolColumn
from coordinator.scheduler.filters.base import OneReason
from coordinator.scheduler.snapshot import Snapshot


class PlaceFilter(OneReason):
    """Rejects hosts that do not share all places which the request names. Few requests do."""

    name = "place"

    def admit(self, hosts: Snapshot, consumer: Consumer, request: PlacementRequest) -> BoolColumn | None:
        """See Filter."""
        if not request.places:
            return None
        return np.array([request.places <= hosts.host(row).places for row in range(len(hosts))], np.bool_)

    def explain(self, hosts: Snapshot, row: int, consumer: Consumer, request: PlacementRequest) -> Rejection:
        """See Filter."""
        present = hosts.host(row).places
        return Rejection(
            self.name,
            RejectionReason.OTHER_STORAGE,
            wanted=", ".join(sorted(request.places)),
            available=", ".join(sorted(present)),
        )
