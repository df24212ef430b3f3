"""Instances that become something else: another size, another system."""

from fastapi import APIRouter

from coordinator.api.deps import RuntimeDep, TenantUser
from coordinator.api.envelope import Envelope, success
from coordinator.api.operation_header import OperationHeader
from coordinator.api.schemas.instance import InstanceBody
from coordinator.api.schemas.resize import ResizeRequest
from coordinator.api.schemas.system_change import BootOrderRequest, HighAvailabilityRequest, SystemChangeRequest
from coordinator.services import resize as resize_service
from coordinator.services.boot_order import set_boot_order as set_order
from coordinator.services.instance_availability import set_high_availability as set_availability
from coordinator.services.system_change import change_system

router = APIRouter(prefix="/api/ecs/v1/instances", tags=["instances"])


@router.patch("/{ecs_id}", operation_id="resizeInstance")
def resize_instance(
    ecs_id: str, body: ResizeRequest, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[InstanceBody]:
    """Gives an instance that runs or is shut off another size.

    It grows while it runs where its guest takes it, else it is restarted, on another node when its own is full.
    """
    resized = resize_service.resize_instance(runtime, caller, ecs_id, body.to_order())
    header.name(resized.operation_id)
    return success(InstanceBody.of(resized.view))


@router.post("/{ecs_id}/change-os", operation_id="changeOs")
def change_os(
    ecs_id: str, body: SystemChangeRequest, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[None]:
    """Gives an instance a system disk made from an image; data disks, addresses, host name and keys stay.

    It runs afterwards. The old disk is back when the new system does not boot.
    """
    header.name(change_system(runtime, caller, ecs_id, body.to_order()))
    return success(None)


@router.put("/{ecs_id}/set-boot-order", operation_id="setBootOrder")
def set_boot_order(
    ecs_id: str, body: BootOrderRequest, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[None]:
    """Lets an instance start from its disks, or from an ISO image in one of its drives, from its next start on."""
    if operation_id := set_order(runtime, caller, ecs_id, body.boot_mode, body.boot_id):
        header.name(operation_id)
    return success(None)


@router.put("/{ecs_id}/high-availability", operation_id="setHighAvailability")
def set_high_availability(
    ecs_id: str, body: HighAvailabilityRequest, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[None]:
    """Decides whether an instance is started elsewhere when its node is lost; of one that runs its node is told."""
    if operation_id := set_availability(runtime, caller, ecs_id, enabled=body.ha_enabled):
        header.name(operation_id)
    return success(None)
