"""What a filter is."""

from collections.abc import Iterable
from typing import Protocol

from coordinator.domain.placement import Consumer, PlacementRequest, Rejection
from coordinator.scheduler.column import BoolColumn, IntColumn
from coordinator.scheduler.snapshot import Snapshot


class Filter(Protocol):
    """A rule that a host must fulfil to take a consumer."""

    @property
    def name(self) -> str:
        """What people know it by."""

    def admit(self, hosts: Snapshot, consumer: Consumer, request: PlacementRequest) -> BoolColumn | None:
        """Which hosts fulfil it; None when all do, because the request does not ask for it."""

    def explain(self, hosts: Snapshot, row: int, consumer: Consumer, request: PlacementRequest) -> Rejection:
        """Why this host does not; asked only of hosts that were not admitted."""

    def part(
        self, hosts: Snapshot, rows: IntColumn, consumer: Consumer, request: PlacementRequest
    ) -> Iterable[IntColumn]:
        """Hosts that were not admitted, parted by the reason; in each part the host that comes nearest is first."""


class OneReason:
    """A filter that has one reason against all hosts that it rejects."""

    def part(
        self, hosts: Snapshot, rows: IntColumn, consumer: Consumer, request: PlacementRequest
    ) -> Iterable[IntColumn]:
        """See Filter."""
        return (rows,)
