"""What the scheduler looks at, and what consumers hold."""

from collections import defaultdict
from collections.abc import Collection
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, func, select, update
from sqlalchemy.orm import aliased
from sqlmodel import Session, col

from coordinator.domain.placement import Capacity, HostView, ResourceClass
from coordinator.store.tables.host_group import GroupHost
from coordinator.store.tables.node import Allocation, Inventory, Node
from coordinator.store.tables.resource_pool import PoolHost

# Statements are made once, here: making one takes longer than executing it on a few rows.
_used = (
    select(func.coalesce(func.sum(Allocation.amount), 0))
    .where(
        col(Allocation.node_id) == col(Inventory.node_id),
        col(Allocation.resource_class) == col(Inventory.resource_class),
    )
    .correlate(Inventory)
    .scalar_subquery()
)
# A row for each class that a node offers, its use included: one statement sees one moment.
_HOSTS = (
    select(
        col(Node.id),
        col(Node.name),
        col(Node.generation),
        col(Node.zone),
        col(Node.architecture),
        col(Node.cpu_model),
        col(Node.ready),
        col(Node.schedulable),
        col(Node.traits),
        col(Inventory.resource_class),
        col(Inventory.total),
        col(Inventory.reserved),
        col(Inventory.allocation_ratio),
        _used.label("used"),
        col(PoolHost.rp_id),
        col(GroupHost.hg_id),
    )
    .join(Inventory, col(Inventory.node_id) == col(Node.id), isouter=True)
    .join(PoolHost, col(PoolHost.node_id) == col(Node.id), isouter=True)
    .join(GroupHost, col(GroupHost.node_id) == col(Node.id), isouter=True)
    .order_by(col(Node.id))
)
_SOME_HOSTS = _HOSTS.where(col(Node.id).in_(bindparam("node_ids", expanding=True)))
_CHANGED_NODES = select(col(Node.id)).where(col(Node.generation) > bindparam("generation"))
_ALLOCATIONS = select(
    col(Allocation.consumer_uuid),
    col(Allocation.node_id),
    col(Allocation.resource_class),
    col(Allocation.amount),
    col(Allocation.external),
).where(col(Allocation.consumer_uuid).in_(bindparam("uuids", expanding=True)))
_others = aliased(Node)
# A generation that no node has: what changed is told by one column of all nodes.
_ADVANCE = (
    update(Node)
    .where(col(Node.id) == bindparam("node_id"))
    .values(generation=select(func.coalesce(func.max(_others.generation), 0) + 1).scalar_subquery())
)


class Held(NamedTuple):
    """What a consumer holds of one resource class."""

    consumer_uuid: str
    node_id: str
    resource_class: str
    amount: int
    external: bool


def read_hosts(connection: Connection, node_ids: Collection[str] | None = None) -> tuple[HostView, ...]:
    """Nodes with their capacity and use, as the transaction sees them now; all unless some are named.

    Rows, not entities: a session that read a node before would answer what it remembers.
    """
    if node_ids is None:
        rows = connection.execute(_HOSTS).all()
    else:
        rows = connection.execute(_SOME_HOSTS, {"node_ids": list(node_ids)}).all()
    return tuple(_view(list(group)) for _node_id, group in groupby(rows, key=lambda row: row.id))


def _view(rows: list[Any]) -> HostView:
    node = rows[0]
    return HostView(
        node_id=node.id,
        name=node.name,
        generation=node.generation,
        zone=node.zone,
        architecture=node.architecture,
        cpu_model=node.cpu_model,
        ready=node.ready,
        schedulable=node.schedulable,
        traits=frozenset(node.traits),
        capacities={
            ResourceClass(row.resource_class): Capacity(row.total, row.reserved, row.allocation_ratio, int(row.used))
            for row in rows
            if row.resource_class is not None
        },
        pool_id=node.rp_id or "",
        group_id=node.hg_id or "",
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


def read_allocations(session: Session, consumer_uuids: Collection[str]) -> dict[str, list[Held]]:
    """What each of the consumers holds; those that hold nothing are absent."""
    held: dict[str, list[Held]] = defaultdict(list)
    for row in session.connection().execute(_ALLOCATIONS, {"uuids": list(consumer_uuids)}):
        held[row.consumer_uuid].append(Held(*row))
    return held
