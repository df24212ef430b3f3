"""What a weigher is."""

from typing import Protocol

from coordinator.domain.placement import Consumer, PlacementRequest
from coordinator.scheduler.column import FloatColumn, IntColumn
from coordinator.scheduler.snapshot import Snapshot


class Weigher(Protocol):
    """An opinion on how good hosts would be."""

    @property
    def name(self) -> str:
        """What people know it by, and its weight in the configuration."""

    def weigh(
        self, hosts: Snapshot, rows: IntColumn, consumer: Consumer, request: PlacementRequest
    ) -> FloatColumn | None:
        """A number for each of these rows, all of which the filters admit: more is better, mostly from 0 to 1.

        NaN for a host that was not looked at, because others promise more. None when the request does not ask for it.
        """
