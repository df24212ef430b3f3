"""libvirt's XML of a domain, into which devices of the node and disks are put and from which they are taken.

It is changed in place instead of being parsed into typed elements: the guest keeps all that we do not declare.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Final

from lxml import etree

from agent.domainxml.device import Controller, Devices
from agent.domainxml.disk import Disk
from agent.domainxml.element import Element
from agent.domainxml.hostdev import Hostdev
from agent.domainxml.interface import Interface
from agent.domainxml.metadata import AssignedDevice, Ownership

_PORT: Final = "pcie-root-port"

DeviceElement = Disk | Interface | Hostdev


def list_elements(devices: Devices) -> tuple[DeviceElement, ...]:
    """The elements of a device that was built alone."""
    return (*devices.disks, *devices.interfaces, *devices.hostdevs)


class AssignedDomain:
    """One document; devices are found in it by the alias that begins with their name."""

    def __init__(self, document: str) -> None:
        parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_blank_text=True)
        self._root = etree.fromstring(document.encode(), parser)

    def format(self) -> str:
        """The document as it is now."""
        return etree.tostring(self._root, encoding="unicode")

    @property
    def machine(self) -> str:
        """ "pc-q35-7.2"."""
        kind = self._root.find("os/type")
        return "" if kind is None else kind.get("machine", "")

    @property
    def marks(self) -> tuple[AssignedDevice, ...]:
        """What was asked for."""
        found = self._root.find(f"metadata/{Ownership.qualified_tag()}")
        return () if found is None else Ownership.parse(found).devices

    def find(self, alias: str) -> list[etree._Element]:
        """The elements of one device, a card's function after function."""
        return [element for element in self._root.iterfind("devices/*") if _has_alias(element, alias)]

    def describe(self, alias: str) -> list[str]:
        """The same as texts, with all that libvirt knows of each."""
        return [etree.tostring(element, encoding="unicode", with_tail=False) for element in self.find(alias)]

    def has_sources(self, alias: str, devices: Devices) -> bool:
        """Whether the device is there, and is made of these devices of the node."""
        found, wanted = self.find(alias), list_elements(devices)
        return _are_alike(found, wanted) and all(map(_has_source, found, wanted))

    def disks_beside(self, alias: str) -> tuple[Disk, ...]:
        """All disks but the device's own."""
        own = self.find(alias)
        return tuple(Disk.parse(disk) for disk in self._root.iterfind("devices/disk") if disk not in own)

    @property
    def disks(self) -> tuple[Disk, ...]:
        """All disks and drives."""
        return tuple(map(Disk.parse, self._root.iterfind("devices/disk")))

    def find_disk(self, key: str) -> list[etree._Element]:
        """The disk with this `Disk.key`, if it is there."""
        return [disk for disk in self._root.iterfind("devices/disk") if Disk.parse(disk).key == key]

    def put_disk(self, disk: Disk) -> bool:
        """The disk is there, unchanged if it was before; whether anything has changed."""
        if self.find_disk(disk.key):
            return False
        self._devices.append(disk.format())
        self._order_boot(self.find_disk(disk.key))
        return True

    def put_drive(self, drive: Disk) -> bool:
        """The drive is there with what is to be in it, its place as before; whether anything has changed."""
        found = self.find_disk(drive.key)
        if not found:
            return self.put_disk(drive)
        before = etree.tostring(found[0])
        put_medium(found[0], drive)
        _put_child(found[0], drive, "boot")
        self._order_boot(found)
        return etree.tostring(found[0]) != before

    def take_disk(self, key: str) -> bool:
        """The disk is not there; whether anything has changed."""
        found = self.find_disk(key)
        for disk in found:
            self._devices.remove(disk)
        return bool(found)

    def boot_orders_beside(self, own: list[etree._Element]) -> set[int]:
        """The places in the boot order that other devices than these elements have."""
        boots = (device.find("boot") for device in self._root.iterfind("devices/*") if device not in own)
        return {int(boot.get("order", "0")) for boot in boots if boot is not None}

    def has_controller(self, kind: str) -> bool:
        """Whether there is a bus of this type ("usb", "scsi") to plug into."""
        controllers = self._root.iterfind(f"devices/controller[@type='{kind}']")
        return any(controller.get("model") != "none" for controller in controllers)

    @property
    def has_io_threads(self) -> bool:
        """Whether disks can have a thread of their own."""
        return self._root.findtext("iothreads", "0").strip() != "0"

    @property
    def has_ports(self) -> bool:
        """Whether devices on PCI need a root port each."""
        return self._root.find(f"devices/controller[@model='{_PORT}']") is not None

    def free_ports(self) -> list[int]:
        """Indices of the PCIe root ports behind which there is nothing."""
        ports = self._root.iterfind(f"devices/controller[@model='{_PORT}']")
        places = (device.find("address[@type='pci']") for device in self._root.iterfind("devices/*"))
        taken = {int(place.get("bus", "0"), 0) for place in places if place is not None}
        return sorted({int(port.get("index", "0")) for port in ports} - taken)

    def put(self, alias: str, mark: AssignedDevice, devices: Devices) -> bool:
        """The device is there, its place in the guest as before; whether anything has changed. ValueError: no room."""
        present, wanted = self.find(alias), list_elements(devices)
        changed = self.put_mark(mark)
        if not _are_alike(present, wanted):
            for element in present:
                self._devices.remove(element)
            for built in wanted:
                self._devices.append(built.format())
            self._place_card(alias)
            self._order_boot(self.find(alias))
            return True
        for element, built in zip(present, wanted, strict=True):
            if not _has_source(element, built):
                _replace_child(element, built.format(), "source")
                changed = True
        return changed

    def put_mark(self, mark: AssignedDevice) -> bool:
        """What was asked for is in the metadata; whether anything has changed."""
        return self._change_mark(mark.uuid, mark)

    def find_usb_place(self, alias: str) -> tuple[int, int] | None:
        """Bus and device of a USB device of the node; None when the guest does not have it."""
        for element in self.find(alias):
            address = element.find("source/address")
            if address is not None:
                return int(address.get("bus", "0"), 0), int(address.get("device", "0"), 0)
        return None

    def put_controller(self, controller: Controller) -> None:
        """There is a bus of this type, in place of the word that there is none."""
        if not self.has_controller(controller.type):
            for absent in self._root.findall(f"devices/controller[@type='{controller.type}']"):
                self._devices.remove(absent)
            self._devices.append(controller.format())

    def take(self, alias: str, device_uuid: str) -> bool:
        """The device is not there; whether anything has changed."""
        found = self.find(alias)
        for element in found:
            self._devices.remove(element)
        return self._change_mark(device_uuid, None) or bool(found)

    def format_ownership(self) -> str:
        """The mark of the domain alone, without its namespace, which libvirt adds."""
        found = copy.deepcopy(self._root.find(f"metadata/{Ownership.qualified_tag()}"))
        if found is None:
            return ""
        for element in found.iter():
            element.tag = etree.QName(element).localname
        etree.cleanup_namespaces(found)
        return etree.tostring(found, encoding="unicode", with_tail=False)

    @property
    def _devices(self) -> etree._Element:
        found = self._root.find("devices")
        if found is None:
            raise ValueError("the domain has no devices")
        return found

    def _change_mark(self, device_uuid: str, mark: AssignedDevice | None) -> bool:
        found = self._root.find(f"metadata/{Ownership.qualified_tag()}")
        if found is None:
            return False
        before = Ownership.parse(found)
        present = {known.uuid: known for known in before.devices}
        wanted = {**present, device_uuid: mark} if mark else {k: v for k, v in present.items() if k != device_uuid}
        after = replace(before, devices=tuple(device for device in wanted.values() if device))
        if after == before:
            return False
        found.getparent().replace(found, after.format())  # type: ignore[union-attr]  # it was found below one
        return True

    def _place_card(self, alias: str) -> None:
        """All functions of a card behind the last free root port; libvirt gives the others out from the first."""
        places = [place for element in self.find(alias) if (place := element.find("address[@type='pci']")) is not None]
        if not places:
            return
        # Its own place, which is behind none, counts for nothing.
        free = self.free_ports()
        if not free:
            raise ValueError("no PCIe root port of the guest is free")
        for place in places:
            place.set("bus", f"0x{free[-1]:02x}")

    def _order_boot(self, elements: list[etree._Element]) -> None:
        """Where a device has a place in the order libvirt takes no order of kinds, which it writes where none has."""
        if any(element.find("boot") is not None for element in elements):
            for machine in self._root.findall("os"):
                for boot in machine.findall("boot"):
                    machine.remove(boot)


