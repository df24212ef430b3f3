"""GuestService: the guest agents inside guests."""

from __future__ import annotations

from typing import Any, Final

import grpc

from agent.configure.check import check_uuid
from agent.hypervisor.guest_agent import GuestAgents
from agent.hypervisor.prober import GuestAgentProber
from agent.rpc.encoding import decode_seconds, encode_probe
from protos.agent.v1 import guest_pb2 as messages
from protos.agent.v1 import guest_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]

_DEFAULT_TIMEOUT_SECONDS: Final = 10.0


class GuestServicer(guest_pb2_grpc.GuestServiceServicer):
    """Commands to guest agents, and whether they answer."""

    def __init__(self, guest_agents: GuestAgents, prober: GuestAgentProber) -> None:
        self._guest_agents = guest_agents
        self._prober = prober

    async def RunCommand(
        self, request: messages.RunGuestCommandRequest, context: Context
    ) -> messages.RunGuestCommandResponse:
        """Passes one command on."""
        check_uuid(request.uuid, "uuid")
        timeout_seconds = decode_seconds(request, "timeout", default=_DEFAULT_TIMEOUT_SECONDS)
        answer = await self._guest_agents.pass_command(
            request.uuid, request.command_json, timeout_seconds=timeout_seconds
        )
        return messages.RunGuestCommandResponse(return_json=answer)

    async def Probe(self, request: messages.ProbeGuestRequest, context: Context) -> messages.GuestProbe:
        """Asks the guest agent now."""
        check_uuid(request.uuid, "uuid")
        return encode_probe(await self._prober.probe(request.uuid))
