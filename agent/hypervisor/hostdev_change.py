"""Devices of the node in guests: plugged in and pulled out, by the guest that runs and by the definition."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

import libvirt

from agent.configure.host_device import build_device, name_alias, read_mark
from agent.devices.plug import find_plug_obstacle
from agent.devices.source import DeviceSource
from agent.domainxml.assignment import AssignedDomain
from agent.errors import DomainNotFound, DomainStateConflict
from agent.facts.sysfs import Sysfs
from agent.hypervisor.affinity import Affinities
from agent.hypervisor.connection import Connection
from agent.hypervisor.events import CHANGED, DomainEvents
from agent.hypervisor.guest import find_owned
from agent.hypervisor.hostdev_edit import (
    PluggedUsb,
    by_alias,
    define,
    define_device,
    forget,
    list_usb,
    plug,
    put_device,
    read_definition,
)
from agent.hypervisor.unplug import TIMEOUT_SECONDS, Unplugs, read_live
from protos.agent.v1.device_pb2 import HostDevice

# A guest that was off may be started between the two steps of attaching.
_ATTACH_ATTEMPTS: Final = 3


@dataclass(frozen=True)
class AssignedGuest:
    """A guest, and the devices that it has by its definition."""

    uuid: str
    is_active: bool
    wishes: tuple[HostDevice, ...]


class DevicePlugs:
    """Changes what guests have of the node. Everything may be repeated, and goes on where it was."""

    def __init__(
        self,
        connection: Connection,
        events: DomainEvents,
        affinities: Affinities,
        *,
        sysfs: Sysfs | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._events = events
        # Changes definitions as well; each is read, changed and written.
        self._affinities = affinities
        self._sysfs = sysfs or Sysfs()
        self._unplugs = Unplugs(connection, events, monotonic=monotonic)

    async def read(self, uuid: str) -> AssignedGuest:
        """The devices that the guest should have. Raises DomainNotFound, DomainForeign."""

        def run(handle: libvirt.virConnect) -> AssignedGuest:
            domain = find_owned(handle, uuid)
            marks = AssignedDomain(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)).marks
            return AssignedGuest(uuid, bool(domain.isActive()), tuple(map(read_mark, marks)))

        return await self._connection.call(run)

    async def attach(self, uuid: str, wish: HostDevice, source: DeviceSource) -> None:
        """The guest has the device, live when it runs, and by its definition.

        Raises DomainNotFound, DomainForeign, DevicePlugUnsafe when it must be off for this, RequestInvalid.
        """

        def run(handle: libvirt.virConnect) -> None:
            domain = find_owned(handle, uuid)
            plug(domain, wish, source, find_plug_obstacle(source, self._sysfs))
            self._events.announce(domain, CHANGED)

        for _ in range(_ATTACH_ATTEMPTS):
            await self._connection.call(run, timeout_seconds=TIMEOUT_SECONDS)
            async with self._affinities.undisturbed():
                if await self._connection.call(lambda handle: define_device(find_owned(handle, uuid), wish, source)):
                    return
        raise DomainStateConflict(f"the guest was started or gave {wish.device_id} up again while it was plugged in")

    async def is_stale(self, uuid: str, wish: HostDevice, source: DeviceSource) -> bool:
        """Whether the running guest has the device where it is not any more."""

        def run(handle: libvirt.virConnect) -> bool:
            live = read_live(find_owned(handle, uuid))
            alias = name_alias(wish.uuid)
            if live is None or not live.find(alias):
                return False
            return not live.has_sources(alias, build_device(wish, source, live.disks_beside(alias)))

        return await self._connection.call(run)

    async def refresh(self, uuid: str, devices: Collection[tuple[HostDevice, DeviceSource]]) -> None:
        """The definition of a guest that is off has these devices where they are now."""

        def run(handle: libvirt.virConnect) -> None:
            domain = find_owned(handle, uuid)
            definition = read_definition(domain)
            changed = [put_device(definition, wish, source, None) for wish, source in devices]
            if any(changed):
                define(domain, definition)

        async with self._affinities.undisturbed():
            await self._connection.call(run)

    async def unplug(self, uuid: str, device_uuid: str, *, grace_seconds: float) -> None:
        """The guest was asked to let go of the device, and has. Raises what `Unplugs.unplug` raises."""
        await self._unplugs.unplug(uuid, by_alias(name_alias(device_uuid)), grace_seconds=grace_seconds)

    async def forget(self, uuid: str, device_uuid: str) -> bool:
        """The definition does not have the device; False, and nothing changes, while the running guest has it."""

        def run(handle: libvirt.virConnect) -> bool:
            try:
                domain = find_owned(handle, uuid)
            except DomainNotFound:
                return True
            return forget(domain, name_alias(device_uuid), device_uuid)

        async with self._affinities.undisturbed():
            return await self._connection.call(run)

    async def list_usb(self) -> list[PluggedUsb]:
        """The USB devices that running guests should have."""
        return await self._connection.call(list_usb)
