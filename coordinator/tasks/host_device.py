"""Devices of an instance in the words that its node understands, and how they are given back."""

from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Final
from uuid import UUID, uuid5

from coordinator.agents.client import AgentClient
from coordinator.domain.device import DeviceKind
from coordinator.domain.unit import MIB
from coordinator.store.queries.device_claim import DeviceClaim
from coordinator.tasks.model import StepContext
from protos.agent.v1 import device_pb2

# QEMU's own range ends before it: no network interface of ours has such an address.
_VF_PREFIX: Final = (0x52, 0x54)


def make_host_devices(
    instance_uuid: str, claims: Iterable[DeviceClaim], vgpu_type_id: str, *, wipes_disks: bool
) -> list[device_pb2.HostDevice]:
    """What the node is asked to give to the guest; without a type of vGPU it has GPUs as a whole."""
    functions = 0
    devices = []
    for claim, number in ((it, number) for it in claims for number in range(it.slices)):
        device = device_pb2.HostDevice(
            device_id=claim.device_id, uuid=device_uuid(instance_uuid, claim.device_id, number)
        )
        match claim.kind:
            case DeviceKind.GPU:
                device.vgpu_type_id = vgpu_type_id
            case DeviceKind.DISK:
                device.wipe_on_release = wipes_disks
            case DeviceKind.VF:
                device.mac_address = _function_mac(instance_uuid, functions)
                functions += 1
        devices.append(device)
    return devices


def device_uuid(instance_uuid: str, device_id: str, number: int = 0) -> str:
    """Names what an instance has of a device: all of it, or one of its slices."""
    return str(uuid5(UUID(instance_uuid), f"{device_id}/{number}"))


def _function_mac(instance_uuid: str, place: int) -> str:
    """The same after a cold migration, where the instance has other virtual functions."""
    own = uuid5(UUID(instance_uuid), f"vf/{place}").bytes[-4:]
    return ":".join(f"{octet:02x}" for octet in (*_VF_PREFIX, own[0] | 0x80, *own[1:]))


async def release_devices(
    context: StepContext, agent: AgentClient, domain_uuid: str, device_uuids: Collection[str] = ()
) -> None:
    """Devices that the domain has no more are the node's again: all of them unless some are named. May be repeated."""

    await agent.ensure_devices_released(domain_uuid, device_uuids, report_release(context))


def report_release(context: StepContext) -> Callable[[device_pb2.ReleaseProgress], Awaitable[None]]:
    """Tells how far it is."""

    async def report(progress: device_pb2.ReleaseProgress) -> None:
        if not progress.total_bytes:
            await context.report_progress(0, f"giving back {progress.device_id}")
            return
        percent = 100 * progress.done_bytes // progress.total_bytes
        told = f"{progress.done_bytes // MIB} of {progress.total_bytes // MIB} MiB"
        await context.report_progress(percent, f"wiping {progress.device_id}: {told}")

    return report
