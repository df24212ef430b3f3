"""Calls to agents about devices of their nodes in guests."""

from collections.abc import Collection
from datetime import timedelta
from typing import Final

from coordinator.agents.call import AgentCaller, OnProgress
from protos.agent.v1 import device_pb2, device_pb2_grpc, host_pb2, host_pb2_grpc

ATTACH_SECONDS: Final = 120.0
# How long a guest may take to let go of a device, and what the agent may take beyond that.
DETACH_GRACE_SECONDS: Final = 30.0
_MARGIN_SECONDS: Final = 60.0
# A large disk is overwritten from its beginning to its end; that it gets on is told meanwhile.
RELEASE_SECONDS: Final = 7 * 24 * 3600.0
# Drivers are taken off and put on, virtual functions are made: seconds for each GPU.
GPU_MODE_SECONDS: Final = 600.0
_INVENTORY_SECONDS: Final = 30.0


class DeviceCalls(AgentCaller):
    """The part of an agent that gives devices to guests and takes them back."""

    async def ensure_device_attached(self, domain_uuid: str, device: device_pb2.HostDevice) -> None:
        """The domain has the device: in its definition, and plugged in while it runs."""
        stub = device_pb2_grpc.DeviceServiceStub(await self._channel())
        request = device_pb2.EnsureAttachedRequest(domain_uuid=domain_uuid, device=device)
        await self._ensure(stub.EnsureAttached, request, ATTACH_SECONDS)

    async def ensure_device_detached(
        self, domain_uuid: str, device_uuid: str, grace_seconds: float = DETACH_GRACE_SECONDS
    ) -> None:
        """The domain has the device no more, and its guest has let go of it; it is not given back yet."""
        stub = device_pb2_grpc.DeviceServiceStub(await self._channel())
        request = device_pb2.EnsureDetachedRequest(domain_uuid=domain_uuid, device_uuid=device_uuid)
        request.grace.FromTimedelta(timedelta(seconds=grace_seconds))
        await self._ensure(stub.EnsureDetached, request, grace_seconds + _MARGIN_SECONDS)

    async def ensure_devices_released(
        self,
        domain_uuid: str,
        device_uuids: Collection[str] = (),
        on_progress: OnProgress[device_pb2.ReleaseProgress] | None = None,
    ) -> None:
        """The devices, all of the domain's unless some are named, are the node's again; wiped where that was asked."""
        stub = device_pb2_grpc.DeviceServiceStub(await self._channel())
        request = device_pb2.EnsureReleasedRequest(domain_uuid=domain_uuid, device_uuids=device_uuids)
        await self._follow_any(stub.EnsureReleased, request, RELEASE_SECONDS, on_progress)

    async def ensure_forced_release(
        self, device_id: str, *, is_claimed: bool, on_progress: OnProgress[device_pb2.ReleaseProgress] | None = None
    ) -> None:
        """The device is the node's again, wiped where that can be done, else given up and withheld."""
        stub = device_pb2_grpc.DeviceServiceStub(await self._channel())
        request = device_pb2.EnsureForcedReleaseRequest(device_id=device_id, unclaimed=not is_claimed)
        await self._follow_any(stub.EnsureForcedRelease, request, RELEASE_SECONDS, on_progress)

    async def ensure_gpu_mode(self, mode: str) -> list[str]:
        """All GPUs of the node work in the mode; answers their ids."""
        stub = device_pb2_grpc.DeviceServiceStub(await self._channel())
        request = device_pb2.EnsureGpuModeRequest(mode=mode)
        return list((await self._ensure(stub.EnsureGpuMode, request, GPU_MODE_SECONDS)).device_ids)

    async def get_inventory(self) -> host_pb2.HostInventory:
        """What the node has, looked at anew."""
        stub = host_pb2_grpc.HostServiceStub(await self._channel())
        return await self._call(stub.GetInventory, host_pb2.GetInventoryRequest(), _INVENTORY_SECONDS)
