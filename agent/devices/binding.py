"""Which driver a PCI function has. Source: the kernel's Documentation/ABI/testing/sysfs-bus-pci, "driver_override"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import structlog

from agent.devices.writer import SysfsWriter
from agent.errors import DeviceFailed
from agent.facts.sysfs import Sysfs

VFIO_DRIVER: Final = "vfio-pci"
_DEVICES: Final = "bus/pci/devices"
_PROBE: Final = "bus/pci/drivers_probe"
# An empty line takes the override away.
_NOTHING: Final = "\n"

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Bindings:
    """Functions and their drivers. Every method may be repeated, also after a crash in its middle."""

    sysfs: Sysfs
    writer: SysfsWriter

    def find_driver(self, address: str) -> str:
        """Empty: none is bound."""
        return self.sysfs.link_name(f"{_DEVICES}/{address}/driver")

    async def bind(self, address: str, driver: str) -> None:
        """The function has this driver. Raises DeviceFailed."""
        if self.find_driver(address) != driver:
            await self.writer.ask(f"{_DEVICES}/{address}/driver_override", driver)
            await self._unbind(address)
            await self.writer.ask(_PROBE, address)
        await self._clear_override(address, driver)
        if self.find_driver(address) != driver:
            raise DeviceFailed(f"{address}: the driver {driver} does not take it")

    async def give_back(self, address: str, former: str) -> None:
        """A function that VFIO has, or nobody after a crash, has its former driver again; others' choices stay.

        Raises DeviceFailed.
        """
        driver = self.find_driver(address)
        if former == VFIO_DRIVER or driver not in (VFIO_DRIVER, ""):
            return
        await self._clear_override(address, VFIO_DRIVER)
        await self._unbind(address)
        if former:
            await self.writer.ask(_PROBE, address)
            if self.find_driver(address) != former:
                log.warning("device.driver_not_back", address=address, driver=former)

    async def _unbind(self, address: str) -> None:
        if self.find_driver(address):
            await self.writer.ask(f"{_DEVICES}/{address}/driver/unbind", address)

    async def _clear_override(self, address: str, driver: str) -> None:
        """Only ours: another one is what a person wants."""
        path = f"{_DEVICES}/{address}/driver_override"
        if self.sysfs.read(path) == driver:
            await self.writer.ask(path, _NOTHING)
