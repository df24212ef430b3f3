"""The PCI functions of the node, and which of them are in one IOMMU group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from agent.devices.host_need import PCI_ADDRESS
from agent.facts.memory import Memory
from agent.facts.sysfs import Sysfs

_DEVICES: Final = "bus/pci/devices"
_BRIDGE_CLASS: Final = 0x06
_NO_IOMMU: Final = "vfio-noiommu"


@dataclass(frozen=True)
class PciFunction:
    """One function of a PCI device. Source: the kernel's Documentation/ABI/testing/sysfs-bus-pci."""

    # "0000:3b:00.0".
    address: str
    # Relative to the root of /sys.
    path: Path
    # Four hexadecimal digits each.
    vendor_id: str
    product_id: str
    # Base class, subclass and interface, a byte each.
    class_code: int
    # Empty: none is bound.
    driver: str
    # Empty: the IOMMU is off, or does not reach it; a group without an IOMMU, which vfio can be told to make, is none.
    iommu_group: str
    # Address of the function that it is a virtual one of; empty: of none.
    physical_function: str
    # In the order of their numbers.
    virtual_functions: tuple[str, ...]

    @property
    def base_class(self) -> int:
        """What it is in the main: 0x02 network, 0x03 display, 0x06 bridge."""
        return self.class_code >> 16

    @property
    def slot(self) -> str:
        """What all functions of one device share."""
        return self.address.rpartition(".")[0]

    @property
    def is_bridge(self) -> bool:
        """Whether it leads to others, as ports and switches do: these stay with the host."""
        return self.base_class == _BRIDGE_CLASS


@dataclass(frozen=True)
class PciBus:
    """All PCI functions of the node."""

    # By address, in its order.
    functions: Mapping[str, PciFunction]

    @cached_property
    def slots(self) -> Mapping[str, Sequence[PciFunction]]:
        """The functions of each device."""
        slots: dict[str, list[PciFunction]] = {}
        for function in self.functions.values():
            slots.setdefault(function.slot, []).append(function)
        return slots

    @cached_property
    def groups(self) -> Mapping[str, Sequence[PciFunction]]:
        """The functions of each IOMMU group, without bridges."""
        groups: dict[str, list[PciFunction]] = {}
        for function in self.functions.values():
            if function.iommu_group and not function.is_bridge:
                groups.setdefault(function.iommu_group, []).append(function)
        return groups


def read_pci_bus(sysfs: Sysfs, memory: Memory | None = None) -> PciBus:
    """The PCI functions at this moment; one that goes away meanwhile is left out."""
    addresses = [name for name in sysfs.names(_DEVICES) if PCI_ADDRESS.fullmatch(name)]
    known = memory or Memory()
    functions = (_recall_function(sysfs, address, known) for address in addresses)
    return PciBus({function.address: function for function in functions if function})


def _recall_function(sysfs: Sysfs, address: str, memory: Memory) -> PciFunction | None:
    """Virtual functions that come and go are events of their own: which there are is looked up every time.

    By their links: their number waits for a driver that is at work on the card, or hangs there.
    """
    base = f"{_DEVICES}/{address}"
    can_have_some = memory.recall(address, "sriov", lambda: sysfs.exists(f"{base}/sriov_numvfs"))
    # Most functions have none, and their directories are large.
    links = [name for name in sysfs.names(base) if name.startswith("virtfn")] if can_have_some else []
    return memory.recall(address, f"function with {len(links)}", lambda: _read_function(sysfs, address, links))


def _read_function(sysfs: Sysfs, address: str, virtual: Sequence[str]) -> PciFunction | None:
    base = f"{_DEVICES}/{address}"
    vendor, product, class_code = (sysfs.read(f"{base}/{name}") for name in ("vendor", "device", "class"))
    if not (vendor and product and class_code):
        return None
    return PciFunction(
        address=address,
        path=sysfs.follow(base),
        vendor_id=vendor.removeprefix("0x"),
        product_id=product.removeprefix("0x"),
        class_code=int(class_code, 16),
        driver=sysfs.link_name(f"{base}/driver"),
        iommu_group=_read_group(sysfs, base),
        physical_function=sysfs.link_name(f"{base}/physfn"),
        virtual_functions=tuple(
            sysfs.link_name(f"{base}/{name}") for name in sorted(virtual, key=lambda name: (len(name), name))
        ),
    )


def _read_group(sysfs: Sysfs, base: str) -> str:
    group = sysfs.link_name(f"{base}/iommu_group")
    return "" if group and sysfs.read(f"{base}/iommu_group/name") == _NO_IOMMU else group
