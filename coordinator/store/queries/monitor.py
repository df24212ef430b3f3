"""Counts over the whole region."""

from collections.abc import Mapping

from sqlalchemy import func, literal
from sqlmodel import Session, col, select

from coordinator.domain.placement import Capacity, ResourceClass
from coordinator.store.tables import Allocation, Instance, Inventory, Node


def count_instances_by_status(session: Session) -> Mapping[str, int]:
    """How many instances have each status that occurs."""
    statement = (
        select(Instance.status, func.count()).where(col(Instance.deleted_at).is_(None)).group_by(col(Instance.status))
    )
    return {str(status): count for status, count in session.exec(statement)}


def list_capacities(session: Session, resource_class: ResourceClass) -> list[Capacity]:
    """Capacity and use of that class on every node that is ready."""
    used = (
        select(Allocation.node_id, func.sum(Allocation.amount).label("used"))
        .where(Allocation.resource_class == resource_class)
        .group_by(Allocation.node_id)
        .subquery()
    )
    statement = (
        select(Inventory.total, Inventory.reserved, Inventory.allocation_ratio, func.coalesce(used.c.used, literal(0)))
        .join(Node, col(Node.id) == col(Inventory.node_id))
        .join(used, used.c.node_id == col(Inventory.node_id), isouter=True)
        .where(Inventory.resource_class == resource_class, col(Node.ready))
    )
    return [Capacity(total, reserved, ratio, int(amount)) for total, reserved, ratio, amount in session.exec(statement)]
