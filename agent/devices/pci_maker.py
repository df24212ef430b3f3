"""PCI functions that a guest gets as they are: libvirt binds them to VFIO when it starts, and back when it ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from agent.devices.base import Surroundings
from agent.devices.hostdev import name_pci
from agent.devices.journal import Entry, Making
from agent.devices.maker import Order, Tools
from agent.devices.passthrough import find_obstacles
from agent.devices.pci import PciFunction
from agent.devices.source import PciSource
from agent.errors import DeviceNotFound, DeviceWithheld


@dataclass(frozen=True)
class PciMaker:
    """See Maker. GPUs with their companions, network cards, virtual functions that need no address, NVMe disks."""

    tools: Tools

    def plan(self, order: Order, around: Surroundings) -> Making:
        """See Maker. The drivers are those of the first time: later ones are VFIO's."""
        if order.former is not None:
            return order.former
        device = order.device
        addresses = [device.details.get("pci_address", "") if device.kind == "disk" else device.id]
        addresses.extend(filter(None, device.details.get("companions", "").split(",")))
        functions = _find_functions(tuple(addresses), around)
        if device.kind == "disk":
            for obstacle in find_obstacles(functions[0], functions[1:], around):
                raise DeviceWithheld(f"the controller of {device.id}, {addresses[0]}, {obstacle}")
        drivers = {function.address: function.driver for function in functions}
        return Making("pci", tuple(addresses), drivers)

    async def make(self, entry: Entry, around: Surroundings) -> PciSource:
        """See Maker."""
        _find_functions(entry.making.addresses, around)
        return PciSource(entry.making.addresses)

    async def unmake(self, entry: Entry, around: Surroundings) -> None:
        """See Maker. The first function last: drivers of its companions may look for it."""
        for address in reversed(entry.making.addresses):
            if address in around.pci.functions:
                await self.tools.bindings.give_back(address, entry.making.drivers.get(address, ""))

    def find_domain(self, entry: Entry, around: Surroundings) -> str:
        """See Maker."""
        return find_function_domain(entry, around)

    def find_needs(self, entry: Entry, around: Surroundings) -> Iterator[str]:
        """See Maker."""
        return find_function_needs(entry, around)


def find_function_domain(entry: Entry, around: Surroundings) -> str:
    """Which domain has one of its functions."""
    guests = around.guests or {}
    return next(filter(None, (guests.get(name_pci(address)) for address in entry.making.addresses)), "")


def find_function_needs(entry: Entry, around: Surroundings) -> Iterator[str]:
    """Why the host needs its functions."""
    return filter(None, (around.needs.get(address) for address in entry.making.addresses))


def _find_functions(addresses: tuple[str, ...], around: Surroundings) -> list[PciFunction]:
    missing = [address for address in addresses if address not in around.pci.functions]
    if missing:
        raise DeviceNotFound(f"PCI function {', '.join(missing)} is not on the node")
    return [around.pci.functions[address] for address in addresses]
