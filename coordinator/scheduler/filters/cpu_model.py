"""The host has the processor that the flavor type names."""

from coordinator.domain.placement import Consumer, HostView, PlacementRequest, Rejection, RejectionReason


def reject_other_cpu_model(host: HostView, consumer: Consumer, request: PlacementRequest) -> Rejection | None:
    """Rejects hosts with another processor model, when one is named."""
    if request.cpu_model in ("", host.cpu_model):
        return None
    return Rejection("cpu_model", RejectionReason.OTHER_CPU_MODEL, wanted=request.cpu_model, available=host.cpu_model)
