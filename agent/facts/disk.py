"""Whole disks of the node."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Final

from agent.facts.memory import Memory
from agent.facts.sysfs import DeviceProperties, Sysfs
from protos.agent.v1.host_pb2 import BlockDevice

_SECTOR_BYTES: Final = 512  # sysfs counts in these, whatever the disk's own sectors are
_SCSI_TYPE_ROM: Final = "5"
_SCSI_ADDRESS: Final = re.compile(r"\d+:\d+:\d+:\d+")


def collect_disks(sysfs: Sysfs, properties: DeviceProperties, memory: Memory | None = None) -> list[BlockDevice]:
    """Disks that are hardware (or the hypervisor's, in a guest).

    No partitions, loops, RAM disks and empty drives; no CD drives, and no single paths of a multipath NVMe disk.
    Source: Documentation/ABI/stable/sysfs-block, "hidden"; include/scsi/scsi_proto.h.
    """
    known = memory or Memory()

    def read(name: str) -> BlockDevice | None:
        return _collect_disk(sysfs, name, properties("block", name)) if _is_disk(sysfs, name) else None

    found = [known.recall(name, "disk", functools.partial(read, name)) for name in sysfs.names("class/block")]
    return [disk for disk in found if disk is not None]


def _is_disk(sysfs: Sysfs, name: str) -> bool:
    base = f"class/block/{name}"
    if not sysfs.exists(f"{base}/device") or sysfs.exists(f"{base}/partition"):
        return False
    # An empty CD drive has a size, too: 1 GiB.
    is_cd_drive = sysfs.read(f"{base}/device/type") == _SCSI_TYPE_ROM
    return not is_cd_drive and sysfs.read(f"{base}/hidden") != "1" and sysfs.read_number(f"{base}/size") > 0


def _collect_disk(sysfs: Sysfs, name: str, udev: Mapping[str, str]) -> BlockDevice:
    base = f"class/block/{name}"
    address = sysfs.resolve(f"{base}/device").name
    return BlockDevice(
        name=name,
        size_bytes=sysfs.read_number(f"{base}/size") * _SECTOR_BYTES,
        rotational=sysfs.read(f"{base}/queue/rotational") == "1",
        model=udev.get("ID_MODEL") or sysfs.read(f"{base}/device/model"),
        serial=udev.get("ID_SERIAL_SHORT") or sysfs.read(f"{base}/device/serial") or sysfs.read(f"{base}/serial"),
        wwn=udev.get("ID_WWN_WITH_EXTENSION") or udev.get("ID_WWN") or sysfs.read(f"{base}/wwid"),
        scsi_address=address if _SCSI_ADDRESS.fullmatch(address) else "",
    )
