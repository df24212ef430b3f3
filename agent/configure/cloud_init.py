"""The optical drive that holds the guest's seed."""

from __future__ import annotations

from agent.configure.disk import find_place, with_scsi_controller
from agent.configure.host_profile import HostProfile
from agent.domainxml.disk import Disk, DiskDriver, DiskSource
from agent.domainxml.domain import Domain
from protos.agent.v1.domain_pb2 import DomainSpec


def configure_cloud_init(domain: Domain, spec: DomainSpec, host: HostProfile) -> Domain:
    """Comes after the disks, so that its name takes none of theirs, and is never started from.

    On virtio SCSI and not on SATA: the kernels of cloud images are often built without AHCI.
    """
    if not spec.HasField("cloud_init"):
        return domain
    seed = host.seed(spec.uuid)
    place = find_place(domain.devices.disks, "scsi", seed.name, host.disk_places)
    drive = Disk(
        "file",
        device="cdrom",
        driver=DiskDriver("qemu", "raw"),
        source=DiskSource(str(seed)),
        target=place.target,
        read_only=True,
        address=place.address,
    )
    return with_scsi_controller(domain.with_devices(disks=(drive,)))
