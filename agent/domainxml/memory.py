"""Memory of a domain."""

from __future__ import annotations

from dataclasses import dataclass

from agent.domainxml.element import Element, attribute, child, presence, text


@dataclass(frozen=True)
class Memory(Element, tag="memory"):
    """Most memory that the guest can have; libvirt answers it in KiB."""

    amount: int = text(int)
    unit: str = attribute("unit", default="KiB")


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
