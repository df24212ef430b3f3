"""Volumes as disks of the guest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from string import ascii_lowercase
from typing import Final

from agent.configure.host_profile import HostProfile, VolumeSource
from agent.domainxml.address import BootOrder
from agent.domainxml.device import Controller
from agent.domainxml.disk import (
    Disk,
    DiskDriver,
    DiskPlace,
    DiskSource,
    DiskTarget,
    DriveAddress,
    SourceAuth,
    SourceConfig,
    SourceEncryption,
    SourceSecret,
)
from agent.domainxml.domain import Domain
from agent.errors import CapabilityMissing, RequestInvalid
from agent.storage.base import RbdSource
from protos.agent.v1 import domain_pb2
from protos.agent.v1.domain_pb2 import DiskBus, DomainSpec

BUSES: Final[Mapping[int, str]] = {
    DiskBus.DISK_BUS_UNSPECIFIED: "virtio",
    DiskBus.DISK_BUS_VIRTIO: "virtio",
    DiskBus.DISK_BUS_SCSI: "scsi",
    DiskBus.DISK_BUS_SATA: "sata",
}
_PREFIXES: Final[Mapping[str, str]] = {"virtio": "vd", "scsi": "sd", "sata": "sd"}
# virtio-blk has room for no more; SCSI and SATA take it as well.
SERIAL_LENGTH: Final = 20
# UEFI firmware looks for 8 units on each of 32 targets of a virtio SCSI controller; an AHCI controller has 6 ports.
_UNITS: Final[Mapping[str, int]] = {"scsi": 7, "sata": 6}


def configure_disks(domain: Domain, spec: DomainSpec, host: HostProfile) -> Domain:
    """Disks keep the order of the request, and the places that they had before.

    The guest can find each by its serial, the start of the volume's UUID.
    """
    for requested in spec.disks:
        disk = build_disk(requested, host, domain.devices.disks)
        domain = domain.with_devices(disks=(disk,))
    uses_scsi = any(disk.target.bus == "scsi" for disk in domain.devices.disks)
    return with_scsi_controller(domain) if uses_scsi else domain


def build_disk(requested: domain_pb2.Disk, host: HostProfile, disks: Sequence[Disk]) -> Disk:
    """A volume as one more disk beside these. Raises RequestInvalid when it is not on this node."""
    volume = host.volumes.get(requested.volume_uuid)
    if volume is None:
        raise RequestInvalid(f"disks.volume_uuid: volume {requested.volume_uuid} is not on this node")
    serial = make_serial(requested.volume_uuid)
    place = find_place(disks, BUSES[requested.bus], serial, host.disk_places)
    limit = host.disk_limits.get(volume.volume_type)
    return Disk(
        volume.kind,
        driver=_build_driver(requested, volume, host),
        source=_build_source(requested.volume_uuid, volume),
        target=place.target,
        read_only=requested.read_only,
        shareable=volume.shared,
        io_tune=limit.to_element() if limit else None,
        serial=serial,
        boot=BootOrder(requested.boot_index) if requested.boot_index else None,
        address=place.address,
    )


def _build_driver(requested: domain_pb2.Disk, volume: VolumeSource, host: HostProfile) -> DiskDriver:
    """Past the node's page cache where the file system can: its memory is for guests, and flushes stay true.

    What several guests write to is never kept in one node's. Raises CapabilityMissing.
    """
    if volume.kind == "network":
        # librbd's cache: it holds what was not flushed, and writes through until the guest has flushed once.
        return DiskDriver("qemu", volume.format, cache="writeback", discard="unmap", detect_zeroes="unmap")
    is_direct = host.direct_io or volume.kind == "block"
    if volume.shared and not is_direct:
        raise CapabilityMissing(
            f"disks.volume_uuid: volume {requested.volume_uuid} is shared, and files go through the page cache here"
        )
    return DiskDriver(
        "qemu",
        volume.format,
        cache="none" if is_direct else "writeback",
        io="native" if is_direct else "threads",
        discard="unmap",
        detect_zeroes="unmap",
    )


def _build_source(uuid: str, volume: VolumeSource) -> DiskSource:
    match volume.kind, volume.rbd:
        case "network", RbdSource(config=config, user=user, secret_uuid=secret_uuid):
            return DiskSource(
                protocol="rbd",
                name=str(volume.path),
                config=SourceConfig(str(config)),
                auth=SourceAuth(user, SourceSecret("ceph", secret_uuid)),
            )
        case "block", _:
            return DiskSource(device=str(volume.path))
        case _:
            secret = SourceSecret("passphrase", uuid)
            return DiskSource(
                str(volume.path), encryption=SourceEncryption("luks", secret) if volume.encrypted else None
            )


def make_serial(volume_uuid: str) -> str:
    """What the guest reads from the disk, the same wherever it is."""
    return volume_uuid.replace("-", "")[:SERIAL_LENGTH]


def find_place(disks: Sequence[Disk], bus: str, key: str, known: Mapping[str, DiskPlace]) -> DiskPlace:
    """The place that the disk had before, else the first on this bus that neither these disks nor others have.

    libvirt derives the place from the name, which SCSI and SATA disks share; the eighth would come to a SCSI
    controller of a kind that few guests have a driver for.
    """
    taken = [disk.place for disk in disks]
    kept = known.get(key)
    if kept and kept.target.bus == bus and not any(_collide(kept, other) for other in taken):
        return kept
    taken += [place for other, place in known.items() if other != key]
    names, prefix = {place.target.dev for place in taken}, _PREFIXES[bus]
    name = next(name for index in count() if (name := device_name(prefix, index)) not in names)
    return DiskPlace(DiskTarget(name, bus), _find_address([place for place in taken if place.target.bus == bus], bus))


def _find_address(taken: Sequence[DiskPlace], bus: str) -> DriveAddress | None:
    if bus not in _UNITS:
        return None
    numbers = {_number(place.address) for place in taken if place.address}
    return next(address for index in count() if _number(address := _address(bus, index)) not in numbers)


def _address(bus: str, index: int) -> DriveAddress:
    row, unit = divmod(index, _UNITS[bus])
    if bus == "sata":
        return DriveAddress(controller=row, bus=0, target=0, unit=unit)
    return DriveAddress(controller=0, bus=0, target=row, unit=unit)


def _number(address: DriveAddress) -> tuple[int, int, int]:
    return address.controller or 0, address.target or 0, address.unit or 0


def _collide(one: DiskPlace, other: DiskPlace) -> bool:
    if one.target.dev == other.target.dev:
        return True
    are_drives = one.address is not None and other.address is not None and one.target.bus == other.target.bus
    return are_drives and _number(one.address) == _number(other.address)  # type: ignore[arg-type]  # neither is None


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
