"""Region, zones, and what is offered there."""

from typing import Annotated

from fastapi import APIRouter, Query

from coordinator.api.deps import Reader, RuntimeDep
from coordinator.api.envelope import Envelope, success
from coordinator.api.query import LenientRoute
from coordinator.api.schemas.region import ServiceAttributesBody, ServiceRegionBody, ServiceRegionRequest, ZonesBody
from coordinator.services import region as service

router = APIRouter(prefix="/api/ecs/v1", tags=["regions"], route_class=LenientRoute)


@router.get("/zones", operation_id="listZones")
def list_zones(caller: Reader, runtime: RuntimeDep) -> Envelope[ZonesBody]:
    """Lists the zones."""
    return success(ZonesBody.of(service.get_region(runtime, caller)))


@router.get("/instances/get-service-attrs", operation_id="getServiceAttributes")
def get_service_attributes(
    caller: Reader,
    runtime: RuntimeDep,
    tenant_id: Annotated[str, Query(alias="tenantId", description="Id of the tenant.")] = "",
    department_id: Annotated[str, Query(alias="departmentId", description="Id of a department of it.")] = "",
) -> Envelope[ServiceAttributesBody]:
    """Tells what ordering an instance takes."""
    service.check_tenant(runtime, caller, tenant_id, department_id)
    return success(ServiceAttributesBody.in_language(caller.language))


@router.post("/service-region-info", operation_id="listServiceRegions")
def list_service_regions(
    body: ServiceRegionRequest, caller: Reader, runtime: RuntimeDep
) -> Envelope[list[ServiceRegionBody]]:
    """Lists the regions and zones that a tenant may use."""
    region = service.get_region_of_tenant(runtime, caller, body.tenant_id, body.department_id)
    return success([ServiceRegionBody.of(region)])
