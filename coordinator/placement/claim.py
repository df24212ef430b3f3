"""Claims: the scheduler's choice made binding, exact under concurrency.

SQLite has one writer at a time. On PostgreSQL a claim counts only if the generation of every chosen node is still the
one that the scheduler saw; else it looks again, and after its first conflict it queues up with the other losers.
"""

from collections.abc import Collection

from sqlmodel import Session

from coordinator.domain.placement import Decision, PlacementRequest
from coordinator.runtime import Runtime


def claim(session: Session, runtime: Runtime, request: PlacementRequest, *, external: bool = False) -> Decision:
    """Places all consumers of `request` or none, and allocates for them in the caller's transaction.

    Idempotent by consumer: one that holds the same resources keeps its host. Raises AllocationMismatch when one holds
    other resources, ServiceUnavailable when too many claims collide.
    """
    raise NotImplementedError


def explain(session: Session, request: PlacementRequest) -> Decision:
    """What `claim` would decide now; changes nothing."""
    raise NotImplementedError


def release(session: Session, consumer_uuids: Collection[str]) -> None:
    """The consumers hold nothing any more; absence is success."""
    raise NotImplementedError

