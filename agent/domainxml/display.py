"""Screen, keyboard and pointer of a guest."""

from __future__ import annotations

from dataclasses import dataclass

from agent.domainxml.element import YES_NO, Element, attribute, child


@dataclass(frozen=True)
class Listen(Element, tag="listen"):
    """Address on which the server of the screen listens."""

    type: str = attribute("type")
    address: str | None = attribute("address", default=None)


@dataclass(frozen=True)
class Graphics(Element, tag="graphics"):
    """A server of the guest's screen."""

    type: str = attribute("type")
    port: int | None = attribute("port", int, default=None)
    auto_port: bool | None = attribute("autoport", YES_NO, default=None)
    password: str | None = attribute("passwd", default=None, secret=True)
    listen: Listen | None = child(Listen, default=None)


@dataclass(frozen=True)
class VideoModel(Element, tag="model"):
    """A graphics card."""

    type: str = attribute("type")


@dataclass(frozen=True)
class Video(Element, tag="video"):
    """A graphics card in the guest."""

    model: VideoModel = child(VideoModel)


@dataclass(frozen=True)
class Input(Element, tag="input"):
    """A keyboard or a pointer."""

    type: str = attribute("type")
    bus: str | None = attribute("bus", default=None)
