"""Deployment sets, and the instances that are in them."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ScalarSelect, func
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from coordinator.domain.deployment import Place
from coordinator.domain.listing import Listing, ListQuery, Ordering
from coordinator.domain.migration import ACTIVE_MIGRATION_STATES
from coordinator.store.queries.filter import Field, Statement, fetch_page, fields
from coordinator.store.tables import Department, DeploymentSet, Instance, Migration, Node, ResourceGroup, Tenant


@dataclass(frozen=True, slots=True)
class SetUse:
    """A set, the names of those it belongs to, and how many instances it has."""

    row: DeploymentSet
    tenant_name: str
    department_name: str | None
    resource_group_name: str | None
    instance_count: int


def _instances_of_set() -> ScalarSelect[int]:
    matching = (col(Instance.deployment_set) == col(DeploymentSet.id), col(Instance.deleted_at).is_(None))
    return select_columns(func.count()).where(*matching).correlate(DeploymentSet).scalar_subquery()


_FIELDS = fields(
    deploymentSetId=DeploymentSet.id,
    name=DeploymentSet.name,
    tenantId=DeploymentSet.tenant_id,
    tenantName=Tenant.name,
    departmentId=DeploymentSet.department_id,
    resourceGroupId=DeploymentSet.resource_group_id,
    hostPolicy=DeploymentSet.host_policy,
    rackPolicy=DeploymentSet.rack_policy,
    switchPolicy=DeploymentSet.switch_policy,
    netSwitchPolicy=DeploymentSet.net_switch_policy,
    ecsCount=Field(_instances_of_set(), int),
    createdAt=Field(DeploymentSet.created_at, datetime),
    updatedAt=Field(DeploymentSet.updated_at, datetime),
)


def lock_set(session: Session, set_id: str) -> DeploymentSet | None:
    """The set, kept from others until the transaction ends."""
    return session.exec(select(DeploymentSet).where(DeploymentSet.id == set_id).with_for_update()).first()


def read_sets(session: Session, set_ids: Collection[str]) -> dict[str, DeploymentSet]:
    """The sets with those ids, by id; unknown ids are left out."""
    rows = session.exec(select(DeploymentSet).where(col(DeploymentSet.id).in_(set_ids)))
    return {row.id: row for row in rows}


def find_set_use(session: Session, set_id: str) -> SetUse | None:
    """The set with what belongs to it."""
    row = session.execute(_sets().where(col(DeploymentSet.id) == set_id)).one_or_none()
    return SetUse(*row) if row else None


def list_sets(session: Session, tenant_id: str | None, query: ListQuery) -> Listing[SetUse]:
    """Sets of one tenant, the newest first unless the query orders otherwise; tenant None: of all."""
    statement = _sets()
    if tenant_id is not None:
        statement = statement.where(col(DeploymentSet.tenant_id) == tenant_id)
    newest_first = (Ordering("createdAt", descending=True),)
    page = fetch_page(session, statement, query, _FIELDS, tie_break=col(DeploymentSet.id), default=newest_first)
    return Listing(tuple(SetUse(*row) for row in page.items), page.total)


def list_instances_of_set(session: Session, set_id: str) -> Sequence[str]:
    """Ids of the set's instances."""
    statement = select(Instance.ecs_id).where(Instance.deployment_set == set_id, col(Instance.deleted_at).is_(None))
    return session.exec(statement.order_by(Instance.ecs_id)).all()


def read_member_places(session: Session, set_ids: Collection[str]) -> Mapping[str, list[tuple[str, Place]]]:
    """Where the members of each set are, with their UUIDs, by set; those without a node are nowhere.

    One that moves is in both places, for it may come to be in either.
    """
    columns = (Instance.deployment_set, Instance.uuid, Node.id, Node.rack, Node.switch, Node.net_switch)
    is_member = (col(Instance.deployment_set).in_(set_ids), col(Instance.deleted_at).is_(None))
    resident: Any = select_columns(*columns).join(Node, col(Node.id) == col(Instance.node_id)).where(*is_member)  # type: ignore[call-overload]
    coming: Any = (
        select_columns(*columns)  # type: ignore[call-overload]
        .join(Migration, col(Migration.instance_id) == col(Instance.id))
        .join(Node, col(Node.id) == col(Migration.target_node_id))
        .where(*is_member, col(Migration.state).in_(ACTIVE_MIGRATION_STATES))
    )
    places: dict[str, list[tuple[str, Place]]] = defaultdict(list)
    for set_id, uuid, *labels in session.execute(resident.union(coming)):
        places[set_id].append((uuid, Place(*labels)))
    return places


def _sets() -> Statement:
    columns = (DeploymentSet, Tenant.name, Department.name, ResourceGroup.name, _instances_of_set())
    statement: Any = (
        select_columns(*columns)  # type: ignore[call-overload]
        .join(Tenant, col(Tenant.id) == col(DeploymentSet.tenant_id))
        .outerjoin(Department, col(Department.id) == col(DeploymentSet.department_id))
        .outerjoin(ResourceGroup, col(ResourceGroup.id) == col(DeploymentSet.resource_group_id))
    )
    return statement  # type: ignore[no-any-return]
