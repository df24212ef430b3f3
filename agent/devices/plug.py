"""Whether a device can be plugged into a guest that runs."""

from __future__ import annotations

from typing import Final

from agent.devices.source import DeviceSource, NetworkFunctionSource, PciSource
from agent.facts.sysfs import Sysfs

# What SeaBIOS and OVMF set aside behind a root port for a device that comes later.
_ROOM_BYTES: Final = 2 * 1024**2
_BARS: Final = 6


def find_plug_obstacle(source: DeviceSource, sysfs: Sysfs) -> str:
    """Why it can only be plugged in while the guest is off; empty when nothing speaks against it.

    Source: the kernel's Documentation/ABI/testing/sysfs-bus-pci, "resource"; QEMU's docs/pcie.txt, "Hot-plug".
    """
    if isinstance(source, PciSource) and len(source.addresses) > 1:
        return f"its {len(source.addresses)} functions come and go together only while the guest is off"
    if isinstance(source, NetworkFunctionSource):
        return _find_big_memory(source.address, sysfs)
    return _find_big_memory(source.addresses[0], sysfs) if isinstance(source, PciSource) else ""


def _find_big_memory(address: str, sysfs: Sysfs) -> str:
    lines = sysfs.read(f"bus/pci/devices/{address}/resource").splitlines()[:_BARS]
    ranges = [[int(number, 0) for number in line.split()] for line in lines]
    size_bytes = max((last - first + 1 for first, last, _ in ranges if last), default=0)
    if size_bytes <= _ROOM_BYTES:
        return ""
    return f"it has {size_bytes >> 20} MiB of memory, for which a guest that runs has no room"
