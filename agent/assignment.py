"""Devices of the node and the guests that have them: prepared by one side, plugged in and pulled out by the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import structlog

from agent.devices.change import DeviceWatch
from agent.devices.source import DeviceSource, UsbSource
from agent.domain_lock import DomainLocks
from agent.errors import AgentError
from agent.handover import Handovers
from agent.hypervisor.hostdev_change import DevicePlugs
from agent.hypervisor.hostdev_edit import PluggedUsb
from protos.agent.v1.device_pb2 import HostDevice

# A USB device goes without the guest's help.
_USB_GRACE_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 30.0
_USB_DEVICES: Final = Path("/dev/bus/usb")

log = structlog.get_logger(__name__)


class ReleaseProgress(Protocol):
    """How far the giving back of a device is."""

    @property
    def device_id(self) -> str:
        """Device.id."""

    @property
    def done_bytes(self) -> int:
        """How much of it is wiped."""

    @property
    def total_bytes(self) -> int:
        """How much is to be wiped; 0: nothing."""


class DeviceProvider(Protocol):
    """Makes, binds and takes back devices, and keeps a journal of that."""

    async def prepare(self, domain_uuid: str, wish: HostDevice) -> DeviceSource:
        """The device as it is now, the guest's from here on; may be repeated, and tells where it is then.

        Raises DeviceNotFound, DeviceWithheld, DeviceInUse, DeviceFaulty, RequestInvalid.
        """

    async def prepare_all(self, domain_uuid: str, wishes: Sequence[HostDevice]) -> dict[str, DeviceSource]:
        """The same for several, by HostDevice.uuid."""

    async def check_ready(self, domain_uuid: str, device_uuids: Collection[str] | None = None) -> None:
        """What of these the journal says the guest has is there, made again after a reboot; all unless some are named.

        Raises what `prepare` raises.
        """

    def release(self, domain_uuid: str, device_uuids: Collection[str]) -> AsyncGenerator[ReleaseProgress]:
        """The devices are the node's again; of an empty collection all that the guest had. Raises DeviceInUse."""

    def force_release(self, device_id: str, *, unclaimed: bool) -> AsyncGenerator[ReleaseProgress]:
        """The device is the node's again, or given up where that cannot be. Raises DeviceInUse."""

    async def set_gpu_mode(self, mode: str) -> list[str]:
        """The ids of the GPUs that work in the mode now. Raises GpuInUse, GpuModeUnsupported."""


