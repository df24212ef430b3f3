"""What devices of several kinds have: a name of ours, a place in the boot order, an address on the node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from agent.domainxml.element import Element, attribute


@dataclass(frozen=True)
class Alias(Element, tag="alias"):
    """A name of our own for a device; libvirt wants it to begin with "ua-"."""

    name: str = attribute("name")


@dataclass(frozen=True)
class BootOrder(Element, tag="boot"):
    """Place in the boot order; 1 is first."""

    order: int = attribute("order", int)


@dataclass(frozen=True)
class NodeAddress(Element, tag="address"):
    """Which device of the node; each kind has some of these, spelled as libvirt takes them."""

    type: str | None = attribute("type", default=None)
    domain: str | None = attribute("domain", default=None)
    bus: str | None = attribute("bus", default=None)
    slot: str | None = attribute("slot", default=None)
    function: str | None = attribute("function", default=None)
    device: str | None = attribute("device", default=None)
    uuid: str | None = attribute("uuid", default=None)

    @classmethod
    def pci(cls, address: str, *, kind: str | None = None) -> Self:
        """Of a function, "0000:3b:00.0"; interfaces name the type, other devices have it elsewhere."""
        domain, bus, place = address.split(":")
        slot, function = place.split(".")
        return cls(kind, f"0x{domain}", f"0x{bus}", f"0x{slot}", f"0x{function}")

    @classmethod
    def usb(cls, bus: int, device: int) -> Self:
        """Of a USB device where it is plugged now."""
        return cls(bus=str(bus), device=str(device))

    @classmethod
    def mdev(cls, uuid: str) -> Self:
        """Of a mediated device."""
        return cls(uuid=uuid)
