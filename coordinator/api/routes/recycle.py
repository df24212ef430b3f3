"""The recycle bin, and what is in it."""

from typing import Annotated

from fastapi import APIRouter, Query

from coordinator.api.deps import Operator, RuntimeDep, TenantUser
from coordinator.api.envelope import Envelope, success
from coordinator.api.filtering import Conditions, Orderings, equal_to, like
from coordinator.api.operation_header import OperationHeader
from coordinator.api.paging import PageByCurrent
from coordinator.api.query import LenientRoute
from coordinator.api.schemas.recycle import (
    AutoCleanRequest,
    RecycleConfigBody,
    RecycledInstanceBody,
    RecycledSnapshotBody,
    RecycledSnapshotListBody,
    SetRecycleConfigRequest,
)
from coordinator.domain.listing import ListQuery
from coordinator.services import recycle as service
from coordinator.services import snapshot_recycle as snapshots
from coordinator.services.recycle_config import get_recycle_config as read_config
from coordinator.services.recycle_config import set_recycle_config as write_config

config_router = APIRouter(prefix="/api/ecs/v1/instances/recycle-config", tags=["settings"], route_class=LenientRoute)
router = APIRouter(prefix="/api/ecs/v1", tags=["recycle"], route_class=LenientRoute)


@config_router.get("", operation_id="getRecycleConfig")
def get_recycle_config(caller: TenantUser, runtime: RuntimeDep) -> Envelope[RecycleConfigBody]:
    """Tells whether deleted instances and snapshots go to the recycle bin, and for how many days."""
    return success(RecycleConfigBody.of(read_config(runtime, caller)))


@config_router.put("", operation_id="setRecycleConfig")
def set_recycle_config(body: SetRecycleConfigRequest, caller: Operator, runtime: RuntimeDep) -> Envelope[None]:
    """Switches the recycle bin on or off for what is deleted from now on; what is in it stays as long as it was to."""
    write_config(runtime, caller, body.to_config())
    return success(None)


@router.get("/recycle", operation_id="listRecycledSnapshots")
def list_recycled_snapshots(
    page: PageByCurrent,
    conditions: Conditions,
    orderings: Orderings,
    caller: TenantUser,
    runtime: RuntimeDep,
    ecs_id: Annotated[str, Query(alias="ecsId", description="Of that instance.")] = "",
    tenant_id: Annotated[str, Query(alias="tenantId", description="Of that tenant.")] = "",
    snapshot_id: Annotated[str, Query(alias="instanceId", description="Id of a snapshot.")] = "",
    name: Annotated[str, Query(alias="instanceName", max_length=255, description="Part of their names.")] = "",
) -> Envelope[RecycledSnapshotListBody]:
    """Lists snapshots in the recycle bin, the one that was deleted last first."""
    wanted = equal_to(ecsId=ecs_id, tenantId=tenant_id, instanceId=snapshot_id) + like(instanceName=name)
    found = snapshots.list_recycled(runtime, caller, ListQuery(page, wanted + conditions, orderings))
    bodies = [RecycledSnapshotBody.of(row) for row in found.items]
    return success(RecycledSnapshotListBody(size=page.size, current=page.number, total=found.total, list=bodies))


@router.put("/recycle/snapshot/{snapshot_id}", operation_id="restoreSnapshot")
def restore_snapshot(snapshot_id: str, caller: TenantUser, runtime: RuntimeDep) -> Envelope[None]:
    """Takes a snapshot out of the recycle bin."""
    snapshots.restore_snapshot(runtime, caller, snapshot_id)
    return success(None)


@router.delete("/recycle/snapshot/{snapshot_id}", operation_id="purgeSnapshot")
def purge_snapshot(
    snapshot_id: str, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[None]:
    """Deletes a snapshot in the recycle bin for good."""
    header.name(snapshots.purge_snapshot(runtime, caller, snapshot_id))
    return success(None)


@router.get("/recycle/instances/{ecs_id}", operation_id="getRecycledInstance")
def get_recycled_instance(ecs_id: str, caller: TenantUser, runtime: RuntimeDep) -> Envelope[RecycledInstanceBody]:
    """Shows an instance in the recycle bin; `instances?filter=status:eq:SoftDeleted` lists them."""
    return success(RecycledInstanceBody.of(service.get_recycled(runtime, caller, ecs_id)))


@router.put("/recycle/instances/{ecs_id}", operation_id="restoreInstance")
def restore_instance(ecs_id: str, caller: TenantUser, runtime: RuntimeDep) -> Envelope[None]:
    """Restores an instance with all that it had, at once; it is shut off."""
    service.restore_instance(runtime, caller, ecs_id)
    return success(None)


@router.delete("/recycle/instances/{ecs_id}", operation_id="purgeInstance")
def purge_instance(ecs_id: str, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader) -> Envelope[None]:
    """Deletes an instance in the recycle bin for good; once that has begun there is no way back."""
    header.name(service.purge_instance(runtime, caller, ecs_id))
    return success(None)


@router.post("/res-life-cycle/auto-clean", operation_id="autoCleanInstance")
def auto_clean_instance(
    body: AutoCleanRequest, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[None]:
    """Deletes an instance for good whose time in the recycle bin is over, as the coordinator does it by itself."""
    header.name(service.purge_expired(runtime, caller, body.instance_id, body.service_code))
    return success(None)
