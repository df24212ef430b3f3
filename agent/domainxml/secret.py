"""A secret of libvirt, without what is secret about it."""

from __future__ import annotations

from dataclasses import dataclass

from agent.domainxml.element import YES_NO, Element, attribute, child, text_child


@dataclass(frozen=True)
class SecretUsage(Element, tag="usage"):
    """What it is for."""

    type: str = attribute("type")
    name: str = text_child("name")


@dataclass(frozen=True)
class Secret(Element, tag="secret"):
    """Kept when libvirt is restarted unless it is ephemeral, and told to nobody but QEMU."""

    uuid: str = text_child("uuid")
    usage: SecretUsage | None = child(SecretUsage, default=None)
    ephemeral: bool = attribute("ephemeral", YES_NO, default=False)
    private: bool = attribute("private", YES_NO, default=True)
