"""What was read of hardware and is true until something happens to it, so that one event costs no look at all of it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final, TypeVar

# Places that are none of one device: all of the node, and what interfaces of networks are to each other.
EVERYWHERE: Final = ""
NETWORKS: Final = "networks"

T = TypeVar("T")


class Memory:
    """For one reader at a time. An empty one, made for one look, has everything read anew."""

    def __init__(self) -> None:
        # By place, as the kernel calls it in the paths of its events: a PCI address, "sda", "1-4.2".
        self._known: dict[str, dict[str, Any]] = {}

    def recall(self, place: str, what: str, read: Callable[[], T]) -> T:
        """What was read there, else what is read now. Nobody may change it."""
        known = self._known.setdefault(place, {})
        if what not in known:
            known[what] = read()
        found: T = known[what]
        return found

    def forget(self, places: Collection[str]) -> None:
        """Something has happened at these places."""
        if EVERYWHERE in places:
            self._known.clear()
        for place in places:
            self._known.pop(place, None)
