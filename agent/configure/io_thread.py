"""A thread of its own for the disks of larger guests: their requests wait for no vCPU, nor for QEMU's main loop."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from agent.configure.host_profile import HostProfile
from agent.domainxml.disk import Disk, DiskDriver
from agent.domainxml.domain import Domain
from protos.agent.v1.domain_pb2 import DomainSpec

# Smaller guests seldom keep one busy, and it would contend with their vCPUs.
LEAST_VCPUS: Final = 4
IO_THREAD: Final = 1


def configure_io_threads(domain: Domain, spec: DomainSpec, _host: HostProfile) -> Domain:
    """All of its virtio disks share one thread; SCSI and SATA disks stay with the main loop."""
    if spec.vcpus < LEAST_VCPUS:
        return domain
    disks = tuple(with_io_thread(disk, is_there=True) for disk in domain.devices.disks)
    return replace(domain, io_threads=1, devices=replace(domain.devices, disks=disks))


def with_io_thread(disk: Disk, *, is_there: bool) -> Disk:
    """The disk as it fits into a guest that has such a thread, or has none."""
    number = IO_THREAD if is_there and disk.target.bus == "virtio" else None
    driver = disk.driver or DiskDriver()
    return disk if driver.io_thread == number else replace(disk, driver=replace(driver, io_thread=number))
