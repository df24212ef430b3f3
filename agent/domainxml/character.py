"""Character devices: serial port, console, and the channel of the guest agent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent.domainxml.element import ON_OFF, Element, attribute, child

# The name by which libvirt and the guest agent both know their channel.
GUEST_AGENT_CHANNEL: Final = "org.qemu.guest_agent.0"


@dataclass(frozen=True)
class Log(Element, tag="log"):
    """A file that gets everything that the guest writes."""

    file: str = attribute("file")
    append: bool | None = attribute("append", ON_OFF, default=None)


@dataclass(frozen=True)
class SerialTarget(Element, tag="target"):
    """Number of the serial port."""

    type: str | None = attribute("type", default=None)
    port: int | None = attribute("port", int, default=None)


@dataclass(frozen=True)
class Serial(Element, tag="serial"):
    """A serial port."""

    type: str = attribute("type")
    log: Log | None = child(Log, default=None)
    target: SerialTarget | None = child(SerialTarget, default=None)


@dataclass(frozen=True)
class ConsoleTarget(Element, tag="target"):
    """What the console is made of."""

    type: str | None = attribute("type", default=None)
    port: int | None = attribute("port", int, default=None)


@dataclass(frozen=True)
class Console(Element, tag="console"):
    """The port that `virsh console` opens."""

    type: str = attribute("type")
    target: ConsoleTarget | None = child(ConsoleTarget, default=None)


@dataclass(frozen=True)
class ChannelTarget(Element, tag="target"):
    """Name of the channel in the guest; libvirt adds whether somebody opened it there."""

    type: str = attribute("type")
    name: str | None = attribute("name", default=None)
    state: str | None = attribute("state", default=None)


@dataclass(frozen=True)
class Channel(Element, tag="channel"):
    """A way between node and guest."""

    type: str = attribute("type")
    target: ChannelTarget = child(ChannelTarget)
