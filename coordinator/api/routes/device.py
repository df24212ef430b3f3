"""Devices of nodes."""

from fastapi import APIRouter

from coordinator.api.deps import Operator, RuntimeDep
from coordinator.api.envelope import Envelope, success
from coordinator.api.filtering import Conditions, Orderings
from coordinator.api.paging import PageByCurrent
from coordinator.api.query import LenientRoute
from coordinator.api.schemas.device import DeviceBody, DeviceListBody
from coordinator.domain.listing import ListQuery
from coordinator.services import device as service

router = APIRouter(prefix="/api/ecs/v1/devices", tags=["devices"], route_class=LenientRoute)


@router.get("", operation_id="listDevices")
def list_devices(
    page: PageByCurrent, conditions: Conditions, orderings: Orderings, caller: Operator, runtime: RuntimeDep
) -> Envelope[DeviceListBody]:
    """Lists the devices of all nodes: what each is, who has it, and why it is not offered."""
    listing = service.list_devices(runtime, caller, ListQuery(page, conditions, orderings))
    devices = [DeviceBody.of(view) for view in listing.items]
    return success(DeviceListBody(size=page.size, current=page.number, total=listing.total, items=devices))
