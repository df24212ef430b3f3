"""What a weigher is."""

from typing import Protocol

from coordinator.domain.placement import Consumer, PlacementRequest
from coordinator.scheduler.snapshot import FloatColumn, Snapshot


class Weigher(Protocol):
    """An opinion on how good each host would be."""

    @property
    def name(self) -> str:
        """What people know it by, and its weight in the configuration."""

    def weigh(self, hosts: Snapshot, consumer: Consumer, request: PlacementRequest) -> FloatColumn:
        """From 0, the worst, to 1. Values of hosts that the filters reject mean nothing."""
