"""Volumes as disks of the guest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from string import ascii_lowercase
from typing import Final

from agent.configure.host_profile import HostProfile
from agent.domainxml.device import Controller
from agent.domainxml.disk import BootOrder, Disk, DiskDriver, DiskSource, DiskTarget
from agent.domainxml.domain import Domain
from agent.errors import RequestInvalid
from protos.agent.v1 import domain_pb2
from protos.agent.v1.domain_pb2 import DiskBus, DomainSpec

_BUSES: Final[Mapping[int, tuple[str, str]]] = {
    DiskBus.DISK_BUS_UNSPECIFIED: ("virtio", "vd"),
    DiskBus.DISK_BUS_VIRTIO: ("virtio", "vd"),
    DiskBus.DISK_BUS_SCSI: ("scsi", "sd"),
    DiskBus.DISK_BUS_SATA: ("sata", "sd"),
}
# virtio-blk has room for no more; SCSI and SATA take it as well.
_SERIAL_LENGTH = 20


def configure_disks(domain: Domain, spec: DomainSpec, host: HostProfile) -> Domain:
    """Disks keep the order of the request; the guest can find each by its serial, the start of the volume's UUID."""
    letters: Counter[str] = Counter()
    disks = []
    for requested in spec.disks:
        bus, prefix = _BUSES[requested.bus]
        disks.append(_disk(requested, DiskTarget(device_name(prefix, letters[prefix]), bus), host))
        letters[prefix] += 1
    domain = domain.with_devices(disks=tuple(disks))
    return with_scsi_controller(domain) if any(disk.target.bus == "scsi" for disk in disks) else domain


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


def _disk(requested: domain_pb2.Disk, target: DiskTarget, host: HostProfile) -> Disk:
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
        serial=requested.volume_uuid.replace("-", "")[:_SERIAL_LENGTH],
        boot=BootOrder(requested.boot_index) if requested.boot_index else None,
    )
