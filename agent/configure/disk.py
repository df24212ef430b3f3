"""Volumes as disks of the guest."""

from __future__ import annotations

from collections.abc import Mapping
from string import ascii_lowercase
from typing import Final

from agent.configure.host_profile import HostProfile
from agent.domainxml.address import BootOrder
from agent.domainxml.device import Controller
from agent.domainxml.disk import Disk, DiskDriver, DiskSource, DiskTarget, DriveAddress
from agent.domainxml.domain import Domain
from agent.errors import RequestInvalid
from protos.agent.v1 import domain_pb2
from protos.agent.v1.domain_pb2 import DiskBus, DomainSpec

_BUSES: Final[Mapping[int, str]] = {
    DiskBus.DISK_BUS_UNSPECIFIED: "virtio",
    DiskBus.DISK_BUS_VIRTIO: "virtio",
    DiskBus.DISK_BUS_SCSI: "scsi",
    DiskBus.DISK_BUS_SATA: "sata",
}
_PREFIXES: Final[Mapping[str, str]] = {"virtio": "vd", "scsi": "sd", "sata": "sd"}
# virtio-blk has room for no more; SCSI and SATA take it as well.
SERIAL_LENGTH: Final = 20
# UEFI firmware looks for 8 units on each of 32 targets of a virtio SCSI controller.
UNITS_PER_TARGET: Final = 7
_PORTS_PER_AHCI: Final = 6


def configure_disks(domain: Domain, spec: DomainSpec, host: HostProfile) -> Domain:
    """Disks keep the order of the request; the guest can find each by its serial, the start of the volume's UUID."""
    for requested in spec.disks:
        target, address = next_place(domain, _BUSES[requested.bus])
        domain = domain.with_devices(disks=(_disk(requested, target, address, host),))
    uses_scsi = any(disk.target.bus == "scsi" for disk in domain.devices.disks)
    return with_scsi_controller(domain) if uses_scsi else domain


def next_place(domain: Domain, bus: str) -> tuple[DiskTarget, DriveAddress | None]:
    """The name and the place for one disk more on this bus.

    libvirt derives the place from the name, which SCSI and SATA disks share; the eighth would come to a SCSI
    controller of a kind that few guests have a driver for.
    """
    targets = [disk.target for disk in domain.devices.disks]
    prefix = _PREFIXES[bus]
    name = device_name(prefix, sum(target.dev.startswith(prefix) for target in targets))
    index = sum(target.bus == bus for target in targets)
    address = None
    if bus == "scsi":
        address = DriveAddress(controller=0, bus=0, target=index // UNITS_PER_TARGET, unit=index % UNITS_PER_TARGET)
    elif bus == "sata":
        address = DriveAddress(controller=index // _PORTS_PER_AHCI, bus=0, target=0, unit=index % _PORTS_PER_AHCI)
    return DiskTarget(name, bus), address


def with_scsi_controller(domain: Domain) -> Domain:
    """A virtio SCSI controller is there; libvirt by itself would add one that few guests have a driver for."""
    if any(controller.type == "scsi" for controller in domain.devices.controllers):
        return domain
    return domain.with_devices(controllers=(Controller("scsi", 0, "virtio-scsi"),))


def device_name(prefix: str, index: int) -> str:
    """The kernel's name of the disk with this number: vda … vdz, vdaa …"""
    name = ""
    index += 1
    while index:
        index, letter = divmod(index - 1, len(ascii_lowercase))
        name = ascii_lowercase[letter] + name
    return prefix + name


def _disk(requested: domain_pb2.Disk, target: DiskTarget, address: DriveAddress | None, host: HostProfile) -> Disk:
    volume = host.volumes.get(requested.volume_uuid)
    if volume is None:
        raise RequestInvalid(f"disks.volume_uuid: volume {requested.volume_uuid} is not on this node")
    driver = DiskDriver(
        "qemu",
        volume.format,
        # Past the node's page cache where the file system can: its memory is for guests, and flushes stay true.
        cache="none" if host.direct_io else "writeback",
        io="native" if host.direct_io else "threads",
        discard="unmap",
        detect_zeroes="unmap",
    )
    return Disk(
        "file",
        driver=driver,
        source=DiskSource(str(volume.path)),
        target=target,
        read_only=requested.read_only,
        serial=requested.volume_uuid.replace("-", "")[:SERIAL_LENGTH],
        boot=BootOrder(requested.boot_index) if requested.boot_index else None,
        address=address,
    )
