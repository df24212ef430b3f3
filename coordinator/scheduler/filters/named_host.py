"""The host is the one that was asked for."""

from coordinator.domain.placement import Consumer, HostView, PlacementRequest, Rejection, RejectionReason


def reject_other_host(host: HostView, consumer: Consumer, request: PlacementRequest) -> Rejection | None:
    """Rejects all hosts but the one named by id or by name, when one is named."""
    if request.node_id and host.node_id != request.node_id:
        return Rejection("named_host", RejectionReason.OTHER_HOST, wanted=request.node_id, available=host.node_id)
    if request.node_name and host.name != request.node_name:
        return Rejection("named_host", RejectionReason.OTHER_HOST, wanted=request.node_name, available=host.name)
    return None
