"""Local disks."""

from typing import Annotated

from fastapi import APIRouter, Query

from coordinator.api.deps import Operator, RuntimeDep, TenantUser
from coordinator.api.envelope import Envelope, success
from coordinator.api.operation_header import OperationHeader
from coordinator.api.query import LenientRoute
from coordinator.api.schemas.batch import Batch
from coordinator.api.schemas.local_disk import (
    DiskInterface,
    DiskMedia,
    DiskReferenceRequest,
    LocalDiskBody,
    UnusedDiskBody,
)
from coordinator.services import local_disk as service
from coordinator.services.device_attachment import attach_devices, detach_devices

router = APIRouter(prefix="/api/ecs/v1/harddisks", tags=["localdisks"], route_class=LenientRoute)
instance_router = APIRouter(prefix="/api/ecs/v1/instances", tags=["localdisks"], route_class=LenientRoute)

Gib = Annotated[int | None, Query(ge=0, le=2**31 - 1)]


@router.get("/nouse-list", operation_id="listUnusedLocalDiskKinds")
def list_unused_local_disk_kinds(
    caller: Operator,
    runtime: RuntimeDep,
    az: Annotated[str, Query(max_length=63, description="Zone.")] = "",
    rp_ids: Annotated[str, Query(alias="rpIds", description="Ids of resource pools, separated by commas.")] = "",
    media: Annotated[DiskMedia | None, Query(alias="localDiskType")] = None,
    interface: Annotated[DiskInterface | None, Query(alias="localDiskInterface")] = None,
    least_gib: Annotated[Gib, Query(alias="minSize", description="Smallest size, GiB.")] = None,
    most_gib: Annotated[Gib, Query(alias="maxSize", description="Largest size, GiB.")] = None,
) -> Envelope[list[UnusedDiskBody]]:
    """Counts the local disks that instances can have now, by node and kind."""
    pools = tuple(filter(None, rp_ids.split(",")))
    search = service.DiskSearch(az, pools, media or "", interface or "", least_gib, most_gib)
    kinds = service.count_unused_disks(runtime, caller, search)
    return success([UnusedDiskBody.of(kind, count, runtime.settings.cell) for kind, count in kinds])


@instance_router.get("/{ecs_id}/nouse-disk-list", operation_id="listUnusedLocalDisksOfNode")
@instance_router.get("/{ecs_id}/house-disk-list", operation_id="listUnusedLocalDisksOfNodeByOtherPath")
def list_unused_local_disks_of_node(
    ecs_id: str, caller: TenantUser, runtime: RuntimeDep
) -> Envelope[list[LocalDiskBody]]:
    """Lists the local disks of an instance's node that it could have."""
    return success([LocalDiskBody.of(view) for view in service.list_unused_disks(runtime, caller, ecs_id)])


@instance_router.put("/{ecs_id}/attach-localdisks", operation_id="attachLocalDisks")
def attach_local_disks(
    ecs_id: str, body: Batch[DiskReferenceRequest], caller: TenantUser, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[None]:
    """Gives local disks of its node to an instance, all of them or none; those that run see them plugged in."""
    header.name(attach_devices(runtime, caller, ecs_id, [it.to_reference() for it in body]))
    return success(None)


@instance_router.put("/{ecs_id}/detach-localdisks", operation_id="detachLocalDisks")
def detach_local_disks(
    ecs_id: str, body: Batch[DiskReferenceRequest], caller: TenantUser, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[None]:
    """Takes local disks away from an instance; they are wiped, unless the cloud's configuration says otherwise."""
    header.name_any(detach_devices(runtime, caller, ecs_id, [it.to_reference() for it in body]))
    return success(None)
