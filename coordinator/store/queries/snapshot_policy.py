"""Snapshot policies, the instances that they are bound to, and the snapshots that are to be taken now."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import delete, func, or_, update
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from coordinator.domain.instance import InstanceStatus
from coordinator.domain.listing import Listing, ListQuery, Ordering
from coordinator.domain.snapshot import SnapshotStatus, SnapshotType
from coordinator.store.queries.filter import Field, Statement, fetch_page, fields
from coordinator.store.tables import (
    Department,
    Instance,
    Node,
    ResourceGroup,
    Snapshot,
    SnapshotPolicy,
    SnapshotPolicyBinding,
    Tenant,
)


@dataclass(frozen=True, slots=True)
class BoundInstance:
    """An instance that a policy is bound to."""

    ecs_id: str
    display_name: str
    binding: SnapshotPolicyBinding


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """A policy, the names of those it belongs to, and the instances that it is bound to."""

    row: SnapshotPolicy
    tenant_name: str
    department_name: str | None
    resource_group_name: str | None
    bound: list[BoundInstance] = field(default_factory=list)


_FIELDS: Final = fields(
    id=Field(SnapshotPolicy.id, int),
    policyId=SnapshotPolicy.policy_id,
    policyName=SnapshotPolicy.name,
    enabled=Field(SnapshotPolicy.enabled, bool),
    tenantId=SnapshotPolicy.tenant_id,
    tenantName=Tenant.name,
    departmentId=SnapshotPolicy.department_id,
    resourceGroupId=SnapshotPolicy.resource_group_id,
    timeZone=SnapshotPolicy.time_zone,
    expire=Field(SnapshotPolicy.keep_minutes, int),
    executeAt=Field(SnapshotPolicy.next_at, datetime),
    createdAt=Field(SnapshotPolicy.created_at, datetime),
    updatedAt=Field(SnapshotPolicy.updated_at, datetime),
)
_IS_LIVING: Final = col(Instance.deleted_at).is_(None)
_IS_THERE: Final = (_IS_LIVING, col(Instance.status) != InstanceStatus.SOFT_DELETED)


def list_policies(session: Session, tenant_id: str | None, query: ListQuery) -> Listing[PolicyRow]:
    """Policies of the tenant (None: everybody's), the newest first unless the query orders otherwise."""
    statement = _policies()
    if tenant_id is not None:
        statement = statement.where(col(SnapshotPolicy.tenant_id) == tenant_id)
    newest_first = (Ordering("createdAt", descending=True),)
    page = fetch_page(session, statement, query, _FIELDS, tie_break=col(SnapshotPolicy.id), default=newest_first)
    return Listing(tuple(_with_bound(session, [PolicyRow(*row) for row in page.items])), page.total)


def find_policy(session: Session, policy_id: str) -> PolicyRow | None:
    """The policy with that id, whoever owns it."""
    row = session.execute(_policies().where(col(SnapshotPolicy.policy_id) == policy_id)).one_or_none()
    return _with_bound(session, [PolicyRow(*row)])[0] if row else None


def lock_policy(session: Session, policy_id: str) -> SnapshotPolicy | None:
    """The policy, kept from others until the transaction ends."""
    return session.exec(select(SnapshotPolicy).where(SnapshotPolicy.policy_id == policy_id).with_for_update()).first()


def count_policies(session: Session, tenant_id: str) -> int:
    """How many the tenant has."""
    return session.exec(select(func.count()).where(SnapshotPolicy.tenant_id == tenant_id)).one()


def delete_policy(session: Session, policy: SnapshotPolicy) -> None:
    """Deletes a policy; instances that it was bound to have none any more."""
    session.execute(delete(SnapshotPolicyBinding).where(col(SnapshotPolicyBinding.policy_id) == policy.id))
    session.delete(policy)


def find_binding(session: Session, instance_id: int | None) -> SnapshotPolicyBinding | None:
    """What binds the instance to its policy, kept from others."""
    statement = select(SnapshotPolicyBinding).where(SnapshotPolicyBinding.instance_id == instance_id)
    return session.exec(statement.with_for_update()).first()


def unbind_instance(session: Session, instance_id: int | None) -> None:
    """The instance has no policy any more."""
    session.execute(delete(SnapshotPolicyBinding).where(col(SnapshotPolicyBinding.instance_id) == instance_id))


def find_due(session: Session, now: datetime) -> Sequence[str]:
    """Ids of policies that are due, who waits longest first."""
    statement = select(SnapshotPolicy.policy_id).where(col(SnapshotPolicy.enabled), col(SnapshotPolicy.next_at) <= now)
    return session.exec(statement.order_by(col(SnapshotPolicy.next_at), col(SnapshotPolicy.id))).all()


def list_pending(session: Session, policy: SnapshotPolicy) -> Sequence[tuple[Instance, SnapshotPolicyBinding]]:
    """Instances of which a snapshot was due before, and is not taken yet."""
    statement = select(Instance, SnapshotPolicyBinding).join(
        SnapshotPolicyBinding, col(SnapshotPolicyBinding.instance_id) == col(Instance.id)
    )
    pending = (SnapshotPolicyBinding.policy_id == policy.id, col(SnapshotPolicyBinding.due_at).is_not(None))
    return session.exec(statement.where(*pending).order_by(col(Instance.id))).all()


def mark_due(session: Session, policy: SnapshotPolicy, due_at: datetime) -> int:
    """A snapshot is to be taken of each bound instance that is there; answers of how many."""
    there = select(Instance.id).where(*_IS_THERE)
    statement = update(SnapshotPolicyBinding).where(
        col(SnapshotPolicyBinding.policy_id) == policy.id, col(SnapshotPolicyBinding.instance_id).in_(there)
    )
    result: Any = session.execute(statement.values(due_at=due_at, not_before=None))
    return int(result.rowcount)


def drop_due(session: Session, policy: SnapshotPolicy) -> None:
    """Nothing that was due is still to be done."""
    statement = update(SnapshotPolicyBinding).where(col(SnapshotPolicyBinding.policy_id) == policy.id)
    session.execute(statement.values(due_at=None, not_before=None))


def find_waiting(session: Session, now: datetime) -> Sequence[tuple[str, str | None]]:
    """Ids of instances of which a snapshot is to be taken, and their nodes, who waits longest first.

    Left out are those of nodes that are away, and those that something else is done with.
    """
    binding = SnapshotPolicyBinding
    statement = (
        select(Instance.ecs_id, Instance.node_id)
        .join(binding, col(binding.instance_id) == col(Instance.id))
        .outerjoin(Node, col(Node.id) == col(Instance.node_id))
        .where(
            col(binding.due_at).is_not(None),
            or_(col(binding.not_before).is_(None), col(binding.not_before) <= now),
            or_(col(Instance.node_id).is_(None), col(Node.ready)),
            col(Instance.task_id).is_(None),
            _IS_LIVING,
        )
        .order_by(col(binding.due_at), col(binding.instance_id))
    )
    return session.exec(statement).all()


def find_overdue(session: Session, before: datetime) -> Sequence[str]:
    """Ids of instances of which a snapshot was due before that moment, and is not taken yet."""
    binding = SnapshotPolicyBinding
    statement = select(Instance.ecs_id).join(binding, col(binding.instance_id) == col(Instance.id))
    return session.exec(statement.where(col(binding.due_at) < before).order_by(col(Instance.id))).all()


def count_in_status(session: Session, status: SnapshotStatus) -> Counter[str | None]:
    """How many snapshots in that status the coordinator itself has begun on, by node; on nodes that are ready."""
    statement = (
        select(Instance.node_id, func.count())
        .join(Snapshot, col(Snapshot.instance_id) == col(Instance.id))
        .join(Node, col(Node.id) == col(Instance.node_id))
        .where(Snapshot.status == status, col(Node.ready))
        .group_by(col(Instance.node_id))
    )
    if status == SnapshotStatus.CREATING:
        statement = statement.where(Snapshot.type == SnapshotType.AUTO)
    return Counter({node_id: int(count) for node_id, count in session.exec(statement)})


def _with_bound(session: Session, rows: list[PolicyRow]) -> list[PolicyRow]:
    by_id = {row.row.id: row for row in rows}
    statement = (
        select(SnapshotPolicyBinding, Instance.ecs_id, Instance.display_name)
        .join(Instance, col(Instance.id) == col(SnapshotPolicyBinding.instance_id))
        .where(col(SnapshotPolicyBinding.policy_id).in_(by_id), _IS_LIVING)
        .order_by(col(SnapshotPolicyBinding.bound_at), col(SnapshotPolicyBinding.instance_id))
    )
    for binding, ecs_id, name in session.exec(statement):
        by_id[binding.policy_id].bound.append(BoundInstance(ecs_id, name, binding))
    return rows


def _policies() -> Statement:
    columns = (SnapshotPolicy, Tenant.name, Department.name, ResourceGroup.name)
    statement: Any = (
        select_columns(*columns)  # type: ignore[call-overload]
        .join(Tenant, col(Tenant.id) == col(SnapshotPolicy.tenant_id))
        .outerjoin(Department, col(Department.id) == col(SnapshotPolicy.department_id))
        .outerjoin(ResourceGroup, col(ResourceGroup.id) == col(SnapshotPolicy.resource_group_id))
    )
    return statement  # type: ignore[no-any-return]
