"""The host's agent is connected."""

from coordinator.domain.placement import Consumer, HostView, PlacementRequest, Rejection, RejectionReason


def reject_away(host: HostView, consumer: Consumer, request: PlacementRequest) -> Rejection | None:
    """Rejects hosts that have not registered or whose lease ran out."""
    if host.ready:
        return None
    return Rejection("ready", RejectionReason.AWAY, wanted="ready", available="away")
