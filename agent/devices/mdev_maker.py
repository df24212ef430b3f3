"""Mediated devices, vGPUs among them: made of a parent that has one left, known by the UUID that the coordinator chose.

Source: the kernel's Documentation/driver-api/vfio-mediated-device.rst, "Mediated device management interface".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import structlog

from agent.devices.base import Surroundings
from agent.devices.hostdev import name_mdev
from agent.devices.journal import Entry, Making
from agent.devices.maker import Order, Tools
from agent.devices.source import MdevSource
from agent.devices.vgpu import MDEV_TYPES
from agent.errors import AgentError, DeviceFailed, DeviceInUse, DeviceNotFound, HypervisorTimeout, HypervisorUnavailable
from agent.facts.sysfs import Sysfs

_PARENTS: Final = "class/mdev_bus"
_DEFAULT_MODEL: Final = "vfio-pci"

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class MdevMaker:
    """See Maker."""

    tools: Tools

    def plan(self, order: Order, around: Surroundings) -> Making:
        """See Maker. After a reboot another parent may have room: the guest knows its device by the UUID alone."""
        sysfs, wish = around.sysfs, order.wish
        parents = list(_list_parents(order, around))
        if not parents:
            raise DeviceNotFound(f"{order.device.id} makes no mediated devices now")
        for parent in parents:
            if _find_type(sysfs, parent, wish.uuid):
                if order.former is None:
                    raise DeviceInUse(f"a mediated device {wish.uuid} of {parent} was made by somebody else")
                return Making("mdev", parent=parent)
        for parent in parents:
            if sysfs.read_number(f"{_PARENTS}/{parent}/{MDEV_TYPES}/{wish.vgpu_type_id}/available_instances"):
                return Making("mdev", parent=parent)
        raise DeviceInUse(f"{order.device.id} has no {wish.vgpu_type_id} left: others have them")

    async def make(self, entry: Entry, around: Surroundings) -> MdevSource:
        """See Maker. By libvirt where it can, so that it is there at the next start of the node, too."""
        sysfs, parent, type_id = self.tools.sysfs, entry.making.parent, entry.wish.vgpu_type_id
        if not _find_type(sysfs, parent, entry.uuid):
            try:
                await self.tools.mdevs.ensure(entry.uuid, parent, type_id)
            except AgentError as error:
                log.info("device.mdev_without_libvirt", uuid=entry.uuid, parent=parent, reason=error.message)
        base = f"{_PARENTS}/{parent}/{MDEV_TYPES}/{type_id}"
        if not _find_type(sysfs, parent, entry.uuid):
            await self.tools.writer.ask(f"{base}/create", entry.uuid)
        if _find_type(sysfs, parent, entry.uuid) != type_id:
            raise DeviceFailed(f"{parent}: {type_id} {entry.uuid} was not made")
        return MdevSource(entry.uuid, sysfs.read(f"{base}/device_api") or _DEFAULT_MODEL)

    async def unmake(self, entry: Entry, around: Surroundings) -> None:
        """See Maker."""
        try:
            await self.tools.mdevs.ensure_removed(entry.uuid)
        except (HypervisorUnavailable, HypervisorTimeout):  # it may be defined there, and come back with a reboot
            raise
        except AgentError as error:
            log.info("device.mdev_without_libvirt", uuid=entry.uuid, reason=error.message)
        sysfs, parent = self.tools.sysfs, entry.making.parent
        if _find_type(sysfs, parent, entry.uuid):
            await self.tools.writer.ask(f"{_PARENTS}/{parent}/{entry.uuid}/remove", "1")
        if _find_type(sysfs, parent, entry.uuid):
            raise DeviceFailed(f"{parent}: mediated device {entry.uuid} does not go away")

    def find_domain(self, entry: Entry, around: Surroundings) -> str:
        """See Maker."""
        return (around.guests or {}).get(name_mdev(entry.uuid), "")

    def find_needs(self, entry: Entry, around: Surroundings) -> Iterator[str]:
        """See Maker."""
        return iter(())


def _list_parents(order: Order, around: Surroundings) -> Iterator[str]:
    """The parent of before first; of a GPU all its functions can be one."""
    functions = around.pci.functions
    if order.device.kind == "mdev":
        names = [order.device.id.removeprefix("mdev-")]
    else:
        gpu = functions.get(order.device.id)
        names = [gpu.address, *gpu.virtual_functions] if gpu else []
    names.sort(key=lambda name: order.former is None or name != order.former.parent)
    for name in names:
        if around.sysfs.exists(f"{_PARENTS}/{name}/{MDEV_TYPES}"):
            yield name


def _find_type(sysfs: Sysfs, parent: str, uuid: str) -> str:
    """Of which type the parent has this device; empty: it has none."""
    base = f"{_PARENTS}/{parent}/{MDEV_TYPES}"
    return next((name for name in sysfs.names(base) if sysfs.exists(f"{base}/{name}/devices/{uuid}")), "")
