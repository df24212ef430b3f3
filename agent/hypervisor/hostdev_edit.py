"""Devices of the node in the definition of one domain and in its running guest; all of it blocks.

What a guest has is read from libvirt's XML and nothing else. Plugging begins with the guest that runs, and so does
pulling out: the definition never tells of something that could not be done. The definition and the mark in it change
at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import libvirt

from agent.configure.disk import with_scsi_controller
from agent.configure.graphics import USB_CONTROLLER
from agent.configure.host_device import (
    build_device,
    check_machine,
    mark_device,
    name_alias,
    read_mark,
)
from agent.devices.source import BlockSource, DeviceSource, MdevSource, NetworkFunctionSource, PciSource, UsbSource
from agent.domainxml.assignment import AssignedDomain, list_elements
from agent.domainxml.device import Controller, Devices
from agent.domainxml.domain import Domain
from agent.domainxml.element import format_document
from agent.domainxml.metadata import NAMESPACE, Ownership
from agent.errors import DevicePlugUnsafe, RequestInvalid
from agent.hypervisor.description import read_ownership
from agent.hypervisor.unplug import Find, read_live, unless_ended
from protos.agent.v1.device_pb2 import HostDevice

_DEFINITION: Final = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE


@dataclass(frozen=True)
class PluggedUsb:
    """A USB device that a running guest should have: bus and device where QEMU looks for it; None: it has none."""

    domain_uuid: str
    wish: HostDevice
    place: tuple[int, int] | None


def read_definition(domain: libvirt.virDomain) -> AssignedDomain:
    """With its secrets: it is defined again."""
    return AssignedDomain(domain.XMLDesc(_DEFINITION))


def plug(domain: libvirt.virDomain, wish: HostDevice, source: DeviceSource, obstacle: str) -> None:
    """A guest that runs has the device, unless there is an obstacle."""
    definition, live = read_definition(domain), read_live(domain)
    check_machine(source, definition.machine)
    alias = name_alias(wish.uuid)
    if wish.boot_index and wish.boot_index in definition.boot_orders_beside(definition.find(alias)):
        raise RequestInvalid(f"device.boot_index: {wish.boot_index} is another device's")
    if live is None or live.find(alias):
        return
    if obstacle := obstacle or _find_live_obstacle(live, source):
        raise DevicePlugUnsafe(f"{wish.device_id} cannot be plugged into a guest that runs: {obstacle}")
    for controller in _controllers(source):
        if not live.has_controller(controller.type):
            domain.attachDeviceFlags(format_document(controller), libvirt.VIR_DOMAIN_AFFECT_LIVE)
    for element in list_elements(_build(definition, wish, source, live)):
        # The boot order counts from the next start; a guest that runs may have another kind of order.
        element = replace(element, boot=None)  # noqa: PLW2901
        domain.attachDeviceFlags(format_document(element), libvirt.VIR_DOMAIN_AFFECT_LIVE)


def define_device(domain: libvirt.virDomain, wish: HostDevice, source: DeviceSource) -> bool:
    """The definition has the device, and what runs is marked to have it; False when that has it not: just started."""
    definition, live = read_definition(domain), read_live(domain)
    if put_device(definition, wish, source, live):
        define(domain, definition)
    if live and not live.find(name_alias(wish.uuid)):
        return False
    if live and live.put_mark(mark_device(wish)):
        _mark_live(domain, live)
    return True


def _find_live_obstacle(live: AssignedDomain, source: DeviceSource) -> str:
    if isinstance(source, UsbSource) and not live.has_controller("usb"):
        return "the guest has no USB controller before its next start"
    needs_port = isinstance(source, PciSource | NetworkFunctionSource | MdevSource)
    needs_port = needs_port or (isinstance(source, BlockSource) and not live.has_controller("scsi"))
    return "none of the guest's PCIe root ports is free" if needs_port and not live.free_ports() else ""


def put_device(definition: AssignedDomain, wish: HostDevice, source: DeviceSource, live: AssignedDomain | None) -> bool:
    """The definition has the device where it is now; whether anything has changed."""
    for controller in _controllers(source):
        definition.put_controller(controller)
    try:
        return definition.put(name_alias(wish.uuid), mark_device(wish), _build(definition, wish, source, live))
    except ValueError as error:
        raise DevicePlugUnsafe(f"{wish.device_id}: {error}") from None


def _build(definition: AssignedDomain, wish: HostDevice, source: DeviceSource, live: AssignedDomain | None) -> Devices:
    """Beside the disks of both, so that it has one name and one place in both."""
    alias = name_alias(wish.uuid)
    documents = (definition, live) if live else (definition,)
    return build_device(wish, source, [disk for document in documents for disk in document.disks_beside(alias)])


def _controllers(source: DeviceSource) -> tuple[Controller, ...]:
    """What the device is plugged into, where libvirt would add something worse by itself."""
    if isinstance(source, BlockSource):
        return with_scsi_controller(Domain("")).devices.controllers
    return (USB_CONTROLLER,) if isinstance(source, UsbSource) else ()


def define(domain: libvirt.virDomain, definition: AssignedDomain) -> None:
    """From the next start on."""
    domain.connect().defineXMLFlags(definition.format(), libvirt.VIR_DOMAIN_DEFINE_VALIDATE)


def _mark_live(domain: libvirt.virDomain, live: AssignedDomain) -> None:
    """Tells, beside the definition of the next start, what this run of the guest should have."""
    with unless_ended():
        domain.setMetadata(
            libvirt.VIR_DOMAIN_METADATA_ELEMENT,
            live.format_ownership(),
            Ownership.PREFIX,
            NAMESPACE,
            libvirt.VIR_DOMAIN_AFFECT_LIVE,
        )


def by_alias(alias: str) -> Find:
    """Finds the elements of a device of the node."""
    return lambda document: document.find(alias)


def forget(domain: libvirt.virDomain, alias: str, device_uuid: str) -> bool:
    """See DevicePlugs.forget."""
    live = read_live(domain)
    if live and live.find(alias):
        return False
    if domain.isPersistent():
        definition = read_definition(domain)
        if definition.take(alias, device_uuid):
            define(domain, definition)
    if live and live.take(alias, device_uuid):
        _mark_live(domain, live)
    return True


def list_usb(handle: libvirt.virConnect) -> list[PluggedUsb]:
    """See DevicePlugs.list_usb."""
    found = []
    for domain in handle.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
        with unless_ended():
            ownership = read_ownership(domain, libvirt.VIR_DOMAIN_AFFECT_LIVE)
            marks = [mark for mark in (ownership.devices if ownership else ()) if mark.device_id.startswith("usb-")]
            if marks:
                live = AssignedDomain(domain.XMLDesc(0))
                places = [live.find_usb_place(name_alias(mark.uuid)) for mark in marks]
                pairs = zip(map(read_mark, marks), places, strict=True)
                found += [PluggedUsb(domain.UUIDString(), wish, place) for wish, place in pairs]
    return found
