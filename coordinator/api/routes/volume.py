"""Volumes."""

from fastapi import APIRouter

from coordinator.api.deps import RuntimeDep, TenantUser
from coordinator.api.envelope import Envelope, success
from coordinator.api.filtering import Conditions, Orderings
from coordinator.api.idempotency import IdempotentRoute
from coordinator.api.operation_header import OperationHeader
from coordinator.api.paging import PageByNumber
from coordinator.api.schemas.volume import (
    CreateVolumeRequest,
    GrowVolumeRequest,
    UpdateVolumeRequest,
    VolumeBody,
    VolumeListBody,
    VolumeTypeBody,
    VolumeTypeListBody,
)
from coordinator.domain.listing import ListQuery
from coordinator.domain.volume import VOLUME_TYPES
from coordinator.services import volume as service

router = APIRouter(prefix="/api/ebs/v1", tags=["volumes"], route_class=IdempotentRoute)


@router.post("/volumes", operation_id="createVolume")
def create_volume(body: CreateVolumeRequest, caller: TenantUser, runtime: RuntimeDep) -> Envelope[VolumeBody]:
    """Creates a volume; a node makes it real when an instance first uses it."""
    return success(VolumeBody.of(service.create_volume(runtime, caller, body.to_row())))


@router.get("/volumes", operation_id="listVolumes")
def list_volumes(
    page: PageByNumber, conditions: Conditions, orderings: Orderings, caller: TenantUser, runtime: RuntimeDep
) -> Envelope[VolumeListBody]:
    """Lists the caller's volumes, those of its instances included."""
    listing = service.list_volumes(runtime, caller, ListQuery(page, conditions, orderings))
    volumes = [VolumeBody.of(row) for row in listing.items]
    return success(VolumeListBody(items=volumes, total_count=listing.total))


@router.get("/volumes/{volume_id}", operation_id="getVolume")
def get_volume(volume_id: str, caller: TenantUser, runtime: RuntimeDep) -> Envelope[VolumeBody]:
    """Shows one volume, by number or UUID."""
    return success(VolumeBody.of(service.get_volume(runtime, caller, volume_id)))


@router.put("/volumes/{volume_id}", operation_id="updateVolume")
def update_volume(
    volume_id: str, body: UpdateVolumeRequest, caller: TenantUser, runtime: RuntimeDep
) -> Envelope[VolumeBody]:
    """Renames a volume."""
    return success(VolumeBody.of(service.rename_volume(runtime, caller, volume_id, body.name)))


@router.put("/volumes/{volume_id}/resize", operation_id="growVolume")
def grow_volume(
    volume_id: str, body: GrowVolumeRequest, caller: TenantUser, runtime: RuntimeDep, operation: OperationHeader
) -> Envelope[None]:
    """Makes a volume larger, also while an instance uses it."""
    task = service.grow_volume(runtime, caller, volume_id, body.size_gib)
    if task:
        operation.name(task.id)
    return success(None)


@router.delete("/volumes/{volume_id}", operation_id="deleteVolume")
def delete_volume(
    volume_id: str, caller: TenantUser, runtime: RuntimeDep, operation: OperationHeader
) -> Envelope[None]:
    """Deletes a volume that no instance uses, with its data."""
    task = service.delete_volume(runtime, caller, volume_id)
    if task:
        operation.name(task.id)
    return success(None)


@router.get("/volume-types", operation_id="listVolumeTypes")
def list_volume_types(caller: TenantUser, runtime: RuntimeDep) -> Envelope[VolumeTypeListBody]:
    """Lists the kinds of storage that volumes can be ordered with, and what each volume may do at most."""
    settings = runtime.settings
    types = [
        VolumeTypeBody.of(name, settings.limit_of(name), is_encrypted=name in settings.encrypted_volume_types)
        for name in VOLUME_TYPES
    ]
    return success(VolumeTypeListBody(items=types, total_count=len(types)))
