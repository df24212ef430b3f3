"""Whom something that is ordered will belong to: looked up, and visible to who orders it."""

from dataclasses import dataclass

from sqlmodel import Session

from coordinator.domain.caller import Caller
from coordinator.errors import ResourceNotFound, TenantNotFound
from coordinator.store.tables import Department, ResourceGroup, Tenant


@dataclass(frozen=True, slots=True)
class Owner:
    """A tenant, and who within it."""

    tenant: Tenant
    department: Department
    resource_group: ResourceGroup | None


def find_owner(
    session: Session, caller: Caller, tenant_id: str, department_id: str, resource_group_id: str = ""
) -> Owner:
    """TenantNotFound or ResourceNotFound unless all exist for the caller, and together."""
    tenant = session.get(Tenant, tenant_id) if caller.may_see(tenant_id) else None
    if tenant is None:
        raise TenantNotFound("tenantId", f"tenant {tenant_id!r} does not exist", f"租户{tenant_id!r}不存在")
    department = session.get(Department, department_id)
    if department is None or department.tenant_id != tenant_id:
        raise ResourceNotFound("departmentId", department_id)
    if not resource_group_id:
        return Owner(tenant, department, None)
    group = session.get(ResourceGroup, resource_group_id)
    if group is None or group.tenant_id != tenant_id:
        raise ResourceNotFound("resourceGroupId", resource_group_id)
    return Owner(tenant, department, group)
