"""Whole local disks as block devices, by a link that follows the disk wherever it is plugged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.devices.base import Surroundings
from agent.devices.block_use import find_disk_domain, find_host_uses
from agent.devices.journal import Entry, Making
from agent.devices.maker import Order, Tools
from agent.devices.source import BlockSource
from agent.errors import DeviceNotFound, DeviceWithheld, RequestInvalid

_BY_ID: Final = "/dev/disk/by-id/"
_BY_PATH: Final = "/dev/disk/by-path/"
# Of several links those that name the disk itself, in all worlds, come first.
_PREFERRED: Final = (f"{_BY_ID}wwn-", f"{_BY_ID}nvme-eui.", f"{_BY_ID}nvme-uuid.", _BY_ID, _BY_PATH)


@dataclass(frozen=True)
class BlockMaker:
    """See Maker. Nothing is made: the disk is there."""

    tools: Tools

    def plan(self, order: Order, around: Surroundings) -> Making:
        """See Maker. The link stays the same as long as it leads to the disk."""
        device = order.device
        if order.wish.native and not device.details.get("address"):
            raise RequestInvalid(f"device.native: {device.id} answers no SCSI commands")
        links = around.properties("block", device.details["name"]).get("DEVLINKS", "").split()
        if order.former is not None and order.former.path in links:
            return order.former
        for prefix in _PREFERRED:
            if found := sorted(link for link in links if link.startswith(prefix)):
                return Making("block", path=found[0])
        raise DeviceWithheld(f"{device.id} has no link below /dev/disk that follows it")

    async def make(self, entry: Entry, around: Surroundings) -> BlockSource:
        """See Maker."""
        if not find_disk_name(entry, around):
            raise DeviceNotFound(f"{entry.device.id} is not on the node")
        return BlockSource(Path(entry.making.path), scsi_commands=entry.wish.native)

    async def unmake(self, entry: Entry, around: Surroundings) -> None:
        """See Maker."""

    def find_domain(self, entry: Entry, around: Surroundings) -> str:
        """See Maker."""
        name = find_disk_name(entry, around)
        # A domain that has a link to a disk that is gone is known by the link's own name.
        return find_disk_domain(around.sysfs, around.block_use, name or Path(entry.making.path).name)

    def find_needs(self, entry: Entry, around: Surroundings) -> Iterator[str]:
        """See Maker."""
        name = find_disk_name(entry, around)
        return find_host_uses(around.sysfs, around.block_use, name) if name else iter(())


def find_disk_name(entry: Entry, around: Surroundings) -> str:
    """The kernel's present name of the disk that the link follows; empty: it is not there."""
    for name in around.sysfs.names("class/block"):
        links = around.properties("block", name).get("DEVLINKS", "").split()
        if entry.making.path in links and not around.sysfs.exists(f"class/block/{name}/partition"):
            return name
    return ""
