"""The host is in the zone that was asked for."""

from coordinator.domain.placement import Consumer, HostView, PlacementRequest, Rejection, RejectionReason


def reject_other_zone(host: HostView, consumer: Consumer, request: PlacementRequest) -> Rejection | None:
    """Rejects hosts of other zones, when a zone is named."""
    if request.zone in ("", host.zone):
        return None
    return Rejection("zone", RejectionReason.OTHER_ZONE, wanted=request.zone, available=host.zone)
