"""Tenants with their quotas, departments and resource groups."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from coordinator.domain.caller import Caller, Role
from coordinator.domain.listing import Listing, ListQuery
from coordinator.domain.noun import in_chinese
from coordinator.errors import AccessDenied, ParameterInvalid, ResourceExists, ResourceInUse, ResourceNotFound
from coordinator.runtime import Runtime
from coordinator.store.queries import tenancy as queries
from coordinator.store.tables import Department, ResourceGroup, Tenant

DEFAULT_NAME: Final = "default"

_NAME_MAXIMUM: Final = 127


@dataclass(frozen=True, slots=True)
class Quota:
    """How much a tenant may use; None is unlimited."""

    instances: int | None = None
    vcpus: int | None = None
    memory_gib: int | None = None
    gpus: int | None = None
    volumes: int | None = None
    storage_gib: int | None = None


QUOTA_NAMES: Final = frozenset(field.name for field in fields(Quota))


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller, the names of what it belongs to, and the region that it is in."""

    caller: Caller
    region: str
    tenant_name: str
    department_id: str


def identify(runtime: Runtime, caller: Caller) -> Identity:
    """What a caller's credentials say about it."""
    region = runtime.settings.region
    if caller.tenant_id is None:
        return Identity(caller, region, "", "")
    with runtime.database.read() as session:
        tenant = session.get(Tenant, caller.tenant_id)
        department = queries.find_first_department(session, caller.tenant_id)
    return Identity(caller, region, tenant.name if tenant else "", department.id if department else "")


def ensure_default_tenant(runtime: Runtime) -> Tenant:
    """The tenant "default" with its first department, made when there is none; idempotent, also between processes."""
    with runtime.database.read() as session:
        known = queries.find_tenant_by_name(session, DEFAULT_NAME)
    if known is not None:
        return known
    try:
        return create_tenant(runtime, Caller("system", Role.OPERATOR), DEFAULT_NAME, Quota())
    except ResourceExists:
        # Another coordinator made it in the same moment.
        return ensure_default_tenant(runtime)


def create_tenant(runtime: Runtime, caller: Caller, name: str, quota: Quota) -> Tenant:
    """A new tenant with its first department."""
    _require_operator(caller)
    now = runtime.now()
    tenant = Tenant(id=runtime.identifiers.new_number(), name=_check_name(name), created_at=now, updated_at=now)
    _set_quota(tenant, {field.name: getattr(quota, field.name) for field in fields(quota)})
    department = Department(
        id=runtime.identifiers.new_number(), tenant_id=tenant.id, name=DEFAULT_NAME, created_at=now, updated_at=now
    )
    try:
        with runtime.database.write() as session:
            session.add(tenant)
            session.flush()
            session.add(department)
    except IntegrityError:
        raise _exists("tenant", name) from None
    return tenant


def list_tenants(runtime: Runtime, caller: Caller, query: ListQuery) -> Listing[Tenant]:
    """All tenants; a tenant sees itself."""
    with runtime.database.read() as session:
        return queries.list_tenants(session, _scope(caller), query)


def get_tenant(runtime: Runtime, caller: Caller, tenant_id: str) -> Tenant:
    """One tenant."""
    with runtime.database.read() as session:
        return _find_tenant(session, caller, tenant_id)


def find_tenant_id(runtime: Runtime, caller: Caller, reference: str) -> str:
    """The id of the tenant whose id or name is `reference`."""
    with runtime.database.read() as session:
        named = queries.find_tenant_by_name(session, reference)
        return _find_tenant(session, caller, named.id if named else reference).id


def rename_tenant(runtime: Runtime, caller: Caller, tenant_id: str, name: str) -> Tenant:
    """Gives a tenant another name."""
    _require_operator(caller)
    try:
        with runtime.database.write() as session:
            tenant = _find_tenant(session, caller, tenant_id)
            tenant.name = _check_name(name)
            session.add(tenant)
    except IntegrityError:
        raise _exists("tenant", name) from None
    return tenant