class Assignments:
    """Gives devices to guests and takes them back; every call may be repeated."""

    def __init__(self, plugs: DevicePlugs, provider: DeviceProvider, locks: DomainLocks) -> None:
        self._plugs = plugs
        self._provider = provider
        self._handovers = Handovers(locks)

    async def prepare(self, domain_uuid: str, wishes: Sequence[HostDevice]) -> dict[str, DeviceSource]:
        """The devices of a guest that is about to be defined, by HostDevice.uuid. Raises what the provider raises."""
        return await self._provider.prepare_all(domain_uuid, wishes)

    async def make_ready(self, domain_uuid: str) -> None:
        """All devices of a guest that is off are there, and its definition names them as they are now.

        Devices may have moved since: buses are numbered anew at each boot, USB devices when they are plugged.
        Raises DomainNotFound, DomainForeign, and what the provider raises.
        """
        guest = await self._plugs.read(domain_uuid)
        if guest.is_active:
            return
        # What its definition names no more, be it broken, is on its way back to the node.
        await self._provider.check_ready(domain_uuid, {wish.uuid for wish in guest.wishes})
        if guest.wishes:
            sources = await self.prepare(domain_uuid, guest.wishes)
            await self._plugs.refresh(domain_uuid, [(wish, sources[wish.uuid]) for wish in guest.wishes])

    async def attach(self, domain_uuid: str, wish: HostDevice) -> None:
        """The guest has the device, plugged in when it runs.

        Raises DomainNotFound, DomainForeign, DevicePlugUnsafe, RequestInvalid, and what the provider raises.
        """
        await self._handovers.attach(domain_uuid, wish.uuid, partial(self._attach, domain_uuid, wish))

    async def detach(self, domain_uuid: str, device_uuid: str, *, grace_seconds: float) -> None:
        """The guest does not have the device, nor will have it after a start. Raises DeviceStillAttached."""
        await self._handovers.detach(
            domain_uuid,
            device_uuid,
            grace_seconds=grace_seconds,
            unplug=partial(self._plugs.unplug, domain_uuid, device_uuid),
            forget=partial(self._plugs.forget, domain_uuid, device_uuid),
        )

    async def reattach(self, domain_uuid: str, wish: HostDevice) -> None:
        """A USB device that was plugged again is the running guest's again, if it has not been taken from it since.

        Raises what the provider raises, DeviceNotFound while it is away.
        """

        async def plug() -> None:
            guest = await self._plugs.read(domain_uuid)
            if guest.is_active and wish in guest.wishes:
                await self._attach(domain_uuid, wish)
                log.info("usb.returned", domain=domain_uuid, device=wish.device_id)

        await self._handovers.attach(domain_uuid, wish.uuid, plug)

    def release(self, domain_uuid: str, device_uuids: Collection[str]) -> AsyncGenerator[ReleaseProgress]:
        """See DeviceProvider."""
        return self._provider.release(domain_uuid, device_uuids)

    def force_release(self, device_id: str, *, unclaimed: bool) -> AsyncGenerator[ReleaseProgress]:
        """See DeviceProvider."""
        return self._provider.force_release(device_id, unclaimed=unclaimed)

    async def set_gpu_mode(self, mode: str) -> list[str]:
        """See DeviceProvider."""
        return await self._provider.set_gpu_mode(mode)

    async def _attach(self, domain_uuid: str, wish: HostDevice) -> None:
        # Nothing is made for a guest that there is not.
        await self._plugs.read(domain_uuid)
        source = await self._provider.prepare(domain_uuid, wish)
        if isinstance(source, UsbSource) and await self._plugs.is_stale(domain_uuid, wish, source):
            await self._plugs.unplug(domain_uuid, wish.uuid, grace_seconds=_USB_GRACE_SECONDS)
        await self._plugs.attach(domain_uuid, wish, source)


class UsbReturn:
    """Notices USB devices that were pulled out of the node and plugged again, and gives them to their guests again."""

    def __init__(
        self, plugs: DevicePlugs, assignments: Assignments, watch: DeviceWatch, *, devices: Path = _USB_DEVICES
    ) -> None:
        self._plugs = plugs
        self._assignments = assignments
        self._watch = watch
        self._devices = devices

    async def run(self) -> None:
        """Looks at every change of devices, and from time to time, until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch.run())
            while True:
                await self.look()
                await self._watch.wait(_LOOK_SECONDS)

    async def look(self) -> None:
        """Every USB device that has come back to its place is with its guest."""
        try:
            plugged = await self._plugs.list_usb()
        except AgentError as error:  # libvirt is away: it is asked again
            log.debug("usb.unknown", reason=error.message)
            return
        for usb in plugged:
            if not self._is_there(usb):
                await self._give_back(usb)

    async def _give_back(self, usb: PluggedUsb) -> None:
        try:
            await self._assignments.reattach(usb.domain_uuid, usb.wish)
        except OSError as error:  # the journal's disk is full, say: the agent goes on, and tries again
            log.warning("usb.not_returned", domain=usb.domain_uuid, device=usb.wish.device_id, reason=str(error))
        except AgentError as error:
            log.debug("usb.away", domain=usb.domain_uuid, device=usb.wish.device_id, reason=error.message)

    def _is_there(self, usb: PluggedUsb) -> bool:
        """Whether QEMU finds it where it looks; the kernel gives a device that is plugged again another number."""
        if usb.place is None:
            return False
        bus, device = usb.place
        return (self._devices / f"{bus:03d}" / f"{device:03d}").exists()
