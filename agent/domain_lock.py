"""One lock a domain: every change of one waits for the one before, whichever service makes it."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

from agent.configure.check import check_uuid


class DomainLocks:
    """Locks by the UUID of a domain; one that nobody holds or waits for is forgotten."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, uuid: str, field: str = "uuid") -> asyncio.Lock:
        """The lock of this domain. Raises RequestInvalid, naming the field, for what is no UUID."""
        check_uuid(uuid, field)
        return self._locks.setdefault(uuid, asyncio.Lock())
