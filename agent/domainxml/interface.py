"""Network interfaces."""

from __future__ import annotations

from dataclasses import dataclass

from agent.domainxml.address import Alias, BootOrder, NodeAddress
from agent.domainxml.element import YES_NO, Element, attribute, child, children


@dataclass(frozen=True)
class MacAddress(Element, tag="mac"):
    """Hardware address."""

    address: str = attribute("address")


@dataclass(frozen=True)
class InterfaceSource(Element, tag="source"):
    """The network that the interface is plugged into, or the function of a card that it is."""

    network: str | None = attribute("network", default=None)
    address: NodeAddress | None = child(NodeAddress, default=None)


@dataclass(frozen=True)
class InterfaceModel(Element, tag="model"):
    """What card the guest sees."""

    type: str = attribute("type")


@dataclass(frozen=True)
class InterfaceDriver(Element, tag="driver"):
    """How the card is emulated."""

    queues: int | None = attribute("queues", int, default=None)


@dataclass(frozen=True)
class VlanTag(Element, tag="tag"):
    """One VLAN."""

    id: int = attribute("id", int)


@dataclass(frozen=True)
class Vlan(Element, tag="vlan"):
    """The VLANs that the card is in."""

    tags: tuple[VlanTag, ...] = children(VlanTag)


@dataclass(frozen=True)
class Interface(Element, tag="interface"):
    """A network card."""

    type: str = attribute("type")
    # Of a card of the node: libvirt binds it to vfio-pci and back.
    managed: bool | None = attribute("managed", YES_NO, default=None)
    mac: MacAddress | None = child(MacAddress, default=None)
    source: InterfaceSource | None = child(InterfaceSource, default=None)
    vlan: Vlan | None = child(Vlan, default=None)
    boot: BootOrder | None = child(BootOrder, default=None)
    model: InterfaceModel | None = child(InterfaceModel, default=None)
    driver: InterfaceDriver | None = child(InterfaceDriver, default=None)
    alias: Alias | None = child(Alias, default=None)
