"""What a filter is."""

from collections.abc import Callable

from coordinator.domain.placement import Consumer, HostView, PlacementRequest, Rejection

# None: the host passes. Else why this consumer cannot go there.
Filter = Callable[[HostView, Consumer, PlacementRequest], Rejection | None]
