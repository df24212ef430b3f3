"""What the scheduler looks at, and what consumers hold."""

from collections import defaultdict
from collections.abc import Collection

from sqlalchemy import func, select
from sqlmodel import Session, col

from coordinator.domain.placement import Capacity, HostView, ResourceClass
from coordinator.store.tables.node import Allocation, Inventory, Node

_NODES = select(
    col(Node.id),
    col(Node.name),
    col(Node.generation),
    col(Node.zone),
    col(Node.architecture),
    col(Node.cpu_model),
    col(Node.ready),
    col(Node.schedulable),
    col(Node.traits),
)
_INVENTORIES = select(
    col(Inventory.node_id),
    col(Inventory.resource_class),
    col(Inventory.total),
    col(Inventory.reserved),
    col(Inventory.allocation_ratio),
)
_USED = select(col(Allocation.node_id), col(Allocation.resource_class), func.sum(col(Allocation.amount))).group_by(
    col(Allocation.node_id), col(Allocation.resource_class)
)


def read_hosts(session: Session) -> tuple[HostView, ...]:
    """All nodes with their capacity and use, as the transaction sees them now.

    Rows, not entities: a session that read a node before would answer the generation that it remembers.
    """
    session.flush()
    connection = session.connection()
    # Generations are read first: a claim that commits in between makes this snapshot stale, never silently wrong.
    nodes = connection.execute(_NODES).all()
    used = {(node_id, name): int(amount) for node_id, name, amount in connection.execute(_USED)}
    capacities: dict[str, dict[ResourceClass, Capacity]] = defaultdict(dict)
    for node_id, name, total, reserved, ratio in connection.execute(_INVENTORIES):
        capacities[node_id][ResourceClass(name)] = Capacity(total, reserved, ratio, used.get((node_id, name), 0))
    return tuple(
        HostView(
            node_id=node.id,
            name=node.name,
            generation=node.generation,
            zone=node.zone,
            architecture=node.architecture,
            cpu_model=node.cpu_model,
            ready=node.ready,
            schedulable=node.schedulable,
            traits=frozenset(node.traits),
            capacities=capacities[node.id],
        )
        for node in nodes
    )


def read_allocations(session: Session, consumer_uuids: Collection[str]) -> dict[str, list[Allocation]]:
    """What each of the consumers holds; those that hold nothing are absent."""
    held: dict[str, list[Allocation]] = defaultdict(list)
    query = select(Allocation).where(col(Allocation.consumer_uuid).in_(consumer_uuids))
    for allocation in session.scalars(query):
        held[allocation.consumer_uuid].append(allocation)
    return held
