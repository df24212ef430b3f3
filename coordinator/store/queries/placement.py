"""What the scheduler looks at, and what consumers hold."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from sqlalchemy import BindParameter, Connection, Row, bindparam, func, select, update
from sqlalchemy.orm import aliased
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
# Statements are made once, here: making one takes longer than executing it on a few rows.
_ids: BindParameter[list[str]] = bindparam("node_ids", expanding=True)
_SOME_NODES = _NODES.where(col(Node.id).in_(_ids))
_SOME_INVENTORIES = _INVENTORIES.where(col(Inventory.node_id).in_(_ids))
_SOME_USED = _USED.where(col(Allocation.node_id).in_(_ids))
_CHANGED_NODES = select(col(Node.id)).where(col(Node.generation) > bindparam("generation"))
_ALLOCATIONS = select(Allocation).where(col(Allocation.consumer_uuid).in_(bindparam("uuids", expanding=True)))
_others = aliased(Node)
# A generation that no node has: what changed is told by one column of all nodes.
_ADVANCE = (
    update(Node)
    .where(col(Node.id) == bindparam("node_id"))
    .values(generation=select(func.coalesce(func.max(_others.generation), 0) + 1).scalar_subquery())
)


def read_hosts(connection: Connection, node_ids: Collection[str] | None = None) -> tuple[HostView, ...]:
    """Nodes with their capacity and use, as the transaction sees them now; all unless some are named.

    Rows, not entities: a session that read a node before would answer what it remembers. Each host's generation is read
    before its use, so that a change in between makes the host look older than it is, never newer.
    """
    nodes, inventories, used = (_NODES, _INVENTORIES, _USED)
    parameters: dict[str, object] = {}
    if node_ids is not None:
        nodes, inventories, used = (_SOME_NODES, _SOME_INVENTORIES, _SOME_USED)
        parameters = {"node_ids": list(node_ids)}
    rows = connection.execute(nodes, parameters).all()
    capacities = _capacities(connection.execute(used, parameters), connection.execute(inventories, parameters))
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
            capacities=capacities.get(node.id, {}),
        )
        for node in rows
    )


def find_changed_nodes(connection: Connection, generation: int) -> list[str]:
    """Ids of nodes whose generation is above the given one."""
    return list(connection.scalars(_CHANGED_NODES, {"generation": generation}))


def advance_generations(session: Session, node_ids: Collection[str]) -> None:
    """Nobody else claims from these nodes before the transaction ends, and every snapshot sees that they changed."""
    connection = session.connection()
    # In one order everywhere, so that two transactions cannot wait for each other in a circle.
    for node_id in sorted(node_ids):
        connection.execute(_ADVANCE, {"node_id": node_id})


def read_allocations(session: Session, consumer_uuids: Collection[str]) -> dict[str, list[Allocation]]:
    """What each of the consumers holds; those that hold nothing are absent."""
    held: dict[str, list[Allocation]] = defaultdict(list)
    for allocation in session.scalars(_ALLOCATIONS, {"uuids": list(consumer_uuids)}):
        held[allocation.consumer_uuid].append(allocation)
    return held


def _capacities(
    used_rows: Iterable[Row[str, str, int]], inventory_rows: Iterable[Row[str, str, int, int, float]]
) -> Mapping[str, Mapping[ResourceClass, Capacity]]:
    used = {(node_id, name): int(amount) for node_id, name, amount in used_rows}
    capacities: dict[str, dict[ResourceClass, Capacity]] = defaultdict(dict)
    for node_id, name, total, reserved, ratio in inventory_rows:
        capacities[node_id][ResourceClass(name)] = Capacity(total, reserved, ratio, used.get((node_id, name), 0))
    return capacities
