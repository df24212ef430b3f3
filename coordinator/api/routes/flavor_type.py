"""Flavor types, and the GPUs that they can offer."""

from itertools import groupby
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from coordinator.api.deps import Operator, RuntimeDep
from coordinator.api.envelope import Envelope, success
from coordinator.api.filtering import Conditions, Orderings, equal_to, like
from coordinator.api.idempotency import IdempotentRoute
from coordinator.api.paging import PageByNumber
from coordinator.api.schemas.flavor_type import (
    CreateFlavorTypeRequest,
    FlavorTypeBody,
    FlavorTypeListBody,
    GpuModelBody,
    GpuVendorBody,
    UpdateFlavorTypeRequest,
    VgpuTypeBody,
)
from coordinator.domain.listing import Condition, ListQuery
from coordinator.services import flavor_type as service
from coordinator.services import gpu_model as gpu_models

router = APIRouter(prefix="/api/ecs/v1/flavortypes", tags=["flavors"], route_class=IdempotentRoute)


@router.get("/supported-gpus", operation_id="listSupportedGpus")
def list_supported_gpus(caller: Operator, runtime: RuntimeDep) -> Envelope[list[GpuVendorBody]]:
    """Lists the GPU models that flavor types can offer, by vendor: known ones, and what else nodes have."""
    vendors = groupby(gpu_models.list_gpu_models(runtime, caller), key=lambda model: model.vendor)
    return success(
        [
            GpuVendorBody(vendor=vendor, gpu_list=[GpuModelBody.of(model) for model in models])
            for vendor, models in vendors
        ]
    )


@router.get("/supported-vgpus", operation_id="listSupportedVgpus")
def list_supported_vgpus(
    caller: Operator,
    runtime: RuntimeDep,
    gpu_type: Annotated[
        str, Query(alias="gpuType", max_length=16, description="PCI id of the GPU model.", examples=["10de1eb8"])
    ],
) -> Envelope[list[VgpuTypeBody]]:
    """Lists the vGPU types of one GPU model: known ones, and what else the drivers of nodes tell."""
    return success([VgpuTypeBody.of(vgpu) for vgpu in gpu_models.get_gpu_model(runtime, caller, gpu_type).vgpus])


@router.post("", operation_id="createFlavorType")
def create_flavor_type(
    body: CreateFlavorTypeRequest, caller: Operator, runtime: RuntimeDep
) -> Envelope[FlavorTypeBody]:
    """Creates a flavor type."""
    use = service.create_flavor_type(runtime, caller, body.to_row(), with_custom_flavor=body.create_custom_flavor)
    return success(FlavorTypeBody.of(use))


@router.put("/{flavor_type_id}", operation_id="updateFlavorType")
def update_flavor_type(
    flavor_type_id: str, body: UpdateFlavorTypeRequest, caller: Operator, runtime: RuntimeDep
) -> Envelope[None]:
    """Renames a flavor type and sets its resource pools."""
    service.update_flavor_type(runtime, caller, flavor_type_id, name=body.name, rp_ids=body.all_rp_ids)
    return success(None)


@router.delete("/{flavor_type_id}", operation_id="deleteFlavorType")
def delete_flavor_type(flavor_type_id: str, caller: Operator, runtime: RuntimeDep) -> Envelope[None]:
    """Deletes a flavor type that has neither flavors (except for its custom one) nor instances."""
    service.delete_flavor_type(runtime, caller, flavor_type_id)
    return success(None)


async def _conditions(
    name: Annotated[str, Query(max_length=127, description="Part of the name.")] = "",
    flavor_type_id: Annotated[str, Query(alias="flavorTypeId")] = "",
    rp_id: Annotated[str, Query(alias="rpId", description="Resource pool that it is bound to.")] = "",
    device_type: Annotated[str, Query(alias="deviceType")] = "",
    security_type: Annotated[str, Query(alias="securityType")] = "",
    arch_type: Annotated[str, Query(alias="archType")] = "",
    gpu_type: Annotated[str, Query(alias="gpuType")] = "",
    vcpu_type: Annotated[str, Query(alias="vcpuType")] = "",
    use_sriov: Annotated[bool | None, Query(alias="useSriov")] = None,
    local_disk_type: Annotated[str, Query(alias="localDiskType")] = "",
    az: str = "",
    dept_available: Annotated[bool | None, Query(alias="deptAvailable")] = None,
) -> tuple[Condition, ...]:
    return (
        *like(name=name, rpIds=f'"{rp_id}"' if rp_id else ""),
        *equal_to(
            flavorTypeId=flavor_type_id,
            deviceType=device_type,
            securityType=security_type,
            archType=arch_type,
            gpuType=gpu_models.normalize_gpu_type(gpu_type),
            vcpuType=vcpu_type,
            useSriov=use_sriov,
            localDiskType=local_disk_type,
            az=az,
            deptAvailable=dept_available,
        ),
    )


@router.get("", operation_id="listFlavorTypes")
def list_flavor_types(
    page: PageByNumber,
    named: Annotated[tuple[Condition, ...], Depends(_conditions)],
    conditions: Conditions,
    orderings: Orderings,
    caller: Operator,
    runtime: RuntimeDep,
) -> Envelope[FlavorTypeListBody]:
    """Lists flavor types, the newest first."""
    query = ListQuery(page, named + conditions, orderings)
    listing = service.list_flavor_types(runtime, caller, query)
    types = [FlavorTypeBody.of(use) for use in listing.items]
    return success(FlavorTypeListBody(flavor_types=types, total_count=listing.total))
