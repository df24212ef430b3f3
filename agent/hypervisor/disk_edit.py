"""Disks in the definition of one domain and in its running guest; all of it blocks.

What a guest has is read from libvirt's XML and nothing else. The guest that runs comes first, the definition follows:
it never tells of something that could not be done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import libvirt
from lxml import etree

from agent.configure.disk import with_scsi_controller
from agent.configure.io_thread import with_io_thread
from agent.domainxml.assignment import AssignedDomain, put_medium
from agent.domainxml.disk import Disk, DiskPlace, DiskSource
from agent.domainxml.domain import Domain
from agent.domainxml.element import format_document
from agent.errors import DevicePlugUnsafe, MediumLocked, RequestInvalid
from agent.hypervisor.hostdev_edit import define, read_definition
from agent.hypervisor.unplug import Find, read_live

# The disk, beside others, at the place that it has among these.
BuildDisk = Callable[[Sequence[Disk], Mapping[str, DiskPlace]], Disk]


def by_key(key: str) -> Find:
    """Finds the disk with this `Disk.key`."""
    return lambda document: document.find_disk(key)


def read_places(domain: libvirt.virDomain) -> dict[str, DiskPlace]:
    """Where the guest has its disks, by `Disk.key`: as it runs, else as it would start."""
    documents = [read_definition(domain)] if domain.isPersistent() else []
    live = read_live(domain)
    return _places([*documents, *([live] if live else [])])


def read_images(domain: libvirt.virDomain) -> list[Path]:
    """What the guest has in Ceph, as it would start: "POOL/IMAGE"."""
    sources = _read_sources(domain)
    return [Path(source.name) for source in sources if source and source.protocol == "rbd" and source.name]


def read_encrypted(domain: libvirt.virDomain) -> list[str]:
    """UUIDs of the encrypted volumes that the guest has, as it would start."""
    return [source.encryption.secret.uuid for source in _read_sources(domain) if source and source.encryption]


def _read_sources(domain: libvirt.virDomain) -> list[DiskSource | None]:
    return [disk.source for disk in read_definition(domain).disks] if domain.isPersistent() else []


def plug_disk(domain: libvirt.virDomain, build: BuildDisk) -> None:
    """A guest that runs has the disk. Raises DevicePlugUnsafe, RequestInvalid."""
    definition, live = read_definition(domain), read_live(domain)
    disk = _build(build, definition, live)
    own = definition.find_disk(disk.key)
    if disk.boot and disk.boot.order in definition.boot_orders_beside(own):
        raise RequestInvalid(f"disk.boot_index: {disk.boot.order} is another device's")
    if live is None or live.find_disk(disk.key):
        return
    if obstacle := _find_obstacle(live, disk):
        raise DevicePlugUnsafe(f"disk {disk.key} cannot be plugged into a guest that runs: {obstacle}")
    if disk.target.bus == "scsi" and not live.has_controller("scsi"):
        for controller in _controllers(disk):
            domain.attachDeviceFlags(format_document(controller), libvirt.VIR_DOMAIN_AFFECT_LIVE)
    disk = with_io_thread(disk, is_there=live.has_io_threads)
    # The boot order counts from the next start; a guest that runs may have another kind of order.
    domain.attachDeviceFlags(format_document(replace(disk, boot=None)), libvirt.VIR_DOMAIN_AFFECT_LIVE)


def replug_disk(domain: libvirt.virDomain, key: str) -> bool:
    """A guest that runs has what its definition says; False when that does not have the disk, or the guest is off."""
    defined = [disk for disk in read_definition(domain).disks if disk.key == key]
    if not defined or not domain.isActive():
        return False
    plug_disk(domain, lambda _disks, _known: replace(defined[0], alias=None, address=defined[0].place.address))
    return True


def define_disk(domain: libvirt.virDomain, build: BuildDisk) -> None:
    """The definition has the disk, where the guest that runs has it."""
    definition = read_definition(domain)
    disk = _build(build, definition, read_live(domain))
    for controller in _controllers(disk):
        definition.put_controller(controller)
    if definition.put_disk(with_io_thread(disk, is_there=definition.has_io_threads)):
        define(domain, definition)


def forget_disk(domain: libvirt.virDomain, key: str) -> bool:
    """The definition does not have the disk; False, and nothing changes, while the running guest has it."""
    live = read_live(domain)
    if live and live.find_disk(key):
        return False
    if domain.isPersistent():
        definition = read_definition(domain)
        if definition.take_disk(key):
            define(domain, definition)
    return True


def change_medium(domain: libvirt.virDomain, build: BuildDisk, *, force: bool) -> None:
    """A guest that runs has in its drive what is to be there. Raises DevicePlugUnsafe, MediumLocked."""
    live = read_live(domain)
    if live is None:
        return
    drive = _build(build, read_definition(domain), live)
    found = live.find_disk(drive.key)
    if not found:
        raise DevicePlugUnsafe(
            "the guest has had no such drive since its start: it has after it was stopped and started"
        )
    (element,) = found
    if (Disk.parse(element).source or None) == drive.source:
        return
    put_medium(element, drive)
    flags = libvirt.VIR_DOMAIN_AFFECT_LIVE | (libvirt.VIR_DOMAIN_DEVICE_MODIFY_FORCE if force else 0)
    document = etree.tostring(element, encoding="unicode", with_tail=False)
    try:
        domain.updateDeviceFlags(document, flags)
    except libvirt.libvirtError as error:
        # libvirt has asked the guest for the tray, and has waited.
        if error.get_error_code() == libvirt.VIR_ERR_OPERATION_FAILED and not force:
            raise MediumLocked(f"the guest does not let go of what is in drive {drive.target.dev}: {error}") from error
        raise


def define_drive(domain: libvirt.virDomain, build: BuildDisk) -> None:
    """The definition has the drive, with what is to be in it, where the guest that runs has it."""
    definition = read_definition(domain)
    drive = _build(build, definition, read_live(domain))
    for controller in _controllers(drive):
        definition.put_controller(controller)
    if definition.put_drive(drive):
        define(domain, definition)


def resize_disk(domain: libvirt.virDomain, key: str, size_bytes: int) -> bool:
    """The guest that runs sees the disk with this size; False when it does not run, or does not have it."""
    live = read_live(domain)
    found = [disk for disk in live.disks if disk.key == key] if live else []
    for disk in found:
        domain.blockResize(disk.target.dev, size_bytes, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
    return bool(found)


def _build(build: BuildDisk, definition: AssignedDomain, live: AssignedDomain | None) -> Disk:
    """Beside the disks of both, so that it has one name and one place in both."""
    documents = [definition, live] if live else [definition]
    return build([], _places(documents))


def _places(documents: Sequence[AssignedDomain]) -> dict[str, DiskPlace]:
    return {disk.key: disk.place for document in documents for disk in document.disks}


def _find_obstacle(live: AssignedDomain, disk: Disk) -> str:
    if disk.target.bus not in ("virtio", "scsi"):
        return f"{disk.target.bus} disks come and go only while the guest is off"
    needs_port = disk.target.bus == "virtio" or not live.has_controller("scsi")
    is_full = live.has_ports and not live.free_ports()
    return "none of the guest's PCIe root ports is free" if needs_port and is_full else ""


def _controllers(disk: Disk) -> tuple:  # type: ignore[type-arg]
    """What the disk is plugged into, where libvirt would add something worse by itself."""
    return with_scsi_controller(Domain("")).devices.controllers if disk.target.bus == "scsi" else ()
