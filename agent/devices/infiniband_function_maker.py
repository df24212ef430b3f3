"""Virtual functions of InfiniBand adapters: without a GUID of their own their ports never get a link.

Source: ip-link(8), "vf NUM", "node_guid", "port_guid", "state"; the kernel's drivers/infiniband/hw/mlx5/ib_virt.c.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

import structlog

from agent.devices.base import Surroundings
from agent.devices.journal import Entry, Making
from agent.devices.maker import Order
from agent.devices.network_function_maker import find_card
from agent.devices.pci_maker import PciMaker
from agent.devices.source import PciSource
from agent.errors import DeviceFailed, DeviceNotFound

_NO_GUID: Final = ":".join(["00"] * 8)

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
        await self._set_guid(entry, around, build_guid(entry.uuid))
        return source

    async def unmake(self, entry: Entry, around: Surroundings) -> None:
        """See Maker. Who gets it next must not be taken for this guest by the network."""
        await super().unmake(entry, around)
        await self._set_guid(entry, around, _NO_GUID)

    async def _set_guid(self, entry: Entry, around: Surroundings, guid: str) -> None:
        """Of a function that had none when it was given: else somebody has chosen it."""
        if set(entry.device.details.get("node_guid", "0")) - set("0:"):
            return
        try:
            interface, number = find_card(around.pci.functions[entry.making.addresses[0]], around)
            for words in (("node_guid", guid), ("port_guid", guid), ("state", "auto")):
                await self.tools.run_ip(["link", "set", "dev", interface, "vf", str(number), *words])
        except (DeviceFailed, DeviceNotFound, KeyError) as error:  # of drivers that do it in their own way, or pulled
            log.warning("device.guid_not_set", device=entry.device.id, reason=str(error))


def build_guid(uuid: str) -> str:
    """The same for the device's whole time with its guest; locally administered, as EUI-64 says it."""
    octets = bytearray(UUID(uuid).bytes[:8])
    octets[0] = octets[0] & 0xFC | 0x02
    return octets.hex(":")
