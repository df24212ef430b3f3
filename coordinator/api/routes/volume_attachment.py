"""Volumes of instances."""

from fastapi import APIRouter

from coordinator.api.deps import RuntimeDep, TenantUser
from coordinator.api.envelope import Envelope, success
from coordinator.api.operation_header import OperationHeader
from coordinator.api.schemas.volume import (
    AttachedVolumeBody,
    AttachedVolumeListBody,
    AttachVolumeRequest,
    DeleteFlagRequest,
    DetachVolumeRequest,
    DetachVolumesRequest,
    SharedVolumeRequest,
)
from coordinator.services import shared_volume
from coordinator.services import volume_attachment as service

router = APIRouter(prefix="/api/ecs/v1/instances", tags=["volumes"])


@router.put("/batch-attach-volume", operation_id="attachSharedVolume")
def attach_shared_volume(
    body: SharedVolumeRequest, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[None]:
    """Gives a shared volume to instances: to all of them, or to none."""
    header.name(shared_volume.attach_shared(runtime, caller, body.volume_id, body.ecs_ids))
    return success(None)


@router.put("/batch-detach-volume", operation_id="detachSharedVolume")
def detach_shared_volume(
    body: SharedVolumeRequest, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[None]:
    """Takes a shared volume from instances: from all of them, or from none."""
    header.name(shared_volume.detach_shared(runtime, caller, body.volume_id, body.ecs_ids))
    return success(None)


@router.get("/{ecs_id}/attached-volumes", operation_id="listAttachedVolumes")
def list_attached_volumes(ecs_id: str, caller: TenantUser, runtime: RuntimeDep) -> Envelope[AttachedVolumeListBody]:
    """Lists the volumes of an instance, the system disk first."""
    attached, settings = service.list_attached(runtime, caller, ecs_id), runtime.settings
    volumes = [AttachedVolumeBody.of(volume, settings.limit_of(volume.volume_type)) for volume in attached]
    return success(AttachedVolumeListBody(attached_volumes=volumes, count=len(volumes)))


@router.put("/{ecs_id}/attach-volumes", operation_id="attachVolumes")
def attach_volumes(
    ecs_id: str, body: list[AttachVolumeRequest], caller: TenantUser, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[None]:
    """Gives volumes to an instance, also while it runs: all of them, or none."""
    header.name(service.attach_volumes(runtime, caller, ecs_id, [volume.to_order() for volume in body]))
    return success(None)


@router.put("/{ecs_id}/detach-volume", operation_id="detachVolume")
def detach_volume(
    ecs_id: str, body: DetachVolumeRequest, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[None]:
    """Takes a volume from an instance; the operation fails when the guest does not let go of it."""
    header.name(service.detach_volumes(runtime, caller, ecs_id, [body.volume_id]))
    return success(None)


@router.put("/{ecs_id}/detach-volumes", operation_id="detachVolumes")
def detach_volumes(
    ecs_id: str, body: DetachVolumesRequest, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[None]:
    """Takes volumes from an instance: all of them, or none."""
    header.name(service.detach_volumes(runtime, caller, ecs_id, body.volume_uuids))
    return success(None)


@router.put("/{ecs_id}/reset-voldelflag", operation_id="setVolumeDeleteOnTermination")
def set_volume_delete_on_termination(
    ecs_id: str, body: DeleteFlagRequest, caller: TenantUser, runtime: RuntimeDep
) -> Envelope[None]:
    """Says whether a volume is deleted together with its instance."""
    service.set_delete_flag(runtime, caller, ecs_id, body.volume_id, body.delete_on_termination)
    return success(None)
