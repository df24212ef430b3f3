"""Devices of the node that the guest has: how each kind is plugged into it.

Memory that a device writes to is locked by libvirt, which lifts QEMU's limit by itself, at a start and when a device is
plugged in later. Source: libvirt's formatdomain, "hostdev", "hard_limit".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final, assert_never

from agent.configure.disk import find_place, make_serial, with_scsi_controller
from agent.configure.graphics import USB_CONTROLLER
from agent.configure.host_profile import HostProfile
from agent.configure.pcie import count_ports
from agent.devices.source import BlockSource, DeviceSource, MdevSource, NetworkFunctionSource, PciSource, UsbSource
from agent.domainxml.address import Alias, BootOrder, NodeAddress
from agent.domainxml.device import Devices
from agent.domainxml.disk import Disk, DiskDriver, DiskSource
from agent.domainxml.domain import Domain
from agent.domainxml.hostdev import GuestPciAddress, Hostdev, HostdevSource, Rom
from agent.domainxml.interface import Interface, InterfaceSource, MacAddress, Vlan, VlanTag
from agent.domainxml.metadata import AssignedDevice
from agent.errors import CapabilityMissing, RequestInvalid
from protos.agent.v1.device_pb2 import HostDevice
from protos.agent.v1.domain_pb2 import DomainSpec

ALIAS_PREFIX: Final = "ua-dev-"
_PCIE_MACHINES: Final = ("q35", "virt")
# Until it is known which root port is free.
_NO_BUS: Final = "0x00"


def configure_host_devices(domain: Domain, spec: DomainSpec, host: HostProfile) -> Domain:
    """Devices keep the order of the request. Comes after all others that need root ports, which it counts."""
    for wish in spec.host_devices:
        source = host.host_devices.get(wish.uuid)
        if source is None:
            raise RequestInvalid(f"spec.host_devices.uuid: {wish.uuid} is not prepared on this node")
        check_machine(source, host.machine)
        built = build_device(wish, source, domain.devices.disks)
        domain = domain.with_devices(disks=built.disks, interfaces=built.interfaces, hostdevs=built.hostdevs)
        domain = _with_bus(domain, source)
    return _place_cards(domain, host)


def name_alias(device_uuid: str, function: int = 0) -> str:
    """By which a device is found in the guest's XML and in events; further functions of a card are numbered."""
    return f"{ALIAS_PREFIX}{device_uuid}{f'-{function}' if function else ''}"


def mark_device(wish: HostDevice) -> AssignedDevice:
    """What was asked for, for the guest's metadata."""
    return AssignedDevice(
        wish.uuid,
        wish.device_id,
        wish.vgpu_type_id or None,
        wish.mac_address or None,
        wish.vlan_id or None,
        wish.trusted or None,
        wish.boot_index or None,
        wish.wipe_on_release or None,
        wish.native or None,
    )


def read_mark(mark: AssignedDevice) -> HostDevice:
    """What was asked for, from the guest's metadata."""
    return HostDevice(
        device_id=mark.device_id,
        uuid=mark.uuid,
        vgpu_type_id=mark.vgpu_type_id or "",
        mac_address=mark.mac_address or "",
        vlan_id=mark.vlan_id or 0,
        trusted=bool(mark.trusted),
        boot_index=mark.boot_index or 0,
        wipe_on_release=bool(mark.wipe_on_release),
        native=bool(mark.native),
    )


def check_machine(source: DeviceSource, machine: str) -> None:
    """Raises CapabilityMissing when the guest's machine has no place for such a device."""
    if _is_pcie(source) and not any(kind in machine for kind in _PCIE_MACHINES):
        raise CapabilityMissing(f"spec.host_devices: the guest's machine, {machine}, has no PCI Express")


def build_device(wish: HostDevice, source: DeviceSource, disks: Iterable[Disk]) -> Devices:
    """The elements of one device, beside the disks that the guest has. Raises RequestInvalid."""
    boot = BootOrder(wish.boot_index) if wish.boot_index else None
    if not isinstance(source, NetworkFunctionSource) and (wish.mac_address or wish.vlan_id or wish.trusted):
        raise RequestInvalid(f"spec.host_devices.mac_address: {wish.device_id} is no function of a network card")
    match source:
        case PciSource():
            return Devices(hostdevs=tuple(_functions(wish, source, boot)))
        case NetworkFunctionSource():
            return _network_function(wish, source, boot)
        case MdevSource():
            if boot:
                raise RequestInvalid(f"spec.host_devices.boot_index: nothing starts from {wish.device_id}")
            address = HostdevSource(NodeAddress.mdev(source.uuid))
            return Devices(hostdevs=(Hostdev("mdev", address, model=source.model, alias=Alias(name_alias(wish.uuid))),))
        case UsbSource():
            address = HostdevSource(NodeAddress.usb(source.bus, source.device))
            return Devices(hostdevs=(Hostdev("usb", address, boot=boot, alias=Alias(name_alias(wish.uuid))),))
        case BlockSource():
            return Devices(disks=(_whole_disk(wish, source, boot, tuple(disks)),))
        case _:
            assert_never(source)


