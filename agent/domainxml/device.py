"""The devices of a domain: the container, and the small ones without a module of their own."""

from __future__ import annotations

from dataclasses import dataclass

from agent.domainxml.character import Channel, Console, Serial
from agent.domainxml.disk import Disk
from agent.domainxml.display import Graphics, Input, Video
from agent.domainxml.element import ON_OFF, Element, attribute, child, children, text, text_child
from agent.domainxml.hostdev import Hostdev
from agent.domainxml.interface import Interface
from agent.domainxml.processor import Iommu


@dataclass(frozen=True)
class ControllerDriver(Element, tag="driver"):
    """How a controller is emulated."""

    queues: int | None = attribute("queues", int, default=None)


@dataclass(frozen=True)
class Controller(Element, tag="controller"):
    """A bus that other devices are plugged into."""

    type: str = attribute("type")
    index: int | None = attribute("index", int, default=None)
    model: str | None = attribute("model", default=None)
    ports: int | None = attribute("ports", int, default=None)
    driver: ControllerDriver | None = child(ControllerDriver, default=None)


@dataclass(frozen=True)
class TpmBackend(Element, tag="backend"):
    """What a TPM is made of."""

    type: str = attribute("type")
    version: str | None = attribute("version", default=None)


@dataclass(frozen=True)
class Tpm(Element, tag="tpm"):
    """A trusted platform module."""

    model: str = attribute("model")
    backend: TpmBackend = child(TpmBackend)


@dataclass(frozen=True)
class BalloonStats(Element, tag="stats"):
    """How often the guest tells its memory statistics."""

    period: int = attribute("period", int)


@dataclass(frozen=True)
class Balloon(Element, tag="memballoon"):
    """The memory balloon."""

    model: str = attribute("model")
    free_page_reporting: bool | None = attribute("freePageReporting", ON_OFF, default=None)
    stats: BalloonStats | None = child(BalloonStats, default=None)


@dataclass(frozen=True)
class RngBackend(Element, tag="backend"):
    """Where random bytes come from."""

    path: str = text()
    model: str = attribute("model", default="random")


@dataclass(frozen=True)
class Rng(Element, tag="rng"):
    """A source of random bytes for the guest."""

    model: str = attribute("model")
    backend: RngBackend = child(RngBackend)


@dataclass(frozen=True)
class Panic(Element, tag="panic"):
    """A device by which the guest tells that it crashed."""

    model: str = attribute("model")


@dataclass(frozen=True)
class Devices(Element, tag="devices"):
    """All devices of a domain."""

    emulator: str | None = text_child("emulator", default=None)
    disks: tuple[Disk, ...] = children(Disk)
    controllers: tuple[Controller, ...] = children(Controller)
    interfaces: tuple[Interface, ...] = children(Interface)
    hostdevs: tuple[Hostdev, ...] = children(Hostdev)
    serials: tuple[Serial, ...] = children(Serial)
    consoles: tuple[Console, ...] = children(Console)
    channels: tuple[Channel, ...] = children(Channel)
    inputs: tuple[Input, ...] = children(Input)
    tpm: Tpm | None = child(Tpm, default=None)
    graphics: tuple[Graphics, ...] = children(Graphics)
    videos: tuple[Video, ...] = children(Video)
    iommu: Iommu | None = child(Iommu, default=None)
    balloon: Balloon | None = child(Balloon, default=None)
    rngs: tuple[Rng, ...] = children(Rng)
    panic: Panic | None = child(Panic, default=None)
