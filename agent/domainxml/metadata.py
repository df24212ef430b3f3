"""What Nodewright writes into a domain's metadata; a domain without it is foreign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent.domainxml.element import Element, attribute, child, children, text

NAMESPACE: Final = "https://nodewright.dev/xmlns/domain/1"


@dataclass(frozen=True)
class Label(Element, tag="label", namespace=NAMESPACE):
    """One name and value for people and for recovery."""

    name: str = attribute("name")
    value: str = text()


@dataclass(frozen=True)
class Ownership(Element, tag="domain", namespace=NAMESPACE):
    """The mark of a domain that Nodewright created."""

    generation: int = attribute("generation", int)
    labels: tuple[Label, ...] = children(Label)


@dataclass(frozen=True)
class Metadata(Element, tag="metadata"):
    """Application data in a domain; libvirt keeps it and does not read it."""

    ownership: Ownership | None = child(Ownership, default=None)
