"""Snapshots of instances."""

from typing import Annotated

from fastapi import APIRouter, Body, Query

from coordinator.api.deps import RuntimeDep, TenantUser
from coordinator.api.envelope import Envelope, success
from coordinator.api.filtering import Conditions, Orderings, equal_to
from coordinator.api.idempotency import IdempotentRoute
from coordinator.api.operation_header import OperationHeader
from coordinator.api.paging import PageByNumber
from coordinator.api.schemas.snapshot import CreateSnapshotRequest, RollbackRequest, SnapshotBody, SnapshotListBody
from coordinator.domain.listing import ListQuery
from coordinator.services import snapshot as service
from coordinator.services.snapshot_recycle import recycle_snapshot

router = APIRouter(prefix="/api/ecs/v1/snapshot", tags=["snapshots"], route_class=IdempotentRoute)


@router.get("", operation_id="listSnapshots")
def list_snapshots(
    page: PageByNumber,
    conditions: Conditions,
    orderings: Orderings,
    caller: TenantUser,
    runtime: RuntimeDep,
    snapshot_id: Annotated[str, Query(alias="snapshotid", description="Id of a snapshot.")] = "",
    ecs_id: Annotated[str, Query(alias="ecsid", description="Those of this instance.")] = "",
) -> Envelope[SnapshotListBody]:
    """Lists the caller's snapshots, the newest first."""
    wanted = equal_to(ecsSnapshotId=snapshot_id, ecsId=ecs_id)
    listing = service.list_snapshots(runtime, caller, ListQuery(page, wanted + conditions, orderings))
    bodies = [SnapshotBody.of(found, runtime.settings.region) for found in listing.items]
    return success(SnapshotListBody(ecs_snapshots=bodies, total_count=listing.total))


@router.post("", operation_id="createSnapshot")
def create_snapshot(
    body: CreateSnapshotRequest, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[None]:
    """Takes a snapshot of all volumes of an instance at one moment, whether it runs or not."""
    created = service.create_snapshot(runtime, caller, body.ecs_id, body.to_order())
    header.name(created.operation_id)
    return success(None)


@router.get("/{snapshot_id}", operation_id="getSnapshot")
def get_snapshot(snapshot_id: str, caller: TenantUser, runtime: RuntimeDep) -> Envelope[SnapshotListBody]:
    """Shows a snapshot, and what it holds of each volume."""
    view = service.get_snapshot(runtime, caller, snapshot_id)
    return success(SnapshotListBody.of_one(view, runtime.settings.region))


@router.delete("/{snapshot_id}", operation_id="deleteSnapshot")
def delete_snapshot(
    snapshot_id: str, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[None]:
    """Deletes a snapshot, which goes to the recycle bin first if that is on; instance and other snapshots stay."""
    operation_id = recycle_snapshot(runtime, caller, snapshot_id)
    if operation_id is not None:
        header.name(operation_id)
    return success(None)


@router.post("/{snapshot_id}/rollback", operation_id="rollbackSnapshot")
def rollback_snapshot(
    snapshot_id: str,
    caller: TenantUser,
    runtime: RuntimeDep,
    header: OperationHeader,
    body: Annotated[RollbackRequest | None, Body()] = None,
) -> Envelope[None]:
    """Puts all volumes of the snapshot back; an instance that runs is stopped before and started again afterwards."""
    force = body.force if body else False
    header.name(service.roll_back(runtime, caller, snapshot_id, force=force))
    return success(None)
