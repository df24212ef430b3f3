"""Overcommitment of CPUs."""

from fastapi import APIRouter

from coordinator.api.deps import Operator, RuntimeDep
from coordinator.api.envelope import Envelope, success
from coordinator.api.query import LenientRoute
from coordinator.api.schemas.overcommit import CpuOvercommitBody, SetCpuOvercommitRequest
from coordinator.services import overcommit as service

router = APIRouter(prefix="/api/ecs/v1/global-config", tags=["settings"], route_class=LenientRoute)


@router.get("/cpu", operation_id="getCpuOvercommit")
def get_cpu_overcommit(caller: Operator, runtime: RuntimeDep) -> Envelope[CpuOvercommitBody]:
    """Tells how many vCPUs a host CPU stands for, in the region and in zones that have a ratio of their own."""
    return success(CpuOvercommitBody.of(service.get_cpu_overcommit(runtime, caller)))


@router.post("/cpu", operation_id="setCpuOvercommit")
def set_cpu_overcommit(body: SetCpuOvercommitRequest, caller: Operator, runtime: RuntimeDep) -> Envelope[None]:
    """Sets how many vCPUs a host CPU stands for. A ratio below what is in use only keeps new instances off."""
    zones = [(config.az, config.az_cpu_or) for config in body.az_cpu_configs]
    service.set_cpu_overcommit(runtime, caller, body.global_cpu_or, zones)
    return success(None)
