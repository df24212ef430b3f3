"""Stored ratios of vCPUs to CPUs, and those that nodes have."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from sqlalchemy import delete, func, update
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from coordinator.domain.placement import ResourceClass
from coordinator.store.tables import CpuOvercommit, Inventory, Node, PoolHost, ResourcePool

# Key of the advisory lock of who changes ratios; any number that nobody else uses.
_LOCK_KEY: Final = 0x726174696F
_OF_VCPUS: Final = col(Inventory.resource_class) == ResourceClass.VCPU


class NodeRatio(NamedTuple):
    """What the ratio of a node follows from, and the one that it has; None before its first registration."""

    node_id: str
    zone: str
    pool_ratio: int | None
    present: float | None


def read_cpu_ratios(session: Session) -> Mapping[str, int]:
    """Stored ratios by zone; that of the region under the empty name."""
    return {row.zone: row.ratio for row in session.exec(select(CpuOvercommit))}


def replace_cpu_ratios(session: Session, ratios: Mapping[str, int]) -> None:
    """These are all stored ratios now; who changes them too waits until the transaction ends."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select_columns(func.pg_advisory_xact_lock(_LOCK_KEY)))
    session.execute(delete(CpuOvercommit))
    session.add_all(CpuOvercommit(zone=zone, ratio=ratio) for zone, ratio in ratios.items())
    session.flush()


def list_node_ids(session: Session) -> Sequence[str]:
    """All nodes."""
    return session.exec(select(Node.id)).all()


def list_node_ratios(session: Session, node_ids: Collection[str]) -> list[NodeRatio]:
    """What the ratios of these nodes follow from."""
    statement = (
        select_columns(col(Node.id), col(Node.zone), col(ResourcePool.cpu_allocation_ratio), Inventory.allocation_ratio)  # type: ignore[call-overload]
        .outerjoin(PoolHost, col(PoolHost.node_id) == col(Node.id))
        .outerjoin(ResourcePool, col(ResourcePool.id) == col(PoolHost.rp_id))
        .outerjoin(Inventory, (col(Inventory.node_id) == col(Node.id)) & _OF_VCPUS)
        .where(col(Node.id).in_(node_ids))
    )
    return [NodeRatio(*row) for row in session.execute(statement)]


def set_cpu_ratio(session: Session, node_ids: Collection[str], ratio: float) -> None:
    """The nodes have that ratio from now on."""
    session.execute(
        update(Inventory)
        .where(col(Inventory.node_id).in_(node_ids), _OF_VCPUS)
        .values(allocation_ratio=ratio)
        .execution_options(synchronize_session=False)
    )
