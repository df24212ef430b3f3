"""Claims: the scheduler's choice made binding, exact under concurrency.

SQLite has one writer at a time. On PostgreSQL a claim counts only if the generation of every chosen node is still the
one that the scheduler saw; else it looks again, and after its first conflict it queues up with the other losers, so
that a rush on one node costs each of them about one more try.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final
from uuid import UUID

from sqlalchemy import delete, func, insert, select, update
from sqlmodel import Session, col

from coordinator.domain.placement import Consumer, Decision, HostView, PlacementRequest, ResourceClass
from coordinator.errors import AllocationMismatch, ServiceUnavailable
from coordinator.scheduler.pipeline import decide
from coordinator.store.queries.placement import read_allocations, read_hosts
from coordinator.store.tables.node import Allocation, Node

_MAX_TRIES: Final = 12
# Key of the advisory lock behind which claims queue up; any number that nobody else uses.
_QUEUE_KEY: Final = 0x6E6F6465
# Advisory locks have signed 64-bit keys.
_LOCK_KEY_MASK: Final = 2**63 - 1


class _SnapshotStale(Exception):
    """A node changed after the scheduler looked at it."""


def claim(session: Session, request: PlacementRequest, *, external: bool = False) -> Decision:
    """Places all consumers of `request` or none, and allocates for them in the caller's transaction.

    Idempotent by consumer: one that holds the same resources keeps its host. Raises AllocationMismatch when one holds
    other resources, ServiceUnavailable when too many claims collide.
    """
    _lock_consumers(session, request.consumers)
    for attempt in range(_MAX_TRIES):
        if attempt > 0:
            _queue_up(session)
        try:
            with session.begin_nested():
                return _try_claim(session, request, external)
        except _SnapshotStale:
            continue
    raise ServiceUnavailable("too many placements at once; try again", "同时进行的调度过多，请稍后重试")


def explain(session: Session, request: PlacementRequest) -> Decision:
    """What `claim` would decide now; changes nothing."""
    hosts = read_hosts(session)
    held = _read_held_hosts(session, request.consumers, hosts)
    missing = _without(request, held)
    return _merge(request, held, decide(hosts, missing))


def release(session: Session, consumer_uuids: Collection[str]) -> None:
    """The consumers hold nothing any more; absence is success."""
    held = read_allocations(session, consumer_uuids)
    node_ids = sorted({allocation.node_id for allocations in held.values() for allocation in allocations})
    if not node_ids:
        return
    session.execute(delete(Allocation).where(col(Allocation.consumer_uuid).in_(list(held))))
    # In one order everywhere, so that claims and releases cannot wait for each other in a circle.
    for node_id in node_ids:
        session.execute(update(Node).where(col(Node.id) == node_id).values(generation=Node.generation + 1))


def _try_claim(session: Session, request: PlacementRequest, external: bool) -> Decision:
    hosts = read_hosts(session)
    held = _read_held_hosts(session, request.consumers, hosts)
    missing = _without(request, held)
    decision = decide(hosts, missing)
    if decision.placed:
        _advance_generations(session, hosts, decision.assignments)
        _insert_allocations(session, missing.consumers, decision.assignments, external)
    return _merge(request, held, decision)


def _read_held_hosts(
    session: Session, consumers: Sequence[Consumer], hosts: Sequence[HostView]
) -> Mapping[str, HostView]:
    """The present host of each consumer that holds just what it asks for."""
    host_of = {host.node_id: host for host in hosts}
    held: dict[str, HostView] = {}
    allocations_of = read_allocations(session, [consumer.uuid for consumer in consumers])
    for consumer in consumers:
        allocations = allocations_of.get(consumer.uuid)
        if not allocations:
            continue
        amounts = {ResourceClass(allocation.resource_class): allocation.amount for allocation in allocations}
        if amounts != _positive(consumer.resources):
            raise AllocationMismatch(consumer.uuid)
        held[consumer.uuid] = host_of[allocations[0].node_id]
    return held


def _advance_generations(session: Session, hosts: Sequence[HostView], assignments: Sequence[HostView]) -> None:
    seen = {host.node_id: host.generation for host in hosts}
    for node_id in sorted({host.node_id for host in assignments}):
        is_current = (col(Node.id) == node_id) & (col(Node.generation) == seen[node_id])
        advanced = session.connection().execute(update(Node).where(is_current).values(generation=seen[node_id] + 1))
        if advanced.rowcount != 1:
            raise _SnapshotStale


def _insert_allocations(
    session: Session, consumers: Sequence[Consumer], assignments: Sequence[HostView], external: bool
) -> None:
    rows = [
        {
            "consumer_uuid": consumer.uuid,
            "node_id": host.node_id,
            "resource_class": resource_class,
            "amount": amount,
            "external": external,
        }
        for consumer, host in zip(consumers, assignments, strict=True)
        for resource_class, amount in _positive(consumer.resources).items()
    ]
    session.connection().execute(insert(Allocation), rows)


def _lock_consumers(session: Session, consumers: Sequence[Consumer]) -> None:
    """Waits for other claims of the same consumers, which might choose other hosts for them."""
    if _is_postgresql(session):
        # In one order everywhere, so that overlapping batches cannot wait for each other in a circle.
        for key in sorted(UUID(consumer.uuid).int & _LOCK_KEY_MASK for consumer in consumers):
            session.execute(select(func.pg_advisory_xact_lock(key)))


def _queue_up(session: Session) -> None:
    """Waits until no other claim that met a conflict is under way; until the caller's transaction ends."""
    if _is_postgresql(session):
        session.execute(select(func.pg_advisory_xact_lock(_QUEUE_KEY)))


def _is_postgresql(session: Session) -> bool:
    return session.get_bind().dialect.name == "postgresql"


def _without(request: PlacementRequest, held: Mapping[str, HostView]) -> PlacementRequest:
    return replace(request, consumers=tuple(c for c in request.consumers if c.uuid not in held))


def _merge(request: PlacementRequest, held: Mapping[str, HostView], decision: Decision) -> Decision:
    """The decision on all consumers, those that held something before included."""
    if len(held) < len(request.consumers) and not decision.placed:
        return decision
    fresh = iter(decision.assignments)
    assignments = tuple(held.get(consumer.uuid) or next(fresh) for consumer in request.consumers)
    return replace(decision, assignments=assignments)


def _positive(resources: Mapping[ResourceClass, int]) -> dict[ResourceClass, int]:
    return {resource_class: amount for resource_class, amount in resources.items() if amount > 0}
