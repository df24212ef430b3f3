"""Host groups, their hosts and their instances."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ScalarSelect, func
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from coordinator.domain.listing import Listing, ListQuery, Ordering
from coordinator.store.queries.filter import Field, Statement, fetch_page, fields
from coordinator.store.queries.node import HOST_IP
from coordinator.store.tables import GroupHost, HostGroup, Instance, Node


@dataclass(frozen=True, slots=True)
class GroupUse:
    """A group and how many hosts it has."""

    group: HostGroup
    host_count: int


@dataclass(frozen=True, slots=True)
class GroupMember:
    """A host of a group."""

    membership: GroupHost
    node: Node
    group: HostGroup


def _hosts_of_group() -> ScalarSelect[int]:
    matching = col(GroupHost.hg_id) == col(HostGroup.id)
    return select_columns(func.count()).where(matching).correlate(HostGroup).scalar_subquery()


_FIELDS = fields(
    hgId=HostGroup.id,
    name=HostGroup.name,
    hostCnt=Field(_hosts_of_group(), int),
    createTime=Field(HostGroup.created_at, datetime),
    createdAt=Field(HostGroup.created_at, datetime),
    updateTime=Field(HostGroup.updated_at, datetime),
    updatedAt=Field(HostGroup.updated_at, datetime),
)
_MEMBER_FIELDS = fields(
    hgId=GroupHost.hg_id,
    hgName=HostGroup.name,
    hostId=Node.id,
    name=Node.name,
    innerIp=Field(HOST_IP),
    archType=Node.architecture,
    az=Node.zone,
    createTime=Field(GroupHost.created_at, datetime),
    createdAt=Field(GroupHost.created_at, datetime),
    updateTime=Field(GroupHost.updated_at, datetime),
    updatedAt=Field(GroupHost.updated_at, datetime),
)


def lock_group(session: Session, hg_id: str) -> HostGroup | None:
    """The group, kept from others until the transaction ends."""
    return session.exec(select(HostGroup).where(HostGroup.id == hg_id).with_for_update()).first()


def find_group_to_use(session: Session, hg_id: str) -> HostGroup | None:
    """The group, which is not deleted before the transaction ends."""
    return session.exec(select(HostGroup).where(HostGroup.id == hg_id).with_for_update(read=True)).first()


def find_group_use(session: Session, hg_id: str) -> GroupUse | None:
    """The group with its count."""
    row = session.execute(_groups().where(col(HostGroup.id) == hg_id)).one_or_none()
    return GroupUse(*row) if row else None


def list_groups(session: Session, query: ListQuery) -> Listing[GroupUse]:
    """Groups with their counts, the newest first unless the query orders otherwise."""
    newest_first = (Ordering("createTime", descending=True),)
    page = fetch_page(session, _groups(), query, _FIELDS, tie_break=col(HostGroup.id), default=newest_first)
    return Listing(tuple(GroupUse(*row) for row in page.items), page.total)


def list_group_members(session: Session, query: ListQuery) -> Listing[GroupMember]:
    """Hosts of groups, by name unless the query orders otherwise."""
    statement: Any = (
        select_columns(GroupHost, Node, HostGroup)
        .join(Node, col(Node.id) == col(GroupHost.node_id))
        .join(HostGroup, col(HostGroup.id) == col(GroupHost.hg_id))
    )
    page = fetch_page(session, statement, query, _MEMBER_FIELDS, tie_break=col(Node.id), default=(Ordering("name"),))
    return Listing(tuple(GroupMember(*row) for row in page.items), page.total)


def read_memberships(session: Session, node_ids: Collection[str]) -> dict[str, GroupHost]:
    """The memberships of these nodes, by node; nodes of no group are absent."""
    rows = session.exec(select(GroupHost).where(col(GroupHost.node_id).in_(node_ids)))
    return {row.node_id: row for row in rows}


def list_instances_of_group(session: Session, hg_id: str, node_id: str | None = None) -> Sequence[str]:
    """Ids of the group's instances, on all hosts or on one."""
    statement = select(Instance.ecs_id).where(Instance.hg_id == hg_id, col(Instance.deleted_at).is_(None))
    if node_id is not None:
        statement = statement.where(Instance.node_id == node_id)
    return session.exec(statement.order_by(Instance.ecs_id)).all()


def _groups() -> Statement:
    statement: Any = select_columns(HostGroup, _hosts_of_group())
    return statement  # type: ignore[no-any-return]
