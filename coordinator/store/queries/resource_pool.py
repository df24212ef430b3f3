"""Resource pools, their hosts, and what is bound to them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ScalarSelect, Text, cast, func, literal
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from coordinator.domain.listing import Listing, ListQuery, Ordering
from coordinator.store.queries.filter import Field, Statement, fetch_page, fields
from coordinator.store.queries.node import HOST_IP
from coordinator.store.tables import FlavorType, Instance, Node, PoolHost, ResourcePool


@dataclass(frozen=True, slots=True)
class PoolUse:
    """A pool, how many hosts it has and how many flavor types are bound to it."""

    pool: ResourcePool
    host_count: int
    flavor_type_count: int


@dataclass(frozen=True, slots=True)
class PoolMember:
    """A host of a pool."""

    membership: PoolHost
    node: Node
    pool: ResourcePool


_is_bound = cast(FlavorType.rp_ids, Text).contains(literal('"') + col(ResourcePool.id) + '"')


def _hosts_of_pool() -> ScalarSelect[int]:
    matching = col(PoolHost.rp_id) == col(ResourcePool.id)
    return select_columns(func.count()).where(matching).correlate(ResourcePool).scalar_subquery()


def _flavor_types_of_pool() -> ScalarSelect[int]:
    matching = (_is_bound, col(FlavorType.deleted_at).is_(None))
    return select_columns(func.count()).where(*matching).correlate(ResourcePool).scalar_subquery()


_FIELDS = fields(
    rpId=ResourcePool.id,
    name=ResourcePool.name,
    az=ResourcePool.zone,
    cpuAllocationRatio=Field(ResourcePool.cpu_allocation_ratio, int),
    hostCnt=Field(_hosts_of_pool(), int),
    ftCnt=Field(_flavor_types_of_pool(), int),
    createTime=Field(ResourcePool.created_at, datetime),
    createdAt=Field(ResourcePool.created_at, datetime),
    updateTime=Field(ResourcePool.updated_at, datetime),
    updatedAt=Field(ResourcePool.updated_at, datetime),
)
_MEMBER_FIELDS = fields(
    rpId=PoolHost.rp_id,
    rpName=ResourcePool.name,
    hostId=Node.id,
    name=Node.name,
    innerIp=Field(HOST_IP),
    archType=Node.architecture,
    az=Node.zone,
    addRpTime=Field(PoolHost.joined_at, datetime),
    createTime=Field(PoolHost.created_at, datetime),
    createdAt=Field(PoolHost.created_at, datetime),
    updateTime=Field(PoolHost.updated_at, datetime),
    updatedAt=Field(PoolHost.updated_at, datetime),
)


def lock_pools(session: Session, rp_ids: Collection[str]) -> dict[str, ResourcePool]:
    """The pools with those ids, kept from others until the transaction ends; unknown ids are left out."""
    statement = select(ResourcePool).where(col(ResourcePool.id).in_(rp_ids)).order_by(col(ResourcePool.id))
    return {pool.id: pool for pool in session.exec(statement.with_for_update())}


def find_pool_to_use(session: Session, rp_id: str) -> ResourcePool | None:
    """The pool, which is not deleted before the transaction ends."""
    return session.exec(select(ResourcePool).where(ResourcePool.id == rp_id).with_for_update(read=True)).first()


def read_pools(session: Session, rp_ids: Collection[str]) -> Mapping[str, ResourcePool]:
    """The pools with those ids."""
    if not rp_ids:
        return {}
    return {pool.id: pool for pool in session.exec(select(ResourcePool).where(col(ResourcePool.id).in_(rp_ids)))}


def find_pool_use(session: Session, rp_id: str) -> PoolUse | None:
    """The pool with its counts."""
    row = session.execute(_pools().where(col(ResourcePool.id) == rp_id)).one_or_none()
    return PoolUse(*row) if row else None


def list_pools(session: Session, query: ListQuery) -> Listing[PoolUse]:
    """Pools with their counts, the newest first unless the query orders otherwise."""
    newest_first = (Ordering("createTime", descending=True),)
    page = fetch_page(session, _pools(), query, _FIELDS, tie_break=col(ResourcePool.id), default=newest_first)
    return Listing(tuple(PoolUse(*row) for row in page.items), page.total)


def list_pool_members(session: Session, query: ListQuery) -> Listing[PoolMember]:
    """Hosts of pools, by name unless the query orders otherwise."""
    statement: Any = (
        select_columns(PoolHost, Node, ResourcePool)
        .join(Node, col(Node.id) == col(PoolHost.node_id))
        .join(ResourcePool, col(ResourcePool.id) == col(PoolHost.rp_id))
    )
    page = fetch_page(session, statement, query, _MEMBER_FIELDS, tie_break=col(Node.id), default=(Ordering("name"),))
    return Listing(tuple(PoolMember(*row) for row in page.items), page.total)


def list_node_ids(session: Session, rp_id: str) -> Sequence[str]:
    """Ids of the pool's hosts."""
    return session.exec(select(PoolHost.node_id).where(PoolHost.rp_id == rp_id)).all()


def read_memberships(session: Session, node_ids: Collection[str]) -> dict[str, PoolHost]:
    """The memberships of these nodes, by node; nodes of no pool are absent."""
    rows = session.exec(select(PoolHost).where(col(PoolHost.node_id).in_(node_ids)))
    return {row.node_id: row for row in rows}


def list_flavor_types_of_pool(session: Session, rp_id: str) -> Sequence[str]:
    """Ids of the flavor types that are bound to the pool."""
    bound = cast(FlavorType.rp_ids, Text).contains(f'"{rp_id}"')
    statement = select(FlavorType.flavor_type_id).where(bound, col(FlavorType.deleted_at).is_(None))
    return session.exec(statement.order_by(FlavorType.flavor_type_id)).all()


def list_instances_of_pool(session: Session, rp_id: str, node_id: str | None = None) -> Sequence[str]:
    """Ids of the pool's instances, on all hosts or on one."""
    statement = select(Instance.ecs_id).where(Instance.rp_id == rp_id, col(Instance.deleted_at).is_(None))
    if node_id is not None:
        statement = statement.where(Instance.node_id == node_id)
    return session.exec(statement.order_by(Instance.ecs_id)).all()


def _pools() -> Statement:
    statement: Any = select_columns(ResourcePool, _hosts_of_pool(), _flavor_types_of_pool())
    return statement  # type: ignore[no-any-return]
