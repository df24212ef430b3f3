"""Virtual functions of network cards: libvirt sets address and VLAN when the guest starts; the rest is done here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from agent.devices.base import Surroundings
from agent.devices.journal import Entry, Making
from agent.devices.maker import Order, Tools
from agent.devices.pci import PciFunction
from agent.devices.pci_maker import find_function_domain, find_function_needs
from agent.devices.source import NetworkFunctionSource
from agent.errors import DeviceFailed, DeviceNotFound

_TIMEOUT_SECONDS: Final = 10.0
# Source: include/uapi/linux/if.h.
_IFF_UP: Final = 0x1


@dataclass(frozen=True)
class NetworkFunctionMaker:
    """See Maker."""

    tools: Tools

    def plan(self, order: Order, around: Surroundings) -> Making:
        """See Maker. The driver is that of the first time: a later one is VFIO's."""
        function = _find_function(order.device.id, around)
        return order.former or Making("function", (function.address,), {function.address: function.driver})

    async def make(self, entry: Entry, around: Surroundings) -> NetworkFunctionSource:
        """See Maker. The card is up, for without it nothing of a virtual function goes over the wire."""
        function = _find_function(entry.making.addresses[0], around)
        interface, number = find_card(function, around)
        await self._raise_link(interface)
        if entry.wish.trusted:
            await self._set_trust(interface, number, "on")
        wish = entry.wish
        return NetworkFunctionSource(function.address, wish.mac_address, wish.vlan_id, wish.trusted)

    async def unmake(self, entry: Entry, around: Surroundings) -> None:
        """See Maker. libvirt has put the address and the VLAN back when the guest ended; the card stays up."""
        (address,) = entry.making.addresses
        function = around.pci.functions.get(address)
        if function is None:
            return
        await self.tools.bindings.give_back(address, entry.making.drivers.get(address, ""))
        if entry.wish.trusted:
            await self._set_trust(*find_card(function, around), "off")

    def find_domain(self, entry: Entry, around: Surroundings) -> str:
        """See Maker."""
        return find_function_domain(entry, around)

    def find_needs(self, entry: Entry, around: Surroundings) -> Iterator[str]:
        """See Maker."""
        return find_function_needs(entry, around)

    async def _raise_link(self, interface: str) -> None:
        path = f"class/net/{interface}/flags"
        flags = int(self.tools.sysfs.read(path) or "0", 16)
        if not flags & _IFF_UP:
            await self.tools.writer.ask(path, hex(flags | _IFF_UP))

    async def _set_trust(self, interface: str, number: int, state: str) -> None:
        await self.tools.run_ip(["link", "set", "dev", interface, "vf", str(number), "trust", state])


async def run_ip(arguments: Sequence[str]) -> None:
    """Runs `ip`, for what only netlink tells the kernel. Raises DeviceFailed with its words."""
    try:
        process = await asyncio.create_subprocess_exec(
            "ip", *arguments, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
    except OSError as error:
        raise DeviceFailed(f"ip could not be run: {error}") from error
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            _, words = await process.communicate()
    except TimeoutError:
        process.kill()
        raise DeviceFailed(f"ip {' '.join(arguments)} did not end within {_TIMEOUT_SECONDS:g} s") from None
    if process.returncode:
        raise DeviceFailed(f"ip {' '.join(arguments)}: {words.decode(errors='replace').strip()}")


def _find_function(address: str, around: Surroundings) -> PciFunction:
    if address not in around.pci.functions:
        raise DeviceNotFound(f"virtual function {address} is not on the node")
    return around.pci.functions[address]


def find_card(function: PciFunction, around: Surroundings) -> tuple[str, int]:
    """The interface of the card, and the function's number there. Raises DeviceNotFound."""
    card = around.pci.functions.get(function.physical_function)
    interfaces = around.sysfs.names(f"{card.path}/net") if card else []
    if card is None or not interfaces:
        raise DeviceNotFound(f"the network card of virtual function {function.address} has no interface now")
    return interfaces[0], card.virtual_functions.index(function.address)
