"""The host has the abilities that were asked for."""

from coordinator.domain.placement import Consumer, PlacementRequest, Rejection, RejectionReason
from coordinator.scheduler.column import BoolColumn
from coordinator.scheduler.filters.base import OneReason
from coordinator.scheduler.snapshot import Snapshot


class TraitFilter(OneReason):
    """Rejects hosts that lack a trait."""

    name = "trait"

    def admit(self, hosts: Snapshot, consumer: Consumer, request: PlacementRequest) -> BoolColumn | None:
        """See Filter."""
        return hosts.has_traits(request.traits) if request.traits else None

    def explain(self, hosts: Snapshot, row: int, consumer: Consumer, request: PlacementRequest) -> Rejection:
        """See Filter."""
        present = hosts.host(row).traits
        return Rejection(
            self.name,
            RejectionReason.TRAIT_MISSING,
            wanted=", ".join(sorted(request.traits - present)),
            available=", ".join(sorted(present)) or "none",
        )
