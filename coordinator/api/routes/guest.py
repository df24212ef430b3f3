"""The guest agent inside instances."""

from typing import Any

from fastapi import APIRouter

from coordinator.api.deps import RuntimeDep, TenantUser
from coordinator.api.envelope import Envelope, success
from coordinator.api.operation_header import OperationHeader
from coordinator.api.schemas.instance_request import GuestCommandRequest, HostNameRequest, ResetPasswordRequest
from coordinator.services import guest as service
from coordinator.services import guest_identity

router = APIRouter(prefix="/api/ecs/v1/instances", tags=["guest"])


@router.put("/{ecs_id}/vmtools", operation_id="runGuestAgentCommand")
def run_guest_agent_command(
    ecs_id: str, body: GuestCommandRequest, caller: TenantUser, runtime: RuntimeDep
) -> Envelope[Any]:
    """Sends one command to the guest agent of a running instance; `data` is its return value."""
    return success(service.run_guest_command(runtime, caller, ecs_id, body.qga_command))


@router.post("/{ecs_id}/reset-password", operation_id="resetPassword")
def reset_password(
    ecs_id: str, body: ResetPasswordRequest, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[None]:
    """Sets the password of an account in a running guest; without `user`, that of its screen (VNC)."""
    header.name(*guest_identity.reset_password(runtime, caller, ecs_id, body.user, body.password))
    return success(None)


@router.put("/{ecs_id}/reset-hostname", operation_id="resetHostname")
def reset_hostname(
    ecs_id: str, body: HostNameRequest, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[None]:
    """Changes the host name: in a running guest now, in one that is shut off with its next start."""
    header.name(*guest_identity.set_host_name(runtime, caller, ecs_id, body.hostname))
    return success(None)
