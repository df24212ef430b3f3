"""Space of the places where volumes are, measured in the background: a share that is silent holds nobody up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

import structlog

from agent.errors import AgentError
from agent.storage.base import StorageSpace

# Nobody is told of the node while a place is asked for its space: so long, and so long while it has been silent before.
_PATIENCE_SECONDS: Final = 5.0
_SHORT_PATIENCE_SECONDS: Final = 0.5
# One report asks several times.
_FRESH_SECONDS: Final = 1.0

log = structlog.get_logger(__name__)


class Measurable(Protocol):
    """What has space."""

    async def measure(self) -> StorageSpace:
        """The space and what is taken of it. Raises AgentError while that cannot be told."""
        ...


@dataclass(frozen=True)
class Place:
    """A place as it is told of."""

    # Types of volumes that are made there.
    volume_types: tuple[str, ...]
    # As it was last; None: it has never answered.
    space: StorageSpace | None
    # None: it answers, and this is how it is now.
    silent_since: datetime | None


class SpaceMeter:
    """Knows the space of one place, as it is or, while that is silent, as it was."""

    def __init__(
        self,
        place: Measurable,
        volume_types: Sequence[str],
        *,
        patience_seconds: float = _PATIENCE_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._place = place
        self._volume_types = tuple(volume_types)
        self._patience_seconds = patience_seconds
        self._monotonic = monotonic
        self._space: StorageSpace | None = None
        self._measured_at = 0.0
        self._silent_since: datetime | None = None
        self._running: asyncio.Task[StorageSpace] | None = None
        self._asked_at = 0.0

    async def read(self) -> Place:
        """The place now. Returns within seconds, whatever it does; a measurement that takes longer goes on."""
        if self._space is None or self._silent_since or self._monotonic() - self._measured_at > _FRESH_SECONDS:
            await self._update()
        return Place(self._volume_types, self._space, self._silent_since)

    async def _update(self) -> None:
        if self._running is None:
            self._running = asyncio.create_task(self._place.measure())
            self._asked_at = self._monotonic()
        running = self._running
        patience = _SHORT_PATIENCE_SECONDS if self._silent_since else self._patience_seconds
        # Who comes later waits no longer than who came first.
        await asyncio.wait([running], timeout=max(0.0, self._asked_at + patience - self._monotonic()))
        if not running.done():
            self._note_silence("no answer in time")
        elif running is self._running:
            self._running = None
            self._take(running)

    def _take(self, ended: asyncio.Task[StorageSpace]) -> None:
        try:
            self._space = ended.result()
        except AgentError as error:
            self._note_silence(error.message)
        else:
            self._measured_at, self._silent_since = self._monotonic(), None

    def _note_silence(self, reason: str) -> None:
        if self._silent_since is None:
            log.warning("volumes.away", reason=reason)
            self._silent_since = datetime.now(UTC).replace(microsecond=0)
