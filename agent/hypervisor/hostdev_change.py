"""Devices of the node in guests: plugged in and pulled out, by the guest that runs and by the definition.

Pulling out is asynchronous: the guest is asked, and asked again, until libvirt's XML does not have the device.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

import libvirt

from agent.configure.host_device import build_device, name_alias, read_mark
from agent.devices.plug import find_plug_obstacle
from agent.devices.source import DeviceSource
from agent.domainxml.assignment import AssignedDomain
from agent.errors import DeviceStillAttached, DomainNotFound, DomainStateConflict
from agent.facts.sysfs import Sysfs
from agent.hypervisor.affinity import Affinities
from agent.hypervisor.connection import Connection
from agent.hypervisor.events import CHANGED, DEVICE_REMOVAL_FAILED, DEVICE_REMOVED, DomainChange, DomainEvents
from agent.hypervisor.guest import find_owned
from agent.hypervisor.hostdev_edit import (
    PluggedUsb,
    Removal,
    define,
    define_device,
    find_live,
    forget,
    list_usb,
    plug,
    put_device,
    read_definition,
    read_live,
    request_removal,
)
from protos.agent.v1.device_pb2 import HostDevice

# libvirt by itself waits 5 s for a device to be gone.
_TIMEOUT_SECONDS: Final = 120.0
_RETRY_SECONDS: Final = 5.0
# A guest that was off may be started between the two steps of attaching.
_ATTACH_ATTEMPTS: Final = 3
# A guest that refuses at once is not asked again at once.
_REFUSED_SECONDS: Final = 1.0
_WAKING: Final = frozenset((DEVICE_REMOVED, DEVICE_REMOVAL_FAILED, "stopped", "crashed"))


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
        self._monotonic = monotonic

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
            await self._connection.call(run, timeout_seconds=_TIMEOUT_SECONDS)
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
        """The guest was asked to let go of the device, and has, as it does when it ends.

        Raises DeviceStillAttached when it has not within the grace, DevicePlugUnsafe, DomainForeign.
        """
        alias, removal = name_alias(device_uuid), Removal()
        # What is told before the guest is asked is told to nobody else.
        async with self._events.subscribe() as changes:
            deadline = self._monotonic() + grace_seconds
            while True:
                await self._connection.call(
                    lambda handle: request_removal(handle, uuid, alias, removal), timeout_seconds=_TIMEOUT_SECONDS
                )
                if removal.left:
                    await self._wait(changes, uuid, alias, removal, deadline)
                if not await self._connection.call(lambda handle: find_live(handle, uuid, alias)):
                    return
                if self._monotonic() >= deadline:
                    raise DeviceStillAttached(_describe(removal, grace_seconds))

    async def _wait(
        self, changes: asyncio.Queue[DomainChange], uuid: str, alias: str, removal: Removal, deadline: float
    ) -> None:
        """Returns when something is told of the device, or when it is time to ask again."""
        remaining = deadline - self._monotonic()
        if remaining <= 0:
            return
        removal.is_refused = await _wait_for_end(changes, uuid, alias, min(_RETRY_SECONDS, remaining))
        if removal.is_refused:
            await asyncio.sleep(min(_REFUSED_SECONDS, max(0.0, deadline - self._monotonic())))

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


async def _wait_for_end(changes: asyncio.Queue[DomainChange], uuid: str, alias: str, seconds: float) -> bool:
    """Returns when something is told of the device, or after the time given; whether the guest refuses it."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                change = await changes.get()
                concerns = change.uuid == uuid and change.kind in _WAKING and change.device_alias in ("", alias)
                if change.is_resync or concerns:
                    return change.kind == DEVICE_REMOVAL_FAILED
    return False


def _describe(removal: Removal, grace_seconds: float) -> str:
    message = f"the guest still has the device {grace_seconds:g} s after it was asked to let go"
    if removal.is_refused:
        return f"{message}: it refuses"
    return f"{message}: {removal.reasons[-1]}" if removal.reasons else message
