"""The guest's clock and timers."""

from __future__ import annotations

from dataclasses import dataclass

from agent.domainxml.element import YES_NO, Element, attribute, children


@dataclass(frozen=True)
class Timer(Element, tag="timer"):
    """One timer of the virtual machine."""

    name: str = attribute("name")
    tick_policy: str | None = attribute("tickpolicy", default=None)
    present: bool | None = attribute("present", YES_NO, default=None)


@dataclass(frozen=True)
class Clock(Element, tag="clock"):
    """What the clock is set to at start."""

    offset: str = attribute("offset")
    timers: tuple[Timer, ...] = children(Timer)