def _functions(wish: HostDevice, source: PciSource, boot: BootOrder | None) -> Iterable[Hostdev]:
    """The functions of a card are one card in the guest, too: drivers look for each other's functions."""
    is_card = len(source.addresses) > 1
    for number, address in enumerate(source.addresses):
        place = GuestPciAddress(_NO_BUS, f"0x{number:x}", multifunction=not number or None) if is_card else None
        yield Hostdev(
            "pci",
            HostdevSource(NodeAddress.pci(address)),
            managed=source.managed,
            boot=boot if not number else None,
            # A graphics card needs its own; those that travel along have none, and some hang when it is read.
            rom=Rom(bar=False) if number else None,
            alias=Alias(name_alias(wish.uuid, number)),
            address=place,
        )


def _network_function(wish: HostDevice, source: NetworkFunctionSource, boot: BootOrder | None) -> Devices:
    """Only with an address is it an interface: libvirt would invent one. That it is trusted libvirt cannot be told."""
    alias = Alias(name_alias(wish.uuid))
    if not source.mac_address:
        function = Hostdev("pci", HostdevSource(NodeAddress.pci(source.address)), managed=True, boot=boot, alias=alias)
        return Devices(hostdevs=(function,))
    interface = Interface(
        "hostdev",
        managed=True,
        mac=MacAddress(source.mac_address),
        source=InterfaceSource(address=NodeAddress.pci(source.address, kind="pci")),
        vlan=Vlan((VlanTag(source.vlan_id),)) if source.vlan_id else None,
        boot=boot,
        alias=alias,
    )
    return Devices(interfaces=(interface,))


def _whole_disk(wish: HostDevice, source: BlockSource, boot: BootOrder | None, disks: Sequence[Disk]) -> Disk:
    """Past the node's page cache: what the guest has flushed is on the disk, whoever has it next.

    A disk that takes SCSI commands tells its own serial.
    """
    serial = None if source.scsi_commands else make_serial(wish.uuid)
    place = find_place(disks, "scsi", "", {})
    driver = DiskDriver("qemu", "raw", cache="none", io="native", discard=None if source.scsi_commands else "unmap")
    return Disk(
        "block",
        device="lun" if source.scsi_commands else "disk",
        driver=driver,
        source=DiskSource(device=str(source.path)),
        target=place.target,
        serial=serial,
        boot=boot,
        alias=Alias(name_alias(wish.uuid)),
        address=place.address,
    )


def _with_bus(domain: Domain, source: DeviceSource) -> Domain:
    """What the device is plugged into is there."""
    devices = domain.devices
    if isinstance(source, BlockSource):
        return with_scsi_controller(domain)
    if isinstance(source, UsbSource):
        others = tuple(controller for controller in devices.controllers if controller.type != "usb")
        present = tuple(controller for controller in devices.controllers if controller.type == "usb")
        kept = tuple(controller for controller in present if controller.model != "none") or (USB_CONTROLLER,)
        return replace(domain, devices=replace(devices, controllers=others + kept))
    if _is_pcie(source) and devices.iommu and devices.iommu.driver:
        # Else QEMU refuses the device: it would not hear of what the guest maps.
        driver = replace(devices.iommu.driver, caching_mode=True)
        return domain.with_devices(iommu=replace(devices.iommu, driver=driver))
    return domain


def _place_cards(domain: Domain, host: HostProfile) -> Domain:
    """Cards of several functions are put behind the last root ports: libvirt gives the others out from the first."""
    last = count_ports(domain.devices, host) + 1
    hostdevs = []
    for hostdev in domain.devices.hostdevs:
        if hostdev.address is not None:
            last -= hostdev.address.multifunction is True
            hostdev = replace(hostdev, address=replace(hostdev.address, bus=f"0x{last:02x}"))  # noqa: PLW2901
        hostdevs.append(hostdev)
    return replace(domain, devices=replace(domain.devices, hostdevs=tuple(hostdevs)))


def _is_pcie(source: DeviceSource) -> bool:
    if isinstance(source, MdevSource):
        return source.model == "vfio-pci"
    return isinstance(source, PciSource | NetworkFunctionSource)
