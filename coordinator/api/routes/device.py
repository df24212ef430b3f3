"""Devices of nodes."""

from typing import Annotated

from fastapi import APIRouter, Query

from coordinator.api.deps import Operator, RuntimeDep, TenantUser
from coordinator.api.envelope import Envelope, success
from coordinator.api.filtering import Conditions, Orderings
from coordinator.api.operation_header import OperationHeader
from coordinator.api.paging import PageByCurrent
from coordinator.api.query import LenientRoute
from coordinator.api.schemas.batch import Batch
from coordinator.api.schemas.device import DeviceBody, DeviceListBody, ReleaseDeviceRequest
from coordinator.api.schemas.infiniband import InfinibandModelBody
from coordinator.api.schemas.usb import UsbBindingRequest, UsbDeviceBody, UsbReferenceRequest
from coordinator.domain.listing import ListQuery
from coordinator.services import device as service
from coordinator.services.device_attachment import attach_devices, detach_devices
from coordinator.services.device_release import release_device as force_release
from coordinator.services.infiniband import list_infiniband_models
from coordinator.services.usb import list_usb_devices as find_usb_devices

router = APIRouter(prefix="/api/ecs/v1", tags=["devices"], route_class=LenientRoute)


@router.get("/devices", operation_id="listDevices")
def list_devices(
    page: PageByCurrent, conditions: Conditions, orderings: Orderings, caller: Operator, runtime: RuntimeDep
) -> Envelope[DeviceListBody]:
    """Lists the devices of all nodes: what each is, who has it, and why it is not offered."""
    listing = service.list_devices(runtime, caller, ListQuery(page, conditions, orderings))
    devices = [DeviceBody.of(view) for view in listing.items]
    return success(DeviceListBody(size=page.size, current=page.number, total=listing.total, items=devices))


@router.put("/devices/release", operation_id="releaseDevice")
def release_device(
    body: ReleaseDeviceRequest, caller: Operator, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[None]:
    """Gives a device back by force, when it is dead, away or forgotten; a disk that cannot be wiped is withheld."""
    header.name(force_release(runtime, caller, body.to_reference(), body.device_id))
    return success(None)


@router.get("/usb", operation_id="listUsbDevices")
def list_usb_devices(
    caller: TenantUser,
    runtime: RuntimeDep,
    ecs_id: Annotated[str, Query(alias="ecsId", max_length=63, description="Only what this instance has.")] = "",
    node_name: Annotated[str, Query(alias="nodeName", max_length=255, description="Only those of this node.")] = "",
) -> Envelope[list[UsbDeviceBody]]:
    """Lists USB devices; to a tenant those that its instances have, or that are free on their nodes."""
    return success([UsbDeviceBody.of(view) for view in find_usb_devices(runtime, caller, ecs_id, node_name)])


@router.post("/usb/{ecs_id}/bind", operation_id="bindUsbDevices")
def bind_usb_devices(
    ecs_id: str, body: Batch[UsbBindingRequest], caller: TenantUser, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[None]:
    """Gives USB devices of its node to an instance, all of them or none; those that run see them plugged in."""
    header.name(attach_devices(runtime, caller, ecs_id, [it.to_reference() for it in body]))
    return success(None)


@router.delete("/usb/{ecs_id}/unbind", operation_id="unbindUsbDevices")
def unbind_usb_devices(
    ecs_id: str, body: Batch[UsbReferenceRequest], caller: TenantUser, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[None]:
    """Takes USB devices away from an instance; what it does not have any more is left out."""
    header.name_any(detach_devices(runtime, caller, ecs_id, [it.to_reference() for it in body]))
    return success(None)


@router.get("/ibnic/supported-list", operation_id="listSupportedIbNics")
def list_supported_ib_nics(
    caller: TenantUser, runtime: RuntimeDep, az: Annotated[str, Query(min_length=1, max_length=63, description="Zone.")]
) -> Envelope[list[InfinibandModelBody]]:
    """Lists the models of InfiniBand adapters that nodes of a zone offer."""
    return success([InfinibandModelBody.of(model) for model in list_infiniband_models(runtime, caller, az)])