def change_quota(runtime: Runtime, caller: Caller, tenant_id: str, limits: Mapping[str, int | None]) -> Tenant:
    """Changes the limits that `limits` names (see Quota); what already exceeds a new limit stays."""
    _require_operator(caller)
    with runtime.database.write() as session:
        tenant = _find_tenant(session, caller, tenant_id)
        _set_quota(tenant, limits)
        session.add(tenant)
    return tenant


def delete_tenant(runtime: Runtime, caller: Caller, tenant_id: str) -> None:
    """Deletes a tenant that owns nothing, with its departments, resource groups and tokens."""
    _require_operator(caller)
    with runtime.database.write() as session:
        _find_tenant(session, caller, tenant_id)
        used = queries.find_tenant_use(session, tenant_id)
        if used:
            raise ResourceInUse(
                f"tenant {tenant_id} still owns a {used}", f"租户{tenant_id}仍拥有资源：{in_chinese(used)}"
            )
        queries.purge_tenant(session, tenant_id)
    runtime.callers.forget_all()


def create_department(runtime: Runtime, caller: Caller, tenant_id: str, name: str) -> Department:
    """A new department of a tenant."""
    _require_operator(caller)
    now = runtime.now()
    department = Department(
        id=runtime.identifiers.new_number(),
        tenant_id=tenant_id,
        name=_check_name(name),
        created_at=now,
        updated_at=now,
    )
    with runtime.database.write() as session:
        _lock_tenant(session, caller, tenant_id)
        if queries.find_department_by_name(session, tenant_id, name):
            raise _exists("department", name)
        session.add(department)
    return department


def list_departments(runtime: Runtime, caller: Caller, query: ListQuery) -> Listing[Department]:
    """Departments that the caller may see."""
    with runtime.database.read() as session:
        return queries.list_departments(session, _scope(caller), query)


def get_department(runtime: Runtime, caller: Caller, department_id: str) -> Department:
    """One department."""
    with runtime.database.read() as session:
        return _find_department(session, caller, department_id)


def rename_department(runtime: Runtime, caller: Caller, department_id: str, name: str) -> Department:
    """Gives a department another name."""
    _require_operator(caller)
    with runtime.database.write() as session:
        department = _find_department(session, caller, department_id)
        _lock_tenant(session, caller, department.tenant_id)
        namesake = queries.find_department_by_name(session, department.tenant_id, _check_name(name))
        if namesake and namesake.id != department_id:
            raise _exists("department", name)
        department.name = name
        session.add(department)
    return department


def delete_department(runtime: Runtime, caller: Caller, department_id: str) -> None:
    """Deletes a department that nothing belongs to."""
    _require_operator(caller)
    with runtime.database.write() as session:
        department = _find_department(session, caller, department_id)
        if queries.is_department_used(session, department_id):
            raise ResourceInUse(
                f"instances, deployment sets, launch templates, scheduled tasks, SSH keys or resource groups belong to"
                f" department {department_id}",
                f"部门{department_id}下仍有实例、部署集、配置模板、定时任务、密钥对或资源组",
            )
        session.delete(department)


def create_resource_group(
    runtime: Runtime, caller: Caller, tenant_id: str, name: str, department_id: str | None = None
) -> ResourceGroup:
    """A new resource group; tenants make their own."""
    tenant_id = tenant_id or caller.tenant_id or ""
    now = runtime.now()
    group = ResourceGroup(
        id=runtime.identifiers.new_number(),
        tenant_id=tenant_id,
        department_id=department_id,
        name=_check_name(name),
        created_at=now,
        updated_at=now,
    )
    with runtime.database.write() as session:
        _lock_tenant(session, caller, tenant_id)
        if department_id and _find_department(session, caller, department_id).tenant_id != tenant_id:
            raise ResourceNotFound("department", department_id)
        if queries.find_resource_group_by_name(session, tenant_id, name):
            raise _exists("resource group", name)
        session.add(group)
    return group


