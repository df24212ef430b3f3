"""Whether PCI functions can be given to a guest: neither the host nor its other devices must lose by it.

A guest gets all that is in an IOMMU group, for within one nothing keeps devices from writing into each other.
Source: the kernel's Documentation/driver-api/vfio.rst, "Groups, Devices, and IOMMUs".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from agent.devices.base import Surroundings, drop_empty
from agent.devices.hostdev import describe_user, name_pci
from agent.devices.pci import PciFunction

# Drivers that leave a function to a program, such as a user-space network, and let it be taken away while it is used.
# That of VFIO does not: whoever has opened it keeps it.
_UIO_DRIVERS: Final = frozenset(("uio_pci_generic", "igb_uio"))
# Base classes as people call them. Source: the PCI Code and ID Assignment Specification.
_CLASS_NAMES: Final = {
    0x01: "a storage controller",
    0x02: "a network card",
    0x03: "a display",
    0x04: "a sound device",
    0x05: "a memory controller",
    0x08: "a system device",
    0x0C: "a USB or serial bus controller",
    0x12: "an accelerator",
}


def find_obstacles(function: PciFunction, companions: Sequence[PciFunction], around: Surroundings) -> Iterator[str]:
    """Why a function, with those that travel along, cannot be given away, what matters most to people first."""
    members = (function, *companions)
    yield from find_uses(members, around)
    yield from _find_strangers(members, around)
    if not all(member.iommu_group for member in members):
        yield "is in no IOMMU group: the IOMMU is off, or does not reach it"


def find_uses(members: Sequence[PciFunction], around: Surroundings) -> Iterator[str]:
    """Who has one of these functions: the host, or a guest."""
    for member in members:
        if need := around.needs.get(member.address):
            yield need
    if around.guests is None:
        yield "libvirt, which knows the devices of guests, is away"
        return
    for member in members:
        if domain := around.guests.get(name_pci(member.address)):
            yield describe_user(domain)
        if member.driver in _UIO_DRIVERS:
            yield f"bound to {member.driver}, for a program of the host"


def _find_strangers(members: Sequence[PciFunction], around: Surroundings) -> Iterator[str]:
    """What else is in their IOMMU groups, first what the host needs."""
    own = {member.address for member in members}
    groups = sorted({member.iommu_group for member in members} - {""})
    strangers = [
        (group, mate) for group in groups for mate in around.pci.groups.get(group, ()) if mate.address not in own
    ]
    for group, mate in strangers:
        if need := around.needs.get(mate.address):
            yield f"shares IOMMU group {group} with {mate.address}: {need}"
    for group, mate in strangers:
        kind = _CLASS_NAMES.get(mate.base_class, f"of PCI class {mate.class_code:06x}")
        yield f"shares IOMMU group {group} with {mate.address}, {kind}"


def describe_function(function: PciFunction, around: Surroundings) -> Mapping[str, str]:
    """The details that all PCI functions have."""
    return around.memory.recall(function.address, "details", lambda: _describe_function(function, around))


def _describe_function(function: PciFunction, around: Surroundings) -> Mapping[str, str]:
    base, udev = function.path, around.properties("pci", function.address)
    read = around.sysfs.read
    subsystem = [read(f"{base}/subsystem_{part}").removeprefix("0x") for part in ("vendor", "device")]
    return drop_empty(
        {
            "address": function.address,
            "vendor_name": udev.get("ID_VENDOR_FROM_DATABASE", ""),
            "product_name": udev.get("ID_MODEL_FROM_DATABASE", ""),
            "subsystem": ":".join(subsystem) if all(subsystem) else "",
            "class": f"{function.class_code:06x}",
            "driver": function.driver,
            "iommu_group": function.iommu_group,
            "reset_methods": read(f"{base}/reset_method"),
            "physical_function": function.physical_function,
        }
    )
