"""Counts over the whole region."""

from collections import Counter
from collections.abc import Mapping

from sqlalchemy import Text, cast, func, literal
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from coordinator.domain.placement import Capacity, ResourceClass
from coordinator.store.tables import Allocation, CellAllocation, Instance, Inventory, Node


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
    pinned = count_pinned_cpus(session) if resource_class is ResourceClass.VCPU else {}
    statement = (
        select_columns(
            col(Inventory.node_id),
            col(Inventory.total),
            col(Inventory.reserved),
            col(Inventory.allocation_ratio),
            func.coalesce(used.c.used, literal(0)),
        )
        .join(Node, col(Node.id) == col(Inventory.node_id))
        .join(used, used.c.node_id == col(Inventory.node_id), isouter=True)
        .where(col(Inventory.resource_class) == resource_class, col(Node.ready))
    )
    return [
        Capacity(total, reserved, ratio, int(amount), pinned.get(node_id, 0))
        for node_id, total, reserved, ratio, amount in session.execute(statement)
    ]


def count_pinned_cpus(session: Session) -> Mapping[str, int]:
    """Host CPUs that somebody has to himself, by node; nodes without are absent."""
    pinned: Counter[str] = Counter()
    statement = select(CellAllocation.node_id, CellAllocation.cpus).where(cast(CellAllocation.cpus, Text) != "[]")
    for node_id, cpus in session.exec(statement):
        pinned[node_id] += len(cpus)
    return pinned


def sum_dedicated_vcpus(session: Session) -> int:
    """vCPUs with host CPUs of their own, on nodes that are ready."""
    statement = (
        select(func.coalesce(func.sum(Allocation.amount), 0))
        .join(Node, col(Node.id) == col(Allocation.node_id))
        .where(Allocation.resource_class == ResourceClass.DEDICATED_VCPU, col(Node.ready))
    )
    return int(session.exec(statement).one())


def sum_huge_pages_mib(session: Session) -> tuple[int, int]:
    """Memory that nodes that are ready have set aside as huge pages, and how much of it is in use."""
    with_pages = cast(Node.cells, Text).like('%"huge\\_pages\\_mib": {"%', escape="\\")
    total_mib = sum(
        sum(cell["huge_pages_mib"].values())
        for cells in session.exec(select(Node.cells).where(col(Node.ready), with_pages))
        for cell in cells
    )
    used = (
        select(func.coalesce(func.sum(CellAllocation.memory_mib), 0))
        .join(Node, col(Node.id) == col(CellAllocation.node_id))
        .where(CellAllocation.page_kib > 0, col(Node.ready))
    )
    return total_mib, int(session.exec(used).one())
