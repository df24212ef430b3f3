"""Memory of a domain."""

from __future__ import annotations

from dataclasses import dataclass

from agent.domainxml.element import Element, attribute, child, presence, text, text_child


@dataclass(frozen=True)
class Memory(Element, tag="memory"):
    """Most memory that the guest can have; libvirt answers it in KiB."""

    amount: int = text(int)
    unit: str = attribute("unit", default="KiB")


@dataclass(frozen=True)
class MaxMemory(Element, tag="maxMemory"):
    """Memory that the guest can have once modules were plugged into its slots."""

    amount: int = text(int)
    slots: int = attribute("slots", int)
    unit: str = attribute("unit", default="KiB")


@dataclass(frozen=True)
class ModuleTarget(Element, tag="target"):
    """Size of a memory module in KiB, and the NUMA cell of the guest that it is in."""

    size: int = text_child("size", int)
    node: int | None = text_child("node", int, default=None)


@dataclass(frozen=True)
class MemoryModule(Element, tag="memory"):
    """Memory that is plugged into a guest."""

    model: str = attribute("model")
    target: ModuleTarget = child(ModuleTarget)


@dataclass(frozen=True)
class Page(Element, tag="page"):
    """Size of the pages that back the memory."""

    size: int = attribute("size", int)
    unit: str = attribute("unit", default="KiB")


@dataclass(frozen=True)
class HugePages(Element, tag="hugepages"):
    """The memory is backed by huge pages."""

    page: Page | None = child(Page, default=None)


@dataclass(frozen=True)
class MemoryBacking(Element, tag="memoryBacking"):
    """How the node provides the memory."""

    huge_pages: HugePages | None = child(HugePages, default=None)
    no_share_pages: bool = presence("nosharepages")
    locked: bool = presence("locked")
