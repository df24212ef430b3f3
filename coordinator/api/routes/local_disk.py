"""Local disks."""

from typing import Annotated

from fastapi import APIRouter, Query

from coordinator.api.deps import Operator, RuntimeDep, TenantUser
from coordinator.api.envelope import Envelope, success
from coordinator.api.query import LenientRoute
from coordinator.api.schemas.local_disk import DiskInterface, DiskMedia, LocalDiskBody, UnusedDiskBody
from coordinator.services import local_disk as service

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
