"""Virtual functions of InfiniBand adapters: without a GUID of their own their ports never get a link.

Source: ip-link(8), "vf NUM", "node_guid", "port_guid", "state"; the kernel's drivers/infiniband/hw/mlx5/ib_virt.c.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from uuid import UUID

import structlog

from agent.devices.base import Surroundings
from agent.devices.journal import Entry, Making
from agent.devices.maker import Order
from agent.devices.network_function_maker import find_card
from agent.devices.pci_maker import PciMaker
from agent.devices.source import PciSource
from agent.errors import DeviceFailed, DeviceNotFound

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class InfinibandFunctionMaker(PciMaker):
    """See Maker."""

    def plan(self, order: Order, around: Surroundings) -> Making:
        """See Maker."""
        return replace(super().plan(order, around), way="infiniband-function")

    async def make(self, entry: Entry, around: Surroundings) -> PciSource:
        """See Maker. A function that has a GUID keeps it: somebody has chosen it."""
        source = await super().make(entry, around)
        if not set(entry.device.details.get("node_guid", "0")) - set("0:"):
            try:
                await self._set_guid(entry, around)
            except (DeviceFailed, DeviceNotFound) as error:  # of drivers that do it in their own way
                log.warning("device.guid_not_set", device=entry.device.id, reason=error.message)
        return source

    async def _set_guid(self, entry: Entry, around: Surroundings) -> None:
        interface, number = find_card(around.pci.functions[entry.making.addresses[0]], around)
        guid = build_guid(entry.uuid)
        for words in (("node_guid", guid), ("port_guid", guid), ("state", "auto")):
            await self.tools.run_ip(["link", "set", "dev", interface, "vf", str(number), *words])


def build_guid(uuid: str) -> str:
    """The same for the device's whole time with its guest; locally administered, as EUI-64 says it."""
    octets = bytearray(UUID(uuid).bytes[:8])
    octets[0] = octets[0] & 0xFC | 0x02
    return octets.hex(":")
