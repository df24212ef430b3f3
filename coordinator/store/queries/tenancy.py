"""Questions about tenants, departments and resource groups, and what hangs on them."""

from sqlalchemy import delete, update
from sqlmodel import Session, SQLModel, col, select

from coordinator.domain.listing import Listing, ListQuery, Ordering
from coordinator.store.queries.filter import fetch_rows_of, fields
from coordinator.store.tables import (
    ApiToken,
    Department,
    DeploymentSet,
    Image,
    Instance,
    InstanceLabel,
    LaunchTemplate,
    Migration,
    PlacementRecord,
    Port,
    ResourceGroup,
    Schedule,
    SecurityGroup,
    SnapshotPolicy,
    SshKey,
    Tenant,
    Volume,
    VolumeBackup,
    VolumeSnapshot,
    Vpc,
)

_OLDEST_FIRST = (Ordering("createdAt"),)

_TENANT_FIELDS = fields(tenantId=Tenant.id, name=Tenant.name, createdAt=Tenant.created_at)
_DEPARTMENT_FIELDS = fields(
    departmentId=Department.id, name=Department.name, tenantId=Department.tenant_id, createdAt=Department.created_at
)
_RESOURCE_GROUP_FIELDS = fields(
    resourceGroupId=ResourceGroup.id,
    name=ResourceGroup.name,
    tenantId=ResourceGroup.tenant_id,
    departmentId=ResourceGroup.department_id,
    createdAt=ResourceGroup.created_at,
)


def find_tenant_by_name(session: Session, name: str) -> Tenant | None:
    """The tenant with that name."""
    return session.exec(select(Tenant).where(Tenant.name == name)).first()


def list_tenants(session: Session, tenant_id: str | None, query: ListQuery) -> Listing[Tenant]:
    """All tenants, or only the given one."""
    statement = select(Tenant)
    if tenant_id is not None:
        statement = statement.where(Tenant.id == tenant_id)
    return fetch_rows_of(session, statement, query, _TENANT_FIELDS, tie_break=col(Tenant.id), default=_OLDEST_FIRST)


def find_department_by_name(session: Session, tenant_id: str, name: str) -> Department | None:
    """The tenant's department with that name."""
    return session.exec(select(Department).where(Department.tenant_id == tenant_id, Department.name == name)).first()


def find_first_department(session: Session, tenant_id: str) -> Department | None:
    """The tenant's oldest department."""
    statement = select(Department).where(Department.tenant_id == tenant_id)
    return session.exec(statement.order_by(col(Department.created_at), col(Department.id))).first()


def list_departments(session: Session, tenant_id: str | None, query: ListQuery) -> Listing[Department]:
    """Departments of one tenant; tenant None: of all."""
    statement = select(Department)
    if tenant_id is not None:
        statement = statement.where(Department.tenant_id == tenant_id)
    return fetch_rows_of(
        session, statement, query, _DEPARTMENT_FIELDS, tie_break=col(Department.id), default=_OLDEST_FIRST
    )


def find_resource_group_by_name(session: Session, tenant_id: str, name: str) -> ResourceGroup | None:
    """The tenant's resource group with that name."""
    statement = select(ResourceGroup).where(ResourceGroup.tenant_id == tenant_id, ResourceGroup.name == name)
    return session.exec(statement).first()


def list_resource_groups(session: Session, tenant_id: str | None, query: ListQuery) -> Listing[ResourceGroup]:
    """Resource groups of one tenant; tenant None: of all."""
    statement = select(ResourceGroup)
    if tenant_id is not None:
        statement = statement.where(ResourceGroup.tenant_id == tenant_id)
    return fetch_rows_of(
        session, statement, query, _RESOURCE_GROUP_FIELDS, tie_break=col(ResourceGroup.id), default=_OLDEST_FIRST
    )


