"""Power operations of instances."""

from typing import Annotated

from fastapi import APIRouter, Body

from coordinator.api.deps import RuntimeDep, TenantUser
from coordinator.api.envelope import Envelope, success
from coordinator.api.operation_header import OperationHeader
from coordinator.api.schemas.instance_request import BatchStopRequest, InstanceIdsRequest, StopRequest
from coordinator.services import power as service

router = APIRouter(prefix="/api/ecs/v1/instances", tags=["power"])

# Without a body the guest is asked.
OptionalStop = Annotated[StopRequest | None, Body()]


@router.put("/batch-start", operation_id="batchStartInstances")
def batch_start_instances(
    body: InstanceIdsRequest, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[None]:
    """Starts instances; none when one of them cannot be started."""
    header.name(*service.start_instances(runtime, caller, body.ecs_ids))
    return success(None)


@router.put("/batch-stop", operation_id="batchStopInstances")
def batch_stop_instances(
    body: BatchStopRequest, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[None]:
    """Shuts instances down; none when one of them cannot be shut down."""
    header.name(*service.stop_instances(runtime, caller, body.ecs_ids, force=body.force))
    return success(None)


@router.put("/batch-restart", operation_id="batchRestartInstances")
def batch_restart_instances(
    body: BatchStopRequest, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[None]:
    """Restarts instances; none when one of them cannot be restarted."""
    header.name(*service.restart_instances(runtime, caller, body.ecs_ids, force=body.force))
    return success(None)


@router.put("/{ecs_id}/start", operation_id="startInstance")
def start_instance(ecs_id: str, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader) -> Envelope[None]:
    """Starts an instance that is shut off, or lets one that hibernates go on."""
    header.name(*service.start_instances(runtime, caller, [ecs_id]))
    return success(None)


@router.put("/{ecs_id}/stop", operation_id="stopInstance")
def stop_instance(
    ecs_id: str, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader, body: OptionalStop = None
) -> Envelope[None]:
    """Shuts an instance down: asks its guest, or ends it at once with gracePeriodSeconds 0."""
    header.name(*service.stop_instances(runtime, caller, [ecs_id], force=body is not None and body.force))
    return success(None)


@router.put("/{ecs_id}/restart", operation_id="restartInstance")
def restart_instance(
    ecs_id: str, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader, body: OptionalStop = None
) -> Envelope[None]:
    """Restarts a running instance: asks its guest, or resets it with gracePeriodSeconds 0."""
    header.name(*service.restart_instances(runtime, caller, [ecs_id], force=body is not None and body.force))
    return success(None)


@router.put("/{ecs_id}/suspend", operation_id="suspendInstance")
def suspend_instance(ecs_id: str, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader) -> Envelope[None]:
    """Pauses a running instance."""
    header.name(*service.suspend_instance(runtime, caller, ecs_id))
    return success(None)


@router.put("/{ecs_id}/hibernate", operation_id="hibernateInstance")
def hibernate_instance(ecs_id: str, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader) -> Envelope[None]:
    """Puts a running instance, with its memory, on its node's disk; its next start lets it go on from there."""
    header.name(*service.hibernate_instance(runtime, caller, ecs_id))
    return success(None)


@router.put("/{ecs_id}/resume", operation_id="resumeInstance")
def resume_instance(ecs_id: str, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader) -> Envelope[None]:
    """Lets a paused instance run again."""
    header.name(*service.resume_instance(runtime, caller, ecs_id))
    return success(None)
