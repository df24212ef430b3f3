"""The host has enough of every counted resource."""

from collections.abc import Callable, Mapping

from coordinator.domain.placement import (
    Consumer,
    HostView,
    PlacementRequest,
    Rejection,
    RejectionReason,
    ResourceClass,
)
from coordinator.domain.unit import GIB, MIB, format_bytes
from coordinator.scheduler.fit import Misfit, fit

_REASONS: Mapping[ResourceClass, RejectionReason] = {
    ResourceClass.VCPU: RejectionReason.TOO_FEW_VCPUS,
    ResourceClass.MEMORY_MIB: RejectionReason.TOO_LITTLE_MEMORY,
    ResourceClass.STORAGE_GIB: RejectionReason.TOO_LITTLE_STORAGE,
}

_FORMATS: Mapping[ResourceClass, Callable[[int], str]] = {
    ResourceClass.VCPU: lambda amount: f"{amount} vCPU" if amount == 1 else f"{amount} vCPUs",
    ResourceClass.MEMORY_MIB: lambda amount: format_bytes(amount * MIB),
    ResourceClass.STORAGE_GIB: lambda amount: format_bytes(amount * GIB),
}


def reject_full(host: HostView, consumer: Consumer, request: PlacementRequest) -> Rejection | None:
    """Rejects hosts with too little of a counted resource, naming the first one."""
    outcome = fit(host, consumer)
    if not isinstance(outcome, Misfit):
        return None
    to_text = _FORMATS[outcome.resource_class]
    return Rejection(
        "capacity",
        _REASONS[outcome.resource_class],
        wanted=to_text(outcome.wanted),
        available=to_text(outcome.free),
        available_amount=outcome.free,
    )
