"""How much is under way on a host already: images are fetched and disks are made one after the other."""

from coordinator.domain.placement import Consumer, PlacementRequest
from coordinator.scheduler.column import FloatColumn, IntColumn
from coordinator.scheduler.snapshot import Snapshot


class InFlightWeigher:
    """1 where no build or move is under way, a half with one, a third with two."""

    name = "in_flight"

    def weigh(self, hosts: Snapshot, rows: IntColumn, consumer: Consumer, request: PlacementRequest) -> FloatColumn:
        """See Weigher."""
        column: FloatColumn = 1.0 / (1 + hosts.in_flight[rows])
        return column
