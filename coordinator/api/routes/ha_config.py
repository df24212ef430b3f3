"""High availability of the region."""

from fastapi import APIRouter

from coordinator.api.deps import Operator, RuntimeDep
from coordinator.api.envelope import Envelope, success
from coordinator.api.query import LenientRoute
from coordinator.api.schemas.ha_config import HaConfigBody, SetHaConfigRequest
from coordinator.services import ha_config as service

router = APIRouter(prefix="/api/ecs/v1/instances/global-ha-config", tags=["settings"], route_class=LenientRoute)


@router.get("", operation_id="getHaConfig")
def get_global_ha_config(caller: Operator, runtime: RuntimeDep) -> Envelope[HaConfigBody]:
    """Tells how long a node may be silent before its highly available instances are started elsewhere."""
    return success(HaConfigBody(tolerance_time=service.get_tolerance(runtime, caller)))


@router.put("", operation_id="setHaConfig")
def set_global_ha_config(body: SetHaConfigRequest, caller: Operator, runtime: RuntimeDep) -> Envelope[None]:
    """Sets how long a node may be silent. What a node has not heard of yet does not count against it."""
    service.set_tolerance(runtime, caller, body.tolerance_time)
    return success(None)
