"""ISO images in the optical drives of instances."""

from typing import Annotated

from fastapi import APIRouter, Query

from coordinator.api.deps import RuntimeDep, TenantUser
from coordinator.api.envelope import Envelope, success
from coordinator.api.operation_header import OperationHeader
from coordinator.api.query import LenientRoute
from coordinator.api.schemas.iso import AttachedIsoBody, IsoRequests, VmtoolsIsoState
from coordinator.services import iso as service
from coordinator.services import vmtools

router = APIRouter(prefix="/api/ecs/v1/instances", tags=["isos"], route_class=LenientRoute)

Force = Annotated[bool, Query(description="Also when the guest has locked the tray: what it has mounted is gone.")]


@router.put("/{ecs_id}/attach-iso", operation_id="attachIsos")
def attach_isos(
    ecs_id: str, body: IsoRequests, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[None]:
    """Puts ISO images into drives of an instance, also while it runs: all of them, or none."""
    header.name(service.attach_isos(runtime, caller, ecs_id, [iso.image_id for iso in body]))
    return success(None)


@router.put("/{ecs_id}/detach-iso", operation_id="detachIsos")
def detach_isos(
    ecs_id: str,
    caller: TenantUser,
    runtime: RuntimeDep,
    header: OperationHeader,
    body: IsoRequests | None = None,
    force: Force = False,
) -> Envelope[None]:
    """Takes ISO images out of an instance's drives; without any named, all. A guest that uses one keeps it."""
    image_ids = [iso.image_id for iso in body or ()]
    if operation_id := service.detach_isos(runtime, caller, ecs_id, image_ids, force=force):
        header.name(operation_id)
    return success(None)


@router.get("/{ecs_id}/attached-iso", operation_id="listAttachedIsos")
def list_attached_isos(ecs_id: str, caller: TenantUser, runtime: RuntimeDep) -> Envelope[list[AttachedIsoBody]]:
    """Lists what is in the drives of an instance."""
    tenant_id, rows = service.list_attached(runtime, caller, ecs_id)
    return success([AttachedIsoBody.of(ecs_id, tenant_id, row) for row in rows])


@router.put("/{ecs_id}/attach-vmtools", operation_id="attachVmtoolsIso")
def attach_vmtools_iso(ecs_id: str, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader) -> Envelope[None]:
    """Puts the disc with the guest tools into a drive of an instance; its README says how they are installed."""
    if operation_id := vmtools.attach_vmtools(runtime, caller, ecs_id):
        header.name(operation_id)
    return success(None)


@router.get("/{ecs_id}/check-vmtoolsIso-attached", operation_id="getVmtoolsIsoState")
def get_vmtools_iso_state(ecs_id: str, caller: TenantUser, runtime: RuntimeDep) -> Envelope[VmtoolsIsoState]:
    """Tells whether the disc with the guest tools is in a drive of an instance."""
    return success(VmtoolsIsoState(vmtools.read_vmtools_state(runtime, caller, ecs_id)))
