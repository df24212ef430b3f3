"""Network interfaces."""

from __future__ import annotations

from dataclasses import dataclass

from agent.domainxml.element import Element, attribute, child


@dataclass(frozen=True)
class MacAddress(Element, tag="mac"):
    """Hardware address."""

    address: str = attribute("address")


@dataclass(frozen=True)
class InterfaceSource(Element, tag="source"):
    """The network that the interface is plugged into."""

    network: str | None = attribute("network", default=None)


@dataclass(frozen=True)
class InterfaceModel(Element, tag="model"):
    """What card the guest sees."""

    type: str = attribute("type")


@dataclass(frozen=True)
class InterfaceDriver(Element, tag="driver"):
    """How the card is emulated."""

    queues: int | None = attribute("queues", int, default=None)


@dataclass(frozen=True)
class Alias(Element, tag="alias"):
    """A name of our own for a device; libvirt wants it to begin with "ua-"."""

    name: str = attribute("name")


@dataclass(frozen=True)
class Interface(Element, tag="interface"):
    """A network card."""

    type: str = attribute("type")
    mac: MacAddress | None = child(MacAddress, default=None)
    source: InterfaceSource | None = child(InterfaceSource, default=None)
    model: InterfaceModel | None = child(InterfaceModel, default=None)
    driver: InterfaceDriver | None = child(InterfaceDriver, default=None)
    alias: Alias | None = child(Alias, default=None)
