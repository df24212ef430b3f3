"""The region at a glance."""

from fastapi import APIRouter

from coordinator.api.deps import Operator, RuntimeDep
from coordinator.api.envelope import Envelope, success
from coordinator.api.schemas.monitor import CapacityBody, InstanceCountBody
from coordinator.services import monitor as service

router = APIRouter(prefix="/api/ecs/v1/monitor", tags=["monitor"])


@router.get("/vmcount", operation_id="countInstancesByStatus")
def count_instances_by_status(caller: Operator, runtime: RuntimeDep) -> Envelope[InstanceCountBody]:
    """Counts instances by what their status means."""
    return success(InstanceCountBody.of(service.count_instances_by_status(runtime, caller)))


@router.get("/capacity", operation_id="getCapacity")
def get_capacity(caller: Operator, runtime: RuntimeDep) -> Envelope[CapacityBody]:
    """Tells what the nodes that are ready can take, and what is taken."""
    return success(CapacityBody.of(service.get_capacity(runtime, caller), caller.language))
