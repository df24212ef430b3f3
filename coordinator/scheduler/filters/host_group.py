"""The host is in the host group of the request; who has no group stays off hosts that have one."""

from coordinator.domain.placement import Consumer, PlacementRequest, Rejection, RejectionReason
from coordinator.scheduler.column import BoolColumn
from coordinator.scheduler.filters.base import OneReason
from coordinator.scheduler.snapshot import Snapshot


class HostGroupFilter(OneReason):
    """Rejects hosts of other groups, of none where one is asked for, and of any where none is."""

    name = "host_group"

    def admit(self, hosts: Snapshot, consumer: Consumer, request: PlacementRequest) -> BoolColumn | None:
        """See Filter."""
        return hosts.matches("group_id", request.group_id)

    def explain(self, hosts: Snapshot, row: int, consumer: Consumer, request: PlacementRequest) -> Rejection:
        """See Filter."""
        reason = RejectionReason.OTHER_GROUP if request.group_id else RejectionReason.GROUPED
        present = hosts.host(row).group_id
        return Rejection(self.name, reason, wanted=request.group_id or "none", available=present or "none")
