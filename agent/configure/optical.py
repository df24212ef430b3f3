"""The optical drives of the guest, and what is in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agent.configure.disk import BUSES, find_place, with_scsi_controller
from agent.configure.host_profile import HostProfile
from agent.domainxml.address import BootOrder
from agent.domainxml.disk import Disk, DiskDriver, DiskSource
from agent.domainxml.domain import Domain
from agent.errors import ImageNotFound
from protos.agent.v1.domain_pb2 import DomainSpec, OpticalDrive

_KEY: Final = "cdrom"


def configure_optical_drives(domain: Domain, spec: DomainSpec, host: HostProfile) -> Domain:
    """Come after the seed's drive, so that their names take none of the others'."""
    for requested in spec.optical_drives:
        drive = build_drive(requested, host, domain.devices.disks)
        domain = domain.with_devices(disks=(drive,))
    uses_scsi = any(disk.target.bus == "scsi" for disk in domain.devices.disks)
    return with_scsi_controller(domain) if uses_scsi else domain


def build_drive(requested: OpticalDrive, host: HostProfile, disks: Sequence[Disk]) -> Disk:
    """A drive as one more beside these disks. Raises ImageNotFound when what is to be in it is not in the cache."""
    key = make_key(requested.number)
    place = find_place(disks, BUSES[requested.bus], key, host.disk_places)
    return Disk(
        "file",
        device="cdrom",
        driver=DiskDriver("qemu", "raw"),
        source=find_medium(requested, host),
        target=place.target,
        read_only=True,
        serial=key,
        boot=BootOrder(requested.boot_index) if requested.boot_index else None,
        address=place.address,
    )


def find_medium(requested: OpticalDrive, host: HostProfile) -> DiskSource | None:
    """The file that is to be in the drive; None: nothing."""
    if not requested.HasField("image"):
        return None
    path = host.images.get(requested.image.image_id)
    if path is None:
        raise ImageNotFound(f"image {requested.image.image_id} is not in the cache of this node")
    return DiskSource(str(path))


def make_key(number: int) -> str:
    """Tells the drive from the guest's others, whatever is in it."""
    return f"{_KEY}{number}"
