"""Tokens, tenants, departments and resource groups."""

from typing import Annotated

from fastapi import APIRouter, Query

from coordinator.api.deps import Operator, Reader, RuntimeDep, TenantUser
from coordinator.api.envelope import Envelope, success
from coordinator.api.filtering import Conditions, Orderings, equal_to
from coordinator.api.idempotency import IdempotentRoute
from coordinator.api.paging import PageByNumber
from coordinator.api.schemas.iam import (
    CreateDepartmentRequest,
    CreateResourceGroupRequest,
    CreateTenantRequest,
    CreateTokenRequest,
    DepartmentBody,
    DepartmentListBody,
    IdentityBody,
    NewTokenBody,
    QuotaRequest,
    RenameRequest,
    ResourceGroupBody,
    ResourceGroupListBody,
    TenantBody,
    TenantListBody,
    TokenBody,
    TokenListBody,
)
from coordinator.domain.listing import ListQuery
from coordinator.services import credential, tenancy

router = APIRouter(prefix="/api/iam/v1", tags=["iam"], route_class=IdempotentRoute)
# Answers with secrets are not kept for idempotency keys: they would lie in the database.
token_router = APIRouter(prefix="/api/iam/v1", tags=["iam"])

OfTenant = Annotated[str, Query(alias="tenantId", max_length=19, description="Only those of this tenant.")]


@router.get("/whoami", operation_id="getIdentity")
def get_identity(caller: Reader, runtime: RuntimeDep) -> Envelope[IdentityBody]:
    """Tells who the bearer of the credentials is."""
    return success(IdentityBody.of(tenancy.identify(runtime, caller)))


@token_router.post("/tokens", operation_id="createToken")
def create_token(body: CreateTokenRequest, caller: Operator, runtime: RuntimeDep) -> Envelope[NewTokenBody]:
    """Creates a token. The answer is the only place where it is ever shown."""
    made = credential.create_token(
        runtime,
        caller,
        name=body.name,
        role=body.role,
        tenant_id=body.tenant_id or None,
        expires_at=body.expires_at,
    )
    return success(NewTokenBody.of_new(made))


@router.get("/tokens", operation_id="listTokens")
def list_tokens(
    page: PageByNumber, conditions: Conditions, orderings: Orderings, caller: Reader, runtime: RuntimeDep
) -> Envelope[TokenListBody]:
    """Lists tokens, the newest first; a tenant sees its own."""
    listing = credential.list_tokens(runtime, caller, ListQuery(page, conditions, orderings))
    return success(TokenListBody(items=[TokenBody.of(row) for row in listing.items], total_count=listing.total))


@router.delete("/tokens/{token_id}", operation_id="deleteToken")
def delete_token(token_id: str, caller: Operator, runtime: RuntimeDep) -> Envelope[None]:
    """Withdraws a token: from now on its bearer is refused."""
    credential.delete_token(runtime, caller, token_id)
    return success(None)


@router.post("/tenants", operation_id="createTenant")
def create_tenant(body: CreateTenantRequest, caller: Operator, runtime: RuntimeDep) -> Envelope[TenantBody]:
    """Creates a tenant with its first department."""
    return success(TenantBody.of(tenancy.create_tenant(runtime, caller, body.name, body.to_quota())))


@router.get("/tenants", operation_id="listTenants")
def list_tenants(
    page: PageByNumber, conditions: Conditions, orderings: Orderings, caller: Reader, runtime: RuntimeDep
) -> Envelope[TenantListBody]:
    """Lists tenants, the oldest first; a tenant sees itself."""
    listing = tenancy.list_tenants(runtime, caller, ListQuery(page, conditions, orderings))
    return success(TenantListBody(items=[TenantBody.of(row) for row in listing.items], total_count=listing.total))


@router.get("/tenants/{tenant_id}", operation_id="getTenant")
def get_tenant(tenant_id: str, caller: Reader, runtime: RuntimeDep) -> Envelope[TenantBody]:
    """Shows one tenant."""
    return success(TenantBody.of(tenancy.get_tenant(runtime, caller, tenant_id)))


@router.put("/tenants/{tenant_id}", operation_id="updateTenant")
def update_tenant(tenant_id: str, body: RenameRequest, caller: Operator, runtime: RuntimeDep) -> Envelope[TenantBody]:
    """Renames a tenant."""
    return success(TenantBody.of(tenancy.rename_tenant(runtime, caller, tenant_id, body.name)))


@router.put("/tenants/{tenant_id}/quota", operation_id="updateTenantQuota")
def update_tenant_quota(
    tenant_id: str, body: QuotaRequest, caller: Operator, runtime: RuntimeDep
) -> Envelope[TenantBody]:
    """Changes a tenant's limits. What already exceeds a new limit stays."""
    return success(TenantBody.of(tenancy.change_quota(runtime, caller, tenant_id, body.given())))


