"""The host has the attribute that the request names: zone, architecture, CPU model."""

from dataclasses import dataclass

from coordinator.domain.placement import Consumer, PlacementRequest, Rejection, RejectionReason
from coordinator.scheduler.column import BoolColumn
from coordinator.scheduler.filters.base import OneReason
from coordinator.scheduler.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class AttributeFilter(OneReason):
    """Rejects hosts with another value, when the request names one. `name` is that of the field in both."""

    name: str
    reason: RejectionReason

    def admit(self, hosts: Snapshot, consumer: Consumer, request: PlacementRequest) -> BoolColumn | None:
        """See Filter."""
        wanted: str = getattr(request, self.name)
        return hosts.matches(self.name, wanted) if wanted else None

    def explain(self, hosts: Snapshot, row: int, consumer: Consumer, request: PlacementRequest) -> Rejection:
        """See Filter."""
        present: str = getattr(hosts.host(row), self.name)
        return Rejection(self.name, self.reason, wanted=getattr(request, self.name), available=present)
