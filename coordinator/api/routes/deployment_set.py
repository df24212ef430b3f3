"""Deployment sets."""

from typing import Annotated

from fastapi import APIRouter, Query

from coordinator.api.deps import RuntimeDep, TenantUser
from coordinator.api.envelope import Envelope, success
from coordinator.api.filtering import Conditions, Orderings, equal_to, like
from coordinator.api.idempotency import IdempotentRoute
from coordinator.api.paging import PageByCurrent
from coordinator.api.schemas.deployment_set import (
    CreateDeploymentSetRequest,
    DeploymentSetBody,
    DeploymentSetListBody,
)
from coordinator.domain.listing import ListQuery
from coordinator.services import deployment_set as service

router = APIRouter(prefix="/api/ecs/v1/deployment-sets", tags=["deploymentsets"], route_class=IdempotentRoute)


@router.post("", operation_id="createDeploymentSet")
def create_deployment_set(
    body: CreateDeploymentSetRequest, caller: TenantUser, runtime: RuntimeDep
) -> Envelope[DeploymentSetBody]:
    """Creates a deployment set without instances."""
    return success(DeploymentSetBody.of(service.create_deployment_set(runtime, caller, body.to_row())))


@router.get("", operation_id="listDeploymentSets")
def list_deployment_sets(
    page: PageByCurrent,
    conditions: Conditions,
    orderings: Orderings,
    caller: TenantUser,
    runtime: RuntimeDep,
    name: Annotated[str, Query(max_length=255, description="Part of the name.")] = "",
    tenant_id: Annotated[str, Query(alias="tenantId", description="Tenant that they belong to.")] = "",
) -> Envelope[DeploymentSetListBody]:
    """Lists the caller's deployment sets, the newest first."""
    query = ListQuery(page, like(name=name) + equal_to(tenantId=tenant_id) + conditions, orderings)
    listing = service.list_deployment_sets(runtime, caller, query)
    sets = [DeploymentSetBody.of(use) for use in listing.items]
    return success(DeploymentSetListBody(size=page.size, current=page.number, total=listing.total, items=sets))


@router.get("/{deployment_set_id}", operation_id="getDeploymentSet")
def get_deployment_set(deployment_set_id: str, caller: TenantUser, runtime: RuntimeDep) -> Envelope[DeploymentSetBody]:
    """Shows one deployment set."""
    return success(DeploymentSetBody.of(service.get_deployment_set(runtime, caller, deployment_set_id)))


@router.delete("/{deployment_set_id}", operation_id="deleteDeploymentSet")
def delete_deployment_set(deployment_set_id: str, caller: TenantUser, runtime: RuntimeDep) -> Envelope[None]:
    """Deletes a deployment set. Refused with their list while it has instances."""
    service.delete_deployment_set(runtime, caller, deployment_set_id)
    return success(None)