def list_resource_groups(runtime: Runtime, caller: Caller, query: ListQuery) -> Listing[ResourceGroup]:
    """Resource groups that the caller may see."""
    with runtime.database.read() as session:
        return queries.list_resource_groups(session, _scope(caller), query)


def get_resource_group(runtime: Runtime, caller: Caller, resource_group_id: str) -> ResourceGroup:
    """One resource group."""
    with runtime.database.read() as session:
        return _find_resource_group(session, caller, resource_group_id)


def rename_resource_group(runtime: Runtime, caller: Caller, resource_group_id: str, name: str) -> ResourceGroup:
    """Gives a resource group another name."""
    with runtime.database.write() as session:
        group = _find_resource_group(session, caller, resource_group_id)
        _lock_tenant(session, caller, group.tenant_id)
        namesake = queries.find_resource_group_by_name(session, group.tenant_id, _check_name(name))
        if namesake and namesake.id != resource_group_id:
            raise _exists("resource group", name)
        group.name = name
        session.add(group)
    return group


def delete_resource_group(runtime: Runtime, caller: Caller, resource_group_id: str) -> None:
    """Deletes a resource group that nothing belongs to."""
    with runtime.database.write() as session:
        group = _find_resource_group(session, caller, resource_group_id)
        if queries.is_resource_group_used(session, resource_group_id):
            raise ResourceInUse(
                f"instances, deployment sets, launch templates, scheduled tasks or SSH keys belong to resource group"
                f" {resource_group_id}",
                f"资源组{resource_group_id}下仍有实例、部署集、配置模板、定时任务或密钥对",
            )
        session.delete(group)


def _require_operator(caller: Caller) -> None:
    if not caller.is_operator:
        raise AccessDenied("only an operator may do this", "仅管理员可执行该操作")


def _scope(caller: Caller) -> str | None:
    return caller.tenant_id if caller.is_tenant else None


def _set_quota(tenant: Tenant, limits: Mapping[str, int | None]) -> None:
    for name, limit in limits.items():
        if name not in QUOTA_NAMES:
            raise ValueError(f"no such quota: {name}")
        setattr(tenant, f"quota_{name}", limit)


def _check_name(name: str) -> str:
    if not 1 <= len(name) <= _NAME_MAXIMUM or name != name.strip():
        raise ParameterInvalid(
            "name",
            f"1 to {_NAME_MAXIMUM} characters, without spaces at its ends",
            f"长度为1到{_NAME_MAXIMUM}个字符，首尾不能有空格",
        )
    return name


def _exists(kind: str, name: str) -> ResourceExists:
    return ResourceExists(f"{kind} {name!r} exists already", f"{in_chinese(kind)}{name!r}已存在")


def _find_tenant(session: Session, caller: Caller, tenant_id: str) -> Tenant:
    tenant = session.get(Tenant, tenant_id)
    if tenant is None or not caller.may_see(tenant_id):
        raise ResourceNotFound("tenant", tenant_id)
    return tenant


def _lock_tenant(session: Session, caller: Caller, tenant_id: str) -> None:
    """Two callers who want the same name within one tenant come one after the other."""
    _find_tenant(session, caller, tenant_id)
    session.get(Tenant, tenant_id, with_for_update=True, populate_existing=True)


def _find_department(session: Session, caller: Caller, department_id: str) -> Department:
    department = session.get(Department, department_id)
    if department is None or not caller.may_see(department.tenant_id):
        raise ResourceNotFound("department", department_id)
    return department


def _find_resource_group(session: Session, caller: Caller, resource_group_id: str) -> ResourceGroup:
    group = session.get(ResourceGroup, resource_group_id)
    if group is None or not caller.may_see(group.tenant_id):
        raise ResourceNotFound("resource group", resource_group_id)
    return group