def find_tenant_use(session: Session, tenant_id: str) -> str:
    """Kind of the first thing found that the tenant still owns; empty when it owns nothing."""
    instances = select(Instance.id).where(Instance.tenant_id == tenant_id, col(Instance.deleted_at).is_(None))
    owned = {
        "instance": instances,
        "volume": select(Volume.id).where(Volume.tenant_id == tenant_id),
        "image": select(Image.id).where(Image.tenant_id == tenant_id, col(Image.deleted_at).is_(None)),
        "deployment set": select(DeploymentSet.id).where(DeploymentSet.tenant_id == tenant_id),
        "launch template": select(LaunchTemplate.id).where(LaunchTemplate.tenant_id == tenant_id),
        "scheduled task": select(Schedule.id).where(Schedule.tenant_id == tenant_id),
        "snapshot policy": select(SnapshotPolicy.id).where(SnapshotPolicy.tenant_id == tenant_id),
        "SSH key": select(SshKey.id).where(SshKey.tenant_id == tenant_id),
        "VPC": select(Vpc.id).where(Vpc.tenant_id == tenant_id),
        "security group": select(SecurityGroup.id).where(SecurityGroup.tenant_id == tenant_id),
    }
    return next((kind for kind, statement in owned.items() if session.exec(statement).first() is not None), "")


def is_department_used(session: Session, department_id: str) -> bool:
    """Whether something belongs to the department."""
    groups = select(ResourceGroup.id).where(ResourceGroup.department_id == department_id)
    instances = select(Instance.id).where(Instance.department_id == department_id, col(Instance.deleted_at).is_(None))
    others = (select(table.id).where(table.department_id == department_id) for table in _OWNED)  # type: ignore[attr-defined]
    return any(session.exec(statement).first() is not None for statement in (groups, instances, *others))


def is_resource_group_used(session: Session, resource_group_id: str) -> bool:
    """Whether something belongs to the resource group."""
    instances = select(Instance.id).where(
        Instance.resource_group_id == resource_group_id, col(Instance.deleted_at).is_(None)
    )
    others = (select(table.id).where(table.resource_group_id == resource_group_id) for table in _OWNED)  # type: ignore[attr-defined]
    return any(session.exec(statement).first() is not None for statement in (instances, *others))


# What belongs to a department, and to a resource group where it names one, beside instances.
_OWNED: tuple[type[SQLModel], ...] = (DeploymentSet, LaunchTemplate, Schedule, SnapshotPolicy, SshKey)


def purge_tenant(session: Session, tenant_id: str) -> None:
    """Deletes a tenant that owns nothing, with its tokens, departments and what is left of deleted instances.

    Files of its backups stay on their nodes for two days at most.
    """
    instances = select(Instance.id).where(Instance.tenant_id == tenant_id)
    session.execute(delete(InstanceLabel).where(col(InstanceLabel.instance_id).in_(instances)))
    session.execute(delete(PlacementRecord).where(col(PlacementRecord.instance_id).in_(instances)))
    session.execute(delete(Port).where(col(Port.instance_id).in_(instances)))
    session.execute(delete(Migration).where(col(Migration.instance_id).in_(instances)))
    _forget_images(session, tenant_id)
    of_tenant: tuple[type[SQLModel], ...] = (VolumeBackup, Instance, Image, ResourceGroup, Department, ApiToken)
    for table in of_tenant:
        session.execute(delete(table).where(table.tenant_id == tenant_id))  # type: ignore[attr-defined]
    session.execute(delete(Tenant).where(col(Tenant.id) == tenant_id))


def _forget_images(session: Session, tenant_id: str) -> None:
    """Other tenants used the tenant's public images: their volumes and deleted instances still refer to them."""
    images = select(Image.id).where(Image.tenant_id == tenant_id)
    for user in (Instance, Volume):
        session.execute(
            update(user)
            .where(col(user.image_id).in_(images))
            # Not a change that people would want to see in `updated_at`.
            .values(image_id=None, updated_at=user.updated_at)
            .execution_options(synchronize_session=False)
        )
    held = update(VolumeSnapshot).where(col(VolumeSnapshot.image_id).in_(images)).values(image_id=None)
    session.execute(held.execution_options(synchronize_session=False))
