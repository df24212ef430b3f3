"""Claims: the scheduler's choice made binding, exact under concurrency.

The scheduler chooses on a cached snapshot, which may be behind. Then the rows of the chosen hosts are locked, read and
judged anew by the same rules: what does not hold any more is chosen again. Who finds a host otherwise
than it seemed chooses once more while it is locked. Who must go elsewhere then queues up with the other losers (on
PostgreSQL; SQLite has one writer at a time), so that a rush on few hosts costs each of them a few more tries.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Final
from uuid import UUID

from sqlalchemy import delete, func, insert, select, update
from sqlmodel import Session, col

from coordinator.domain.device import sum_milli
from coordinator.domain.placement import Assignment, Consumer, Decision, HostView, PlacementRequest, ResourceClass
from coordinator.errors import AllocationMismatch, ServiceUnavailable
from coordinator.placement.cache import HostCache
from coordinator.scheduler import pipeline
from coordinator.scheduler.fit import sort_devices
from coordinator.scheduler.snapshot import Snapshot
from coordinator.store.queries.placement import Held, advance_generations, find_nodes_of, read_held, read_hosts
from coordinator.store.queries.storage import advance_pools, read_pools, release_space, reserve_space
from coordinator.store.tables.device import CellAllocation, DeviceAllocation
from coordinator.store.tables.node import Allocation

# Each conflict is the success of somebody else: it ends, however many come at once.
_MAX_TRIES: Final = 128
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
    held = _read_assignments(session, request.consumers)
    missing = _without(request, held)
    for attempt in range(_MAX_TRIES):
        if attempt > 0:
            _queue_up(session)
        decision = _choose(hosts, missing, is_arrival=attempt == 0)
        try:
            with session.begin_nested():
                decision = _confirm(session, hosts, missing, decision, external)
            return _merge(request, held, decision)
        except _SnapshotStale:
            hosts.suspect(_node_ids(decision))
    raise ServiceUnavailable("too many placements at once; try again", "同时进行的调度过多，请稍后重试")


def explain(session: Session, hosts: HostCache, request: PlacementRequest, *, judges: bool = True) -> Decision:
    """What `claim` would decide now, unless `judges` is False with a verdict on every host; changes nothing."""
    held = _read_assignments(session, request.consumers)
    missing = _without(request, held)
    hosts.reload()
    with hosts.current() as snapshot:
        decision = pipeline.explain(snapshot, missing, hosts.weights, judges=judges)
    return _merge(request, held, decision)


def find_candidates(hosts: HostCache, requests: Sequence[PlacementRequest]) -> list[tuple[HostView, ...]]:
    """For each of the requests all hosts that could take its first consumer now; changes nothing."""
    hosts.reload()
    candidates = []
    for request in requests:
        # One at a time: claims shall not wait until a long list is through.
        with hosts.current() as snapshot:
            candidates.append(pipeline.find_hosts(snapshot, request))
    return candidates


def release(session: Session, consumer_uuids: Collection[str]) -> None:
    """The consumers hold nothing any more; absence is success."""
    nodes = find_nodes_of(session, consumer_uuids)
    if not nodes:
        release_space(session, consumer_uuids)
        return
    advance_generations(session, nodes)
    release_space(session, consumer_uuids)
    for table in (Allocation, CellAllocation, DeviceAllocation):
        session.execute(delete(table).where(col(table.consumer_uuid).in_(list(consumer_uuids))))


def exchange(
    session: Session, node_id: str, consumer_uuid: str, reserve_uuid: str, amounts: Mapping[str, int], *, is_full: bool
) -> None:
    """The consumer holds these amounts on its host, and the cells of the reserve if that is a full claim; devices stay.

    The reserve, a consumer that was placed on the same host before, holds nothing any more. May be repeated.
    """
    advance_generations(session, [node_id])
    mine, reserved = (
        [col(table.consumer_uuid) == uuid for table in (Allocation, CellAllocation)]
        for uuid in (consumer_uuid, reserve_uuid)
    )
    session.execute(delete(Allocation).where(mine[0]))
    rows = [
        {
            "consumer_uuid": consumer_uuid,
            "node_id": node_id,
            "resource_class": name,
            "amount": amount,
            "external": False,
        }
        for name, amount in amounts.items()
    ]
    session.connection().execute(insert(Allocation), rows)
    if is_full and reserve_uuid in read_held(session, [reserve_uuid]):
        session.execute(delete(CellAllocation).where(mine[1]))
        moved = update(CellAllocation).where(reserved[1]).values(consumer_uuid=consumer_uuid)
        session.execute(moved.execution_options(synchronize_session=False))
    release(session, [reserve_uuid])


def _choose(hosts: HostCache, request: PlacementRequest, *, is_arrival: bool) -> Decision:
    """The decision on the cached snapshot; on a new one before anybody is told that there is no room."""
    with hosts.current() as snapshot:
        if is_arrival:
            snapshot.observe(request.consumers)
        decision = pipeline.decide(snapshot, request, hosts.weights)
    if decision.placed or not request.consumers or not hosts.reload():
        return decision
    with hosts.current() as snapshot:
        return pipeline.decide(snapshot, request, hosts.weights)


def _confirm(
    session: Session, hosts: HostCache, request: PlacementRequest, decision: Decision, external: bool
) -> Decision:
    """Allocates after another look at the chosen hosts, which nobody else can change now.

    Who was beaten there chooses once more while they are locked: he would else be a step behind everybody who comes.
    """
    if not decision.placed:
        return decision
    chosen = _node_ids(decision)
    advance_generations(session, chosen)
    present = _read_present(session, chosen, request.consumers)
    if not pipeline.admits(present, request, decision.assignments):
        hosts.suspect(chosen)
        decision = _choose(hosts, request, is_arrival=False)
        if (
            not decision.placed
            or not _node_ids(decision) <= chosen
            or not pipeline.admits(present, request, decision.assignments)
        ):
            raise _SnapshotStale
    # The hosts as they are: the caller writes down what they belong to.
    decision = replace(decision, assignments=tuple(_at_present(it, present) for it in decision.assignments))
    _insert_allocations(session, request.consumers, decision.assignments, external)
    return decision


def _read_present(session: Session, node_ids: set[str], consumers: Sequence[Consumer]) -> Snapshot:
    """The hosts, whose rows are locked, and their pools, which nobody else can claim from now either."""
    hosts = read_hosts(session.connection(), node_ids, with_hints=False)
    present = Snapshot(hosts)
    if pool_ids := {pool_id for host in hosts for consumer in consumers for pool_id in consumer.space_on(host)}:
        advance_pools(session, pool_ids)
        present.storage.put_pools(read_pools(session.connection(), pool_ids).values())
    return present


def _at_present(assignment: Assignment, present: Snapshot) -> Assignment:
    row = present.find(assignment.host.node_id)
    assert row is not None  # noqa: S101 - else it would not have been admitted
    return replace(assignment, host=present.host(row))


def _node_ids(decision: Decision) -> set[str]:
    return {assignment.host.node_id for assignment in decision.assignments}


def _read_assignments(session: Session, consumers: Sequence[Consumer]) -> Mapping[str, Assignment]:
    """What each consumer has that holds just what it asks for."""
    held = read_held(session, [consumer.uuid for consumer in consumers])
    for consumer in consumers:
        if consumer.uuid in held and not _is_same(held[consumer.uuid], consumer):
            raise AllocationMismatch(consumer.uuid)
    if not held:
        return {}
    hosts = {host.node_id: host for host in read_hosts(session.connection(), {it.node_id for it in held.values()})}
    wishes = {consumer.uuid: consumer.devices for consumer in consumers}
    return {
        uuid: Assignment(host := hosts[it.node_id], tuple(it.cells), sort_devices(host, wishes[uuid], it.devices))
        for uuid, it in held.items()
    }


def _is_same(held: Held, consumer: Consumer) -> bool:
    """Whether the consumer asks for what it has."""
    wish = consumer.cells
    in_cells = sum(share.vcpus for share in held.cells), sum(share.memory_mib for share in held.cells)
    page_sizes = {share.page_kib for share in held.cells}
    kinds = Counter((kind, share.milli) for kind, share in zip(held.kinds, held.devices, strict=True))
    wanted: Counter[tuple[str, int]] = Counter()
    for wished in consumer.devices:
        wanted[wished.kind, wished.milli] += wished.count
    return (
        held.amounts == _positive(consumer.resources)
        and in_cells == ((wish.vcpus, wish.memory_mib) if wish else (0, 0))
        and page_sizes == ({wish.page_kib} if wish else set())
        and kinds == wanted
    )


def _insert_allocations(
    session: Session, consumers: Sequence[Consumer], assignments: Sequence[Assignment], external: bool
) -> None:
    pairs = [
        (consumer, {"consumer_uuid": consumer.uuid, "node_id": assignment.host.node_id}, assignment)
        for consumer, assignment in zip(consumers, assignments, strict=True)
    ]
    amounts = [
        {**holder, "resource_class": resource_class, "amount": amount, "external": external}
        for consumer, holder, _ in pairs
        for resource_class, amount in _positive(consumer.resources).items()
    ]
    cells = [{**holder, **asdict(share), "cpus": list(share.cpus)} for _, holder, it in pairs for share in it.cells]
    devices = [
        {
            **holder,
            "device_id": device_id,
            "kind": it.host.device(device_id).type.kind,
            "milli": milli,
            "slices": sum(share.device_id == device_id for share in it.devices),
        }
        for _, holder, it in pairs
        for device_id, milli in sum_milli(it.devices).items()
    ]
    for consumer, _, assignment in pairs:
        reserve_space(session, consumer.uuid, consumer.space_on(assignment.host))
    for table, rows in ((Allocation, amounts), (CellAllocation, cells), (DeviceAllocation, devices)):
        if rows:
            session.connection().execute(insert(table), rows)


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


def _without(request: PlacementRequest, held: Mapping[str, Assignment]) -> PlacementRequest:
    return replace(request, consumers=tuple(c for c in request.consumers if c.uuid not in held))


def _merge(request: PlacementRequest, held: Mapping[str, Assignment], decision: Decision) -> Decision:
    """The decision on all consumers, those that held something before included."""
    if len(held) < len(request.consumers) and not decision.placed:
        return decision
    fresh = iter(decision.assignments)
    assignments = tuple(held.get(consumer.uuid) or next(fresh) for consumer in request.consumers)
    return replace(decision, assignments=assignments)


def _positive(resources: Mapping[ResourceClass, int]) -> dict[ResourceClass, int]:
    return {resource_class: amount for resource_class, amount in resources.items() if amount > 0}