@router.delete("/tenants/{tenant_id}", operation_id="deleteTenant")
def delete_tenant(tenant_id: str, caller: Operator, runtime: RuntimeDep) -> Envelope[None]:
    """Deletes a tenant that owns nothing, with its departments and tokens."""
    tenancy.delete_tenant(runtime, caller, tenant_id)
    return success(None)


@router.post("/departments", operation_id="createDepartment")
def create_department(body: CreateDepartmentRequest, caller: Operator, runtime: RuntimeDep) -> Envelope[DepartmentBody]:
    """Creates a department of a tenant."""
    return success(DepartmentBody.of(tenancy.create_department(runtime, caller, body.tenant_id, body.name)))


@router.get("/departments", operation_id="listDepartments")
def list_departments(
    page: PageByNumber,
    conditions: Conditions,
    orderings: Orderings,
    caller: Reader,
    runtime: RuntimeDep,
    tenant_id: OfTenant = "",
) -> Envelope[DepartmentListBody]:
    """Lists departments, the oldest first; a tenant sees its own."""
    query = ListQuery(page, equal_to(tenantId=tenant_id) + conditions, orderings)
    listing = tenancy.list_departments(runtime, caller, query)
    items = [DepartmentBody.of(row) for row in listing.items]
    return success(DepartmentListBody(items=items, total_count=listing.total))


@router.get("/departments/{department_id}", operation_id="getDepartment")
def get_department(department_id: str, caller: Reader, runtime: RuntimeDep) -> Envelope[DepartmentBody]:
    """Shows one department."""
    return success(DepartmentBody.of(tenancy.get_department(runtime, caller, department_id)))


@router.put("/departments/{department_id}", operation_id="updateDepartment")
def update_department(
    department_id: str, body: RenameRequest, caller: Operator, runtime: RuntimeDep
) -> Envelope[DepartmentBody]:
    """Renames a department."""
    return success(DepartmentBody.of(tenancy.rename_department(runtime, caller, department_id, body.name)))


@router.delete("/departments/{department_id}", operation_id="deleteDepartment")
def delete_department(department_id: str, caller: Operator, runtime: RuntimeDep) -> Envelope[None]:
    """Deletes a department that no instance and no resource group belongs to."""
    tenancy.delete_department(runtime, caller, department_id)
    return success(None)


@router.post("/resource-groups", operation_id="createResourceGroup")
def create_resource_group(
    body: CreateResourceGroupRequest, caller: TenantUser, runtime: RuntimeDep
) -> Envelope[ResourceGroupBody]:
    """Creates a resource group."""
    group = tenancy.create_resource_group(runtime, caller, body.tenant_id, body.name, body.department_id or None)
    return success(ResourceGroupBody.of(group))


@router.get("/resource-groups", operation_id="listResourceGroups")
def list_resource_groups(
    page: PageByNumber,
    conditions: Conditions,
    orderings: Orderings,
    caller: Reader,
    runtime: RuntimeDep,
    tenant_id: OfTenant = "",
) -> Envelope[ResourceGroupListBody]:
    """Lists resource groups, the oldest first; a tenant sees its own."""
    query = ListQuery(page, equal_to(tenantId=tenant_id) + conditions, orderings)
    listing = tenancy.list_resource_groups(runtime, caller, query)
    items = [ResourceGroupBody.of(row) for row in listing.items]
    return success(ResourceGroupListBody(items=items, total_count=listing.total))


@router.get("/resource-groups/{resource_group_id}", operation_id="getResourceGroup")
def get_resource_group(resource_group_id: str, caller: Reader, runtime: RuntimeDep) -> Envelope[ResourceGroupBody]:
    """Shows one resource group."""
    return success(ResourceGroupBody.of(tenancy.get_resource_group(runtime, caller, resource_group_id)))


@router.put("/resource-groups/{resource_group_id}", operation_id="updateResourceGroup")
def update_resource_group(
    resource_group_id: str, body: RenameRequest, caller: TenantUser, runtime: RuntimeDep
) -> Envelope[ResourceGroupBody]:
    """Renames a resource group."""
    group = tenancy.rename_resource_group(runtime, caller, resource_group_id, body.name)
    return success(ResourceGroupBody.of(group))


@router.delete("/resource-groups/{resource_group_id}", operation_id="deleteResourceGroup")
def delete_resource_group(resource_group_id: str, caller: TenantUser, runtime: RuntimeDep) -> Envelope[None]:
    """Deletes a resource group that no instance belongs to."""
    tenancy.delete_resource_group(runtime, caller, resource_group_id)
    return success(None)
