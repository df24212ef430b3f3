"""PCI functions that a guest gets as they are: libvirt binds them to VFIO when it starts, and back when it ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from agent.devices.base import Surroundings, find_pci_address
from agent.devices.block_path import find_block_paths
from agent.devices.hostdev import name_pci
from agent.devices.journal import Entry, Making
from agent.devices.maker import Order, Tools
from agent.devices.passthrough import find_obstacles
from agent.devices.pci import PciFunction
from agent.devices.source import PciSource
from agent.errors import DeviceNotFound, DeviceWithheld
from protos.agent.v1.host_pb2 import Device


@dataclass(frozen=True)
class PciMaker:
    """See Maker. GPUs with their companions, network cards, virtual functions that need no address, NVMe disks."""

    tools: Tools

    def plan(self, order: Order, around: Surroundings) -> Making:
        """See Maker. The drivers are those of the first time: later ones are VFIO's."""
        if order.former is not None:
            return order.former
        device = order.device
        if device.kind == "disk":
            return self._plan_controller(device, around)
        addresses = [device.id]
        addresses.extend(filter(None, device.details.get("companions", "").split(",")))
        functions = _find_functions(tuple(addresses), around)
        drivers = {function.address: function.driver for function in functions}
        return Making("pci", tuple(addresses), drivers)

    def _plan_controller(self, disk: Device, around: Surroundings) -> Making:
        """The guest gets all that its controller leads to, and only that one leads to the disk."""
        address, name = disk.details.get("pci_address", ""), disk.details["name"]
        (function,) = _find_functions((address,), around)
        obstacles = [*find_obstacles(function, (), around), *_find_neighbours(address, name, around)]
        if obstacles:
            raise DeviceWithheld(f"the controller of {disk.id}, {address}, {obstacles[0]}")
        return Making("pci", (address,), {address: function.driver})

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


def _find_neighbours(address: str, name: str, around: Surroundings) -> Iterator[str]:
    """What keeps a disk and its controller from being one thing."""
    sysfs = around.sysfs
    if len(find_block_paths(sysfs, name)) > 1:
        yield "is one of several that lead to it"
    for other in sysfs.names("class/block"):
        # With native multipath each NVMe disk has a hidden device for every way to it ("nvme0c0n1").
        is_hidden = sysfs.read(f"class/block/{other}/hidden") == "1"
        if other == name or is_hidden or sysfs.exists(f"class/block/{other}/partition"):
            continue
        if any(find_pci_address(path) == address for path in find_block_paths(sysfs, other)):
            yield f"leads to {other}, too"


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
