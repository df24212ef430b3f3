"""vGPUs of drivers with vendor-specific VFIO: a virtual function gets a type, and stays with its driver.

Source: NVIDIA's "Virtual GPU Software User Guide", "Creating an NVIDIA vGPU on a Linux with KVM Hypervisor".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from agent.devices.base import Surroundings
from agent.devices.hostdev import name_pci
from agent.devices.journal import Entry, Making
from agent.devices.maker import Order, Tools
from agent.devices.pci_maker import find_function_domain, find_function_needs
from agent.devices.source import PciSource
from agent.devices.vgpu import TYPE_PREFIX, list_creatable_types, locate_vendor_vfio
from agent.errors import DeviceFailed, DeviceInUse, DeviceNotFound

_CURRENT: Final = "current_vgpu_type"
_NO_TYPE: Final = 0


@dataclass(frozen=True)
class VendorVfioMaker:
    """See Maker."""

    tools: Tools

    def plan(self, order: Order, around: Surroundings) -> Making:
        """See Maker. The function that the guest has is in its definition: it stays the same."""
        if order.former is not None:
            return order.former
        gpu = around.pci.functions.get(order.device.id)
        for address in gpu.virtual_functions if gpu else ():
            function = around.pci.functions.get(address)
            if function is None or address in order.taken or name_pci(address) in (around.guests or {}):
                continue
            if order.wish.vgpu_type_id in list_creatable_types(around.sysfs, function):
                return Making("vendor-vfio", (address,))
        raise DeviceInUse(f"{order.device.id} has no {order.wish.vgpu_type_id} left: others have them")

    async def make(self, entry: Entry, around: Surroundings) -> PciSource:
        """See Maker."""
        (address,) = entry.making.addresses
        base = self._locate(address, around)
        number = int(entry.wish.vgpu_type_id.removeprefix(TYPE_PREFIX))
        current = self.tools.sysfs.read_number(f"{base}/{_CURRENT}")
        if current not in (_NO_TYPE, number):
            # What we have made has this number: this one is somebody else's, or a person's hand in ours.
            raise DeviceInUse(f"virtual function {address} has vGPU type {TYPE_PREFIX}{current}, not our own")
        if current != number:
            await self.tools.writer.ask(f"{base}/{_CURRENT}", str(number))
        if self.tools.sysfs.read_number(f"{base}/{_CURRENT}") != number:
            raise DeviceFailed(f"virtual function {address} has not become {entry.wish.vgpu_type_id}")
        return PciSource((address,), managed=False)

    async def unmake(self, entry: Entry, around: Surroundings) -> None:
        """See Maker. A type that is not ours stays."""
        (address,) = entry.making.addresses
        function = around.pci.functions.get(address)
        path = f"{locate_vendor_vfio(function)}/{_CURRENT}" if function else ""
        current = self.tools.sysfs.read_number(path) if path else _NO_TYPE
        if current and f"{TYPE_PREFIX}{current}" == entry.wish.vgpu_type_id:
            await self.tools.writer.ask(path, str(_NO_TYPE))

    def find_domain(self, entry: Entry, around: Surroundings) -> str:
        """See Maker."""
        return find_function_domain(entry, around)

    def find_needs(self, entry: Entry, around: Surroundings) -> Iterator[str]:
        """See Maker."""
        return find_function_needs(entry, around)

    def _locate(self, address: str, around: Surroundings) -> str:
        function = around.pci.functions.get(address)
        if function is None or not self.tools.sysfs.exists(f"{locate_vendor_vfio(function)}/{_CURRENT}"):
            raise DeviceNotFound(f"virtual function {address} makes no vGPU now")
        return locate_vendor_vfio(function)
