"""USB devices: whatever is plugged into the port that was given away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from agent.devices.base import Surroundings
from agent.devices.hostdev import name_usb_place
from agent.devices.journal import Entry, Making
from agent.devices.maker import Order, Tools
from agent.devices.source import UsbSource
from agent.devices.usb import find_usb_name, find_usb_place
from agent.errors import DeviceNotFound


@dataclass(frozen=True)
class UsbMaker:
    """See Maker. Nothing is made: libvirt takes the device from its driver, and gives it back."""

    tools: Tools

    def plan(self, order: Order, around: Surroundings) -> Making:
        """See Maker."""
        return Making("usb")

    async def make(self, entry: Entry, around: Surroundings) -> UsbSource:
        """See Maker. The place is that of now: the kernel numbers devices anew whenever they are plugged."""
        place = find_usb_place(around.sysfs, entry.device.id)
        if place is None:
            raise DeviceNotFound(f"nothing is plugged in at {entry.device.id}")
        return UsbSource(*place)

    async def unmake(self, entry: Entry, around: Surroundings) -> None:
        """See Maker."""

    def find_domain(self, entry: Entry, around: Surroundings) -> str:
        """See Maker."""
        place = find_usb_place(around.sysfs, entry.device.id)
        return (around.guests or {}).get(name_usb_place(*place), "") if place else ""

    def find_needs(self, entry: Entry, around: Surroundings) -> Iterator[str]:
        """See Maker. Somebody may have mounted it while the guest was off."""
        name = find_usb_name(around.sysfs, entry.device.id)
        return filter(None, (around.needs.get(name),))
