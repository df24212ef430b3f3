"""The host is in a state in which it takes consumers: its agent is connected, and no operator closed it."""

from coordinator.domain.placement import Consumer, PlacementRequest, Rejection, RejectionReason
from coordinator.scheduler.column import BoolColumn
from coordinator.scheduler.filters.base import OneReason
from coordinator.scheduler.snapshot import Snapshot


class ReadyFilter(OneReason):
    """Rejects hosts that have not registered or whose lease ran out."""

    name = "ready"

    def admit(self, hosts: Snapshot, consumer: Consumer, request: PlacementRequest) -> BoolColumn | None:
        """See Filter."""
        return hosts.ready

    def explain(self, hosts: Snapshot, row: int, consumer: Consumer, request: PlacementRequest) -> Rejection:
        """See Filter."""
        return Rejection(self.name, RejectionReason.AWAY, wanted="ready", available="away")


class SchedulableFilter(OneReason):
    """Rejects hosts that an operator closed for new instances."""

    name = "schedulable"

    def admit(self, hosts: Snapshot, consumer: Consumer, request: PlacementRequest) -> BoolColumn | None:
        """See Filter."""
        return hosts.schedulable

    def explain(self, hosts: Snapshot, row: int, consumer: Consumer, request: PlacementRequest) -> Rejection:
        """See Filter."""
        return Rejection(self.name, RejectionReason.CORDONED, wanted="schedulable", available="closed by an operator")
