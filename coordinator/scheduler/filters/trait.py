"""The host has the abilities that were asked for."""

from coordinator.domain.placement import Consumer, HostView, PlacementRequest, Rejection, RejectionReason


def reject_without_traits(host: HostView, consumer: Consumer, request: PlacementRequest) -> Rejection | None:
    """Rejects hosts that lack a trait."""
    missing = request.traits - host.traits
    if not missing:
        return None
    return Rejection(
        "trait",
        RejectionReason.TRAIT_MISSING,
        wanted=", ".join(sorted(missing)),
        available=", ".join(sorted(host.traits)) or "none",
    )
