"""SSH keys, and the instances that they are bound to."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ScalarSelect, delete, func
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from coordinator.domain.instance import InstanceStatus
from coordinator.domain.listing import Listing, ListQuery, Ordering
from coordinator.domain.ssh_key import OPEN_STATES, WANTED_STATES
from coordinator.store.queries.filter import Field, Statement, fetch_page, fields
from coordinator.store.queries.task import is_over
from coordinator.store.tables import Department, Instance, ResourceGroup, SshKey, SshKeyBinding, Tenant

# No attempt is put off for longer.
LONGEST_PAUSE: Final = timedelta(minutes=10)
_IS_WANTED: Final = col(SshKeyBinding.state).in_(WANTED_STATES)
_NEWEST_FIRST: Final = (Ordering("createdAt", descending=True),)


@dataclass(frozen=True, slots=True)
class KeyUse:
    """A key, the names of those it belongs to, and how many instances it opens."""

    row: SshKey
    tenant_name: str
    department_name: str | None
    resource_group_name: str | None
    instance_count: int


@dataclass(frozen=True, slots=True)
class InstanceOfKey:
    """An instance that a key could open; without a binding it does not."""

    ecs_id: str
    name: str
    status: str
    binding: SshKeyBinding | None


def _instances_of_key() -> ScalarSelect[int]:
    matching = (col(SshKeyBinding.ssh_key_id) == col(SshKey.id), _IS_WANTED)
    return select_columns(func.count()).where(*matching).correlate(SshKey).scalar_subquery()


_FIELDS: Final = fields(
    keyPairId=SshKey.id,
    keyPairName=SshKey.name,
    name=SshKey.name,
    fingerprint=SshKey.fingerprint,
    tenantId=SshKey.tenant_id,
    departmentId=SshKey.department_id,
    resourceGroupId=SshKey.resource_group_id,
    ecsNum=Field(_instances_of_key(), int),
    createdAt=Field(SshKey.created_at, datetime),
)
_INSTANCE_FIELDS: Final = fields(createdAt=Field(Instance.created_at, datetime))


def list_keys(session: Session, tenant_id: str | None, query: ListQuery) -> Listing[KeyUse]:
    """Keys of one tenant, the newest first unless the query orders otherwise; tenant None: of all."""
    statement = _keys()
    if tenant_id is not None:
        statement = statement.where(col(SshKey.tenant_id) == tenant_id)
    page = fetch_page(session, statement, query, _FIELDS, tie_break=col(SshKey.id), default=_NEWEST_FIRST)
    return Listing(tuple(KeyUse(*row) for row in page.items), page.total)


def lock_keys(session: Session, key_ids: Collection[str]) -> dict[str, SshKey]:
    """The keys by id, kept from others until the transaction ends; unknown ids are left out."""
    statement = select(SshKey).where(col(SshKey.id).in_(key_ids)).order_by(col(SshKey.id)).with_for_update()
    return {row.id: row for row in session.exec(statement)}


def find_key(session: Session, tenant_id: str, key_id: str, name: str) -> SshKey | None:
    """The tenant's key with that id or, without one, that name; it is not deleted before the transaction ends."""
    statement = select(SshKey).where(SshKey.tenant_id == tenant_id)
    statement = statement.where(SshKey.id == key_id) if key_id else statement.where(SshKey.name == name)
    return session.exec(statement.with_for_update(read=True, key_share=True)).first()


def count_keys(session: Session, tenant_id: str) -> int:
    """How many keys the tenant has."""
    return session.exec(select(func.count()).select_from(SshKey).where(SshKey.tenant_id == tenant_id)).one()


def list_bound_instances(session: Session, key_ids: Collection[str]) -> Sequence[str]:
    """Ids of the instances that any of the keys is bound to."""
    statement = (
        select(Instance.ecs_id)
        .join(SshKeyBinding, col(SshKeyBinding.instance_id) == col(Instance.id))
        .where(col(SshKeyBinding.ssh_key_id).in_(key_ids), _IS_WANTED)
    )
    return session.exec(statement.distinct().order_by(Instance.ecs_id)).all()


