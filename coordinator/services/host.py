"""Hosts as callers name them, and what keeps a host where it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlmodel import Session

from coordinator.config import Settings
from coordinator.errors import ResourceAmbiguous, ResourceInUse, ResourceNotFound
from coordinator.store.queries.node import find_nodes_by_name
from coordinator.store.tables import Node

# A list of everything on a full host would be no message.
_LISTED_MAXIMUM: Final = 100


@dataclass(frozen=True, slots=True)
class HostReference:
    """A host by its name; the address tells namesakes apart, and is not compared when it is empty."""

    cell: str
    name: str
    inner_ip: str = ""


def find_hosts(session: Session, settings: Settings, references: Sequence[HostReference]) -> list[Node]:
    """The nodes that are meant, each once; ResourceNotFound for the first that there is none of."""
    by_name: dict[str, list[Node]] = {}
    for node in find_nodes_by_name(session, {reference.name for reference in references}):
        by_name.setdefault(node.name, []).append(node)
    found = [_choose(settings, reference, by_name.get(reference.name, [])) for reference in references]
    return list({node.id: node for node in found}.values())


def _choose(settings: Settings, reference: HostReference, namesakes: list[Node]) -> Node:
    if reference.cell not in ("", settings.cell):
        raise ResourceNotFound("cell", reference.cell)
    matching = [node for node in namesakes if reference.inner_ip in ("", node.host_ip)]
    if not matching:
        at = f" ({reference.inner_ip})" if reference.inner_ip else ""
        raise ResourceNotFound("host", f"{reference.name}{at}")
    if len(matching) > 1:
        raise ResourceAmbiguous("host", reference.name, [node.id for node in matching])
    return matching[0]


def require_none(what: str, what_zh: str, ecs_ids: Sequence[str]) -> None:
    """ResourceInUse with their list while there are instances; `what` still has them."""
    if not ecs_ids:
        return
    names = ", ".join(ecs_ids[:_LISTED_MAXIMUM])
    more = len(ecs_ids) - _LISTED_MAXIMUM
    en, zh = (f", and {more} more", f"等{len(ecs_ids)}台") if more > 0 else ("", "")
    raise ResourceInUse(
        f"{what} still has {len(ecs_ids)} instances: {names}{en}",
        f"{what_zh}上仍有{len(ecs_ids)}台实例：{names}{zh}",
    )
