"""Claims: the scheduler's choice made binding, exact under concurrency.

The scheduler chooses on a cached snapshot, which may be behind. Then the rows of the chosen hosts are locked, read and
judged anew by the same rules: what does not hold any more is chosen again. After its first conflict a claim queues up
with the other losers (on PostgreSQL; SQLite has one writer at a time), so that a rush on one host costs each of them
about one more try.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final
from uuid import UUID

from sqlalchemy import delete, func, insert, select
from sqlmodel import Session, col

from coordinator.domain.placement import Consumer, Decision, HostView, PlacementRequest, ResourceClass
from coordinator.errors import AllocationMismatch, ServiceUnavailable
from coordinator.placement.cache import HostCache
from coordinator.scheduler import pipeline
from coordinator.scheduler.snapshot import Snapshot
from coordinator.store.queries.placement import advance_generations, read_allocations, read_hosts
from coordinator.store.tables.node import Allocation

_MAX_TRIES: Final = 12
# Key of the advisory lock behind which claims queue up; any number that nobody else uses.
_QUEUE_KEY: Final = 0x6E6F6465
# Advisory locks have signed 64-bit keys.
_LOCK_KEY_MASK: Final = 2**63 - 1


class _SnapshotStale(Exception):
    """A chosen host was not what the snapshot said."""


def claim(session: Session, hosts: HostCache, request: PlacementRequest, *, external: bool = False) -> Decision:
    """Places all consumers of `request` or none, and allocates for them in the caller's transaction.

    Idempotent by consumer: one that holds the same resources keeps its host. Raises AllocationMismatch when one holds
    other resources, ServiceUnavailable when too many claims collide.
    """
    _lock_consumers(session, request.consumers)
    session.flush()
    held = _read_held_hosts(session, request.consumers)
    missing = _without(request, held)
    for attempt in range(_MAX_TRIES):
        if attempt > 0:
            _queue_up(session)
        decision = _choose(hosts, missing)
        try:
            with session.begin_nested():
                _confirm(session, missing, decision, external)
            return _merge(request, held, decision)
        except _SnapshotStale:
            hosts.suspect({host.node_id for host in decision.assignments})
    raise ServiceUnavailable("too many placements at once; try again", "同时进行的调度过多，请稍后重试")


def explain(session: Session, request: PlacementRequest) -> Decision:
    """What `claim` would decide now, with a verdict on every host; changes nothing."""
    held = _read_held_hosts(session, request.consumers)
    missing = _without(request, held)
    decision = pipeline.explain(Snapshot(read_hosts(session.connection())), missing)
    return _merge(request, held, decision)


def release(session: Session, consumer_uuids: Collection[str]) -> None:
    """The consumers hold nothing any more; absence is success."""
    held = read_allocations(session, consumer_uuids)
    node_ids = {allocation.node_id for allocations in held.values() for allocation in allocations}
    if node_ids:
        session.execute(delete(Allocation).where(col(Allocation.consumer_uuid).in_(list(held))))
        advance_generations(session, node_ids)


def _choose(hosts: HostCache, request: PlacementRequest) -> Decision:
    """The decision on the cached snapshot; on a new one before anybody is told that there is no room."""
    with hosts.current() as snapshot:
        decision = pipeline.decide(snapshot, request)
    if decision.placed or not request.consumers or not hosts.reload():
        return decision
    with hosts.current() as snapshot:
        return pipeline.decide(snapshot, request)


def _confirm(session: Session, request: PlacementRequest, decision: Decision, external: bool) -> None:
    """Allocates after another look at the chosen hosts, which nobody else can change now."""
    if not decision.placed:
        return
    chosen = {host.node_id for host in decision.assignments}
    advance_generations(session, chosen)
    present = Snapshot(read_hosts(session.connection(), chosen))
    if not pipeline.admits(present, request, decision.assignments):
        raise _SnapshotStale
    _insert_allocations(session, request.consumers, decision.assignments, external)


def _read_held_hosts(session: Session, consumers: Sequence[Consumer]) -> Mapping[str, HostView]:
    """The present host of each consumer that holds just what it asks for."""
    allocations_of = read_allocations(session, [consumer.uuid for consumer in consumers])
    for consumer in consumers:
        allocations = allocations_of.get(consumer.uuid, [])
        amounts = {ResourceClass(allocation.resource_class): allocation.amount for allocation in allocations}
        if allocations and amounts != _positive(consumer.resources):
            raise AllocationMismatch(consumer.uuid)
    node_of = {uuid: allocations[0].node_id for uuid, allocations in allocations_of.items()}
    host_of = (
        {host.node_id: host for host in read_hosts(session.connection(), set(node_of.values()))} if node_of else {}
    )
    return {uuid: host_of[node_id] for uuid, node_id in node_of.items()}


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
