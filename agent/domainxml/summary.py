"""What the agent reads of a domain, foreign ones included: little, and all of it may be absent."""

from __future__ import annotations

from dataclasses import dataclass

from agent.domainxml.boot import OsType
from agent.domainxml.character import Channel
from agent.domainxml.display import Graphics
from agent.domainxml.element import Element, child, children
from agent.domainxml.memory import MaxMemory, Memory, MemoryModule
from agent.domainxml.metadata import Metadata
from agent.domainxml.processor import Vcpu


@dataclass(frozen=True)
class DeviceSummary(Element, tag="devices"):
    """The devices that the agent looks at from outside of a guest."""

    channels: tuple[Channel, ...] = children(Channel)
    graphics: tuple[Graphics, ...] = children(Graphics)
    memory_modules: tuple[MemoryModule, ...] = children(MemoryModule)


@dataclass(frozen=True)
class OsSummary(Element, tag="os"):
    """The machine of a domain."""

    type: OsType | None = child(OsType, default=None)


@dataclass(frozen=True)
class DomainSummary(Element, tag="domain"):
    """A domain as far as the agent reports it."""

    metadata: Metadata = child(Metadata, default=Metadata())
    max_memory: MaxMemory | None = child(MaxMemory, default=None)
    memory: Memory | None = child(Memory, default=None)
    vcpu: Vcpu | None = child(Vcpu, default=None)
    os: OsSummary = child(OsSummary, default=OsSummary())
    devices: DeviceSummary = child(DeviceSummary, default=DeviceSummary())
