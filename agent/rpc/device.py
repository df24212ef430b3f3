"""DeviceService: devices of the node in guests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc

from agent.assignment import Assignments, ReleaseProgress
from agent.configure.check import check_host_device, check_uuid
from agent.errors import RequestInvalid
from agent.rpc.encoding import LET_GO_SECONDS, decode_seconds
from protos.agent.v1 import device_pb2 as messages
from protos.agent.v1 import device_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class DeviceServicer(device_pb2_grpc.DeviceServiceServicer):
    """Devices that are given and taken back; waiting for a guest holds up no other call but for the same device."""

    def __init__(self, assignments: Assignments) -> None:
        self._assignments = assignments

    async def EnsureAttached(
        self, request: messages.EnsureAttachedRequest, context: Context
    ) -> messages.EnsureAttachedResponse:
        """The domain has the device."""
        check_uuid(request.domain_uuid, "domain_uuid")
        check_host_device(request.device, "device")
        await self._assignments.attach(request.domain_uuid, request.device)
        return messages.EnsureAttachedResponse()

    async def EnsureDetached(
        self, request: messages.EnsureDetachedRequest, context: Context
    ) -> messages.EnsureDetachedResponse:
        """The domain does not have the device any more."""
        check_uuid(request.domain_uuid, "domain_uuid")
        check_uuid(request.device_uuid, "device_uuid")
        grace_seconds = decode_seconds(request, "grace", default=LET_GO_SECONDS)
        await self._assignments.detach(request.domain_uuid, request.device_uuid, grace_seconds=grace_seconds)
        return messages.EnsureDetachedResponse()

    async def EnsureReleased(
        self, request: messages.EnsureReleasedRequest, context: Context
    ) -> AsyncIterator[messages.ReleaseProgress]:
        """The devices are the node's again."""
        check_uuid(request.domain_uuid, "domain_uuid")
        for uuid in request.device_uuids:
            check_uuid(uuid, "device_uuids")
        async with aclosing(self._assignments.release(request.domain_uuid, list(request.device_uuids))) as steps:
            async for step in steps:
                yield _encode(step)

    async def EnsureForcedRelease(
        self, request: messages.EnsureForcedReleaseRequest, context: Context
    ) -> AsyncIterator[messages.ReleaseProgress]:
        """The device is the node's again, or given up."""
        if not request.device_id:
            raise RequestInvalid("device_id: is required")
        steps = self._assignments.force_release(request.device_id, unclaimed=request.unclaimed)
        async with aclosing(steps):
            async for step in steps:
                yield _encode(step)

    async def EnsureGpuMode(
        self, request: messages.EnsureGpuModeRequest, context: Context
    ) -> messages.EnsureGpuModeResponse:
        """All GPUs of the node work in this mode."""
        if not request.mode:
            raise RequestInvalid('mode: "passthrough", or the id of a vGPU type')
        return messages.EnsureGpuModeResponse(device_ids=await self._assignments.set_gpu_mode(request.mode))


def _encode(step: ReleaseProgress) -> messages.ReleaseProgress:
    return messages.ReleaseProgress(device_id=step.device_id, done_bytes=step.done_bytes, total_bytes=step.total_bytes)
