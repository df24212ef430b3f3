"""Virtual functions of PCI functions: made where the node is configured to have them, never where somebody made others.

Source: the kernel's Documentation/PCI/pci-iov-howto.rst, "How can I enable the SR-IOV capability".
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from agent.devices.base import find_pci_address
from agent.devices.host_need import PCI_ADDRESS
from agent.devices.writer import SysfsWriter
from agent.errors import DeviceFailed, DeviceNotFound
from agent.facts.sysfs import Sysfs

ALL = "all"
_DEVICES = "bus/pci/devices"

log = structlog.get_logger(__name__)


async def restore_virtual_functions(wanted: Mapping[str, str], sysfs: Sysfs, writer: SysfsWriter) -> None:
    """What the setting `virtual_functions` says, as far as the node can; what it cannot is logged."""
    for name, count in wanted.items():
        try:
            await enable_virtual_functions(_find_address(name, sysfs), count, sysfs, writer)
        except (DeviceFailed, DeviceNotFound) as error:
            log.warning("device.virtual_functions_not_restored", function=name, reason=error.message)


async def enable_virtual_functions(address: str, count: str, sysfs: Sysfs, writer: SysfsWriter) -> bool:
    """The function has so many virtual ones, or as many as it had when these are not none; whether it had none.

    Raises DeviceFailed.
    """
    base = f"{_DEVICES}/{address}"
    total = sysfs.read_number(f"{base}/sriov_totalvfs")
    number = total if count == ALL else int(count)
    if number > total:
        raise DeviceFailed(f"{address} can have {total} virtual functions, not {number}")
    present = sysfs.read_number(f"{base}/sriov_numvfs")
    if present:
        if present != number:
            log.warning("device.virtual_functions_foreign", function=address, present=present, wanted=number)
        return False
    if number:
        await writer.ask(f"{base}/sriov_numvfs", str(number))
    return number > 0


async def disable_virtual_functions(address: str, sysfs: Sysfs, writer: SysfsWriter) -> None:
    """The function has no virtual ones. Raises DeviceFailed."""
    path = f"{_DEVICES}/{address}/sriov_numvfs"
    if sysfs.read_number(path):
        await writer.ask(path, "0")


def _find_address(name: str, sysfs: Sysfs) -> str:
    """The PCI function that is meant by its address or by its interface. Raises DeviceNotFound."""
    address = name if PCI_ADDRESS.fullmatch(name) else find_pci_address(sysfs.locate(f"class/net/{name}/device"))
    if not PCI_ADDRESS.fullmatch(address) or not sysfs.exists(f"{_DEVICES}/{address}"):
        raise DeviceNotFound(f"virtual_functions: {name} is no PCI function of the node")
    return address
