"""Devices of the node that a domain has for itself (https://libvirt.org/formatdomain.html, "Host devices")."""

from __future__ import annotations

from dataclasses import dataclass

from agent.domainxml.address import Alias, BootOrder, NodeAddress
from agent.domainxml.element import ON_OFF, YES_NO, Element, attribute, child


@dataclass(frozen=True)
class HostdevSource(Element, tag="source"):
    """The device of the node."""

    address: NodeAddress = child(NodeAddress)


@dataclass(frozen=True)
class Rom(Element, tag="rom"):
    """Whether the guest's firmware sees the code that a card carries for it."""

    bar: bool = attribute("bar", ON_OFF)


@dataclass(frozen=True)
class GuestPciAddress(Element, tag="address"):
    """Where the guest finds a function: on the bus behind the root port of this index."""

    bus: str = attribute("bus")
    function: str = attribute("function")
    multifunction: bool | None = attribute("multifunction", ON_OFF, default=None)
    type: str = attribute("type", default="pci")
    domain: str = attribute("domain", default="0x0000")
    slot: str = attribute("slot", default="0x00")


@dataclass(frozen=True)
class Hostdev(Element, tag="hostdev"):
    """A PCI function, a mediated device or a USB device of the node."""

    type: str = attribute("type")
    source: HostdevSource = child(HostdevSource)
    mode: str = attribute("mode", default="subsystem")
    managed: bool | None = attribute("managed", YES_NO, default=None)
    # Of mediated devices.
    model: str | None = attribute("model", default=None)
    boot: BootOrder | None = child(BootOrder, default=None)
    rom: Rom | None = child(Rom, default=None)
    alias: Alias | None = child(Alias, default=None)
    # Of the functions of one card; others are put where there is room.
    address: GuestPciAddress | None = child(GuestPciAddress, default=None)
