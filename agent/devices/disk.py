"""Whole local disks.

A disk is offered only when nothing says that somebody uses it: what a guest gets is overwritten. So what is not known
counts as used.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from agent.devices.base import Surroundings, drop_empty, find_numa_node, find_pci_address
from agent.devices.block_path import find_block_paths, list_nvme_controllers
from agent.devices.block_use import find_uses
from agent.facts.disk import collect_disks
from agent.facts.sysfs import Sysfs
from protos.agent.v1.host_pb2 import BlockDevice, Device

# Made by software, remote by nature, or drives of removable media.
_NO_DISKS: Final = re.compile(r"(loop|zram|ram|dm-|md|nbd|rbd|drbd|bcache|zd|sr|fd)\d.*")
# Parts of the path of a SCSI disk that tell its transport; the first that is found counts.
_TRANSPORTS: Final = (
    (re.compile(r"session\d+"), "iscsi"),
    (re.compile(r"rport-.+"), "fibre channel"),
    (re.compile(r"usb\d+"), "usb"),
    (re.compile(r"virtio\d+"), "virtio"),
    (re.compile(r"ata\d+"), "sata"),
)
_INTERFACES: Final = frozenset(("sata", "sas", "nvme", "virtio"))
# In place of a vendor: of SATA disks behind a SCSI layer, and of virtio disks, by number.
_NO_VENDOR: Final = re.compile(r"ATA|0x[0-9a-f]+")


def discover_disks(surroundings: Surroundings) -> Iterator[Device]:
    """Every disk of the node that is hardware, or the hypervisor's in a guest."""
    sysfs, memory = surroundings.sysfs, surroundings.memory
    for disk in collect_disks(sysfs, surroundings.properties, memory):
        if not _NO_DISKS.fullmatch(disk.name):
            known = memory.recall(disk.name, "device", functools.partial(_describe, disk, surroundings))
            device = Device()
            device.CopyFrom(known.device)
            device.withheld_reason = next(_obstacles(disk, known, surroundings), "")
            yield device


class _Known(NamedTuple):
    """What a disk is, whoever uses it."""

    # Without what withholds it.
    device: Device
    # One of _INTERFACES, or what else it is.
    interface: str
    # Empty: nothing stays with it.
    identity: str
    # What udev tells of it.
    udev: Mapping[str, str]


def _describe(disk: BlockDevice, surroundings: Surroundings) -> _Known:
    sysfs, udev = surroundings.sysfs, surroundings.properties("block", disk.name)
    path = find_block_paths(sysfs, disk.name)[0]
    interface = _interface(sysfs, disk.name, path, udev)
    vendor = udev.get("ID_VENDOR") or sysfs.read(f"class/block/{disk.name}/device/vendor")
    attributes = {
        "vendor": "" if _NO_VENDOR.fullmatch(vendor) else vendor,
        "model": disk.model,
        "media": "hdd" if disk.rotational else "ssd",
        "interface": interface if interface in _INTERFACES else "",
    }
    details = {
        "name": disk.name,
        "address": disk.scsi_address,
        "pci_address": find_pci_address(path),
        "path": udev.get("ID_PATH", ""),
        "wwn": disk.wwn,
        "serial": disk.serial,
    }
    identity = _identity(disk, udev)
    device = Device(
        id=identity or f"name-{disk.name}",
        kind="disk",
        attributes=drop_empty(attributes),
        details=drop_empty(details),
        numa_node=find_numa_node(sysfs, path),
        size_bytes=disk.size_bytes,
    )
    return _Known(device, interface, identity, udev)


def _identity(disk: BlockDevice, udev: Mapping[str, str]) -> str:
    """What stays with the disk, else with its slot; empty when nothing does."""
    for prefix, value in (("wwn", disk.wwn), ("serial", disk.serial), ("path", udev.get("ID_PATH", ""))):
        if value:
            return f"{prefix}-{'_'.join(value.split())}"
    return ""


def _interface(sysfs: Sysfs, name: str, path: Path, udev: Mapping[str, str]) -> str:
    """One of those that requests name, or what else it is. Source: names of devices in the kernel's drivers/scsi."""
    if name.startswith("nvme"):
        base = f"class/block/{name}/device"
        transports = {sysfs.read(f"{base}/{place}/transport") for place in (".", *list_nvme_controllers(sysfs, name))}
        remote = sorted(transports - {"", "pcie"})
        return f"nvme over {remote[0]}" if remote else "nvme"
    for pattern, transport in _TRANSPORTS:
        if any(pattern.fullmatch(part) for part in path.parts):
            return transport
    if not name.startswith("sd"):
        return "unknown"
    # A SATA disk behind a SAS or RAID controller.
    is_ata = udev.get("ID_BUS") == "ata" or sysfs.read(f"class/block/{name}/device/vendor") == "ATA"
    return "sata" if is_ata else "sas"


def _obstacles(disk: BlockDevice, known: _Known, surroundings: Surroundings) -> Iterator[str]:
    """Why the disk cannot be given away, what matters most to people first."""
    yield from find_uses(surroundings.sysfs, surroundings.block_use, disk.name)
    yield from _contents(known.udev)
    sysfs, base = surroundings.sysfs, f"class/block/{disk.name}"
    if sysfs.read(f"{base}/ro") == "1":
        yield "read-only"
    if sysfs.read(f"{base}/removable") == "1":
        yield "removable"
    if known.interface not in _INTERFACES:
        yield f"its interface is {known.interface}"
    if not known.identity:
        yield "has no identity that outlasts a reboot"


def _contents(udev: Mapping[str, str]) -> Iterator[str]:
    """What udev found on the disk. Source: libblkid's superblocks, systemd's udev-builtin-blkid.c."""
    if "USEC_INITIALIZED" not in udev:
        yield "udev has not looked at it"
    if table := udev.get("ID_PART_TABLE_TYPE"):
        yield f"has a partition table ({table})"
    if system := udev.get("ID_FS_TYPE") or udev.get("ID_FS_USAGE"):
        yield f"holds data ({system})"