def list_bindings(session: Session, instance_id: int | None) -> Sequence[SshKeyBinding]:
    """All bindings of an instance, those included that its guest is to forget."""
    statement = select(SshKeyBinding).where(SshKeyBinding.instance_id == instance_id)
    return session.exec(statement.order_by(col(SshKeyBinding.id))).all()


def find_binding(session: Session, instance_id: int | None, key_id: str) -> SshKeyBinding | None:
    """The binding of one key to one instance, whatever its state."""
    statement = select(SshKeyBinding).where(
        SshKeyBinding.instance_id == instance_id, SshKeyBinding.ssh_key_id == key_id
    )
    return session.exec(statement).first()


def delete_bindings(session: Session, instance_id: int | None) -> None:
    """The instance is gone, and with it whatever its guest was to be told."""
    session.execute(delete(SshKeyBinding).where(col(SshKeyBinding.instance_id) == instance_id))


def list_instances_of_key(session: Session, key: SshKey, query: ListQuery, *, is_bound: bool) -> Listing[InstanceOfKey]:
    """Instances of the key's tenant that it is bound to, or that it is not."""
    bindings = select_columns(col(SshKeyBinding.instance_id)).where(col(SshKeyBinding.ssh_key_id) == key.id, _IS_WANTED)
    is_among = col(Instance.id).in_(bindings)
    statement: Any = select_columns(Instance.id, Instance.ecs_id, Instance.display_name, Instance.status).where(  # type: ignore[call-overload]
        col(Instance.tenant_id) == key.tenant_id,
        col(Instance.deleted_at).is_(None),
        is_among if is_bound else ~is_among,
    )
    page = fetch_page(session, statement, query, _INSTANCE_FIELDS, tie_break=col(Instance.id), default=_NEWEST_FIRST)
    ids = [row.id for row in page.items]
    found = session.exec(
        select(SshKeyBinding).where(SshKeyBinding.ssh_key_id == key.id, col(SshKeyBinding.instance_id).in_(ids))
    )
    by_instance = {binding.instance_id: binding for binding in found} if is_bound else {}
    items = (InstanceOfKey(row.ecs_id, row.display_name, row.status, by_instance.get(row.id)) for row in page.items)
    return Listing(tuple(items), page.total)


def list_keys_of_instance(session: Session, instance: Instance, query: ListQuery, *, is_bound: bool) -> Listing[KeyUse]:
    """Keys of the instance's tenant that are bound to it, or that are not."""
    bindings = select_columns(col(SshKeyBinding.ssh_key_id)).where(
        col(SshKeyBinding.instance_id) == instance.id, _IS_WANTED
    )
    is_among = col(SshKey.id).in_(bindings)
    statement = _keys().where(col(SshKey.tenant_id) == instance.tenant_id, is_among if is_bound else ~is_among)
    page = fetch_page(session, statement, query, _FIELDS, tie_break=col(SshKey.id), default=_NEWEST_FIRST)
    return Listing(tuple(KeyUse(*row) for row in page.items), page.total)


def find_due_instances(session: Session, vmtools_status: str, now: datetime, limit: int) -> Sequence[str]:
    """Ids of running instances at rest, with that state of the guest agent, whose guests are to be told something."""
    statement = (
        select(Instance.ecs_id)
        .join(SshKeyBinding, col(SshKeyBinding.instance_id) == col(Instance.id))
        .where(
            col(SshKeyBinding.state).in_(OPEN_STATES),
            is_over(col(SshKeyBinding.not_before), now, LONGEST_PAUSE),
            col(Instance.status) == InstanceStatus.RUNNING,
            Instance.vmtools_status == vmtools_status,
            col(Instance.task_id).is_(None),
            col(Instance.deleted_at).is_(None),
        )
    )
    return session.exec(statement.distinct().order_by(Instance.ecs_id).limit(limit)).all()


def _keys() -> Statement:
    columns = (SshKey, Tenant.name, Department.name, ResourceGroup.name, _instances_of_key())
    statement: Any = (
        select_columns(*columns)  # type: ignore[call-overload]
        .join(Tenant, col(Tenant.id) == col(SshKey.tenant_id))
        .outerjoin(Department, col(Department.id) == col(SshKey.department_id))
        .outerjoin(ResourceGroup, col(ResourceGroup.id) == col(SshKey.resource_group_id))
    )
    return statement  # type: ignore[no-any-return]
