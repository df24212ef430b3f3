"""The host executes the guest's instruction set."""

from coordinator.domain.placement import Consumer, HostView, PlacementRequest, Rejection, RejectionReason


def reject_other_architecture(host: HostView, consumer: Consumer, request: PlacementRequest) -> Rejection | None:
    """Rejects hosts of another architecture, when one is named."""
    if request.architecture in ("", host.architecture):
        return None
    return Rejection(
        "architecture", RejectionReason.OTHER_ARCHITECTURE, wanted=request.architecture, available=host.architecture
    )