def put_medium(element: etree._Element, drive: Disk) -> None:
    """What is to be in the drive is, in this element of it."""
    if (Disk.parse(element).source or None) == drive.source:
        return
    # It describes what was in the drive before.
    for described in element.findall("backingStore"):
        element.remove(described)
    _put_child(element, drive, "driver")
    _put_child(element, drive, "source")


def _put_child(element: etree._Element, built: Element, tag: str) -> None:
    """The child is that of the built element, or gone when that has none."""
    mine, other = element.find(tag), built.format().find(tag)
    if mine is not None:
        element.remove(mine)
    if other is not None:
        element.insert(0, other)


def _has_alias(element: etree._Element, alias: str) -> bool:
    found = element.find("alias")
    name = "" if found is None else found.get("name", "")
    return name == alias or name.startswith(f"{alias}-")


def _are_alike(present: list[etree._Element], wanted: tuple[Element, ...]) -> bool:
    return [element.tag for element in present] == [built.TAG for built in wanted]


def _has_source(element: etree._Element, built: DeviceElement) -> bool:
    source = element.find("source")
    return source is not None and built.source is not None and type(built.source).parse(source) == built.source


def _replace_child(element: etree._Element, twin: etree._Element, tag: str) -> None:
    mine, other = element.find(tag), twin.find(tag)
    if mine is not None and other is not None:
        element.replace(mine, other)
