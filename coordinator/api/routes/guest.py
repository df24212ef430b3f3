"""The guest agent inside instances."""

from typing import Any

from fastapi import APIRouter

from coordinator.api.deps import RuntimeDep, TenantUser
from coordinator.api.envelope import Envelope, success
from coordinator.api.schemas.instance_request import GuestCommandRequest
from coordinator.services import guest as service

router = APIRouter(prefix="/api/ecs/v1/instances", tags=["guest"])


@router.put("/{ecs_id}/vmtools", operation_id="runGuestAgentCommand")
def run_guest_agent_command(
    ecs_id: str, body: GuestCommandRequest, caller: TenantUser, runtime: RuntimeDep
) -> Envelope[Any]:
    """Sends one command to the guest agent of a running instance; `data` is its return value."""
    return success(service.run_guest_command(runtime, caller, ecs_id, body.qga_command))
