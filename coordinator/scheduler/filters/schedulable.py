"""No operator keeps new instances away from the host."""

from coordinator.domain.placement import Consumer, HostView, PlacementRequest, Rejection, RejectionReason


def reject_cordoned(host: HostView, consumer: Consumer, request: PlacementRequest) -> Rejection | None:
    """Rejects hosts that an operator closed for new instances."""
    if host.schedulable:
        return None
    return Rejection("schedulable", RejectionReason.CORDONED, wanted="schedulable", available="closed by an operator")
