"""What the coordinator says that disks may do at most, by type of volume: kept on disk, and brought to all guests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import structlog

from agent.configure.disk import make_serial
from agent.configure.disk_limit import UNLIMITED, DiskLimit
from agent.durable_file import write_file
from agent.errors import AgentError
from agent.hypervisor.disk_limit import FindLimit
from agent.storage.base import Volume

_RETRY_SECONDS: Final = 30.0

log = structlog.get_logger(__name__)


class DiskLimits:
    """The limits by which this node goes, also while the coordinator is away."""

    def __init__(
        self,
        path: Path,
        *,
        apply: Callable[[FindLimit, str], Awaitable[int]],
        list_volumes: Callable[[], Awaitable[Sequence[Volume]]],
    ) -> None:
        self._path = path
        self._apply = apply
        self._list_volumes = list_volumes
        self._limits = _read(path)
        self._told = asyncio.Event()

    @property
    def limits(self) -> Mapping[str, DiskLimit]:
        """By type of volume. What is not named was never limited: what a person has set for such disks stays."""
        return self._limits

    async def tell(self, limits: Mapping[str, DiskLimit]) -> None:
        """The coordinator has said what counts from now on."""
        wanted = {**dict.fromkeys(self._limits, UNLIMITED), **limits}
        if wanted != self._limits:
            content = {volume_type: limit.to_json() for volume_type, limit in wanted.items()}
            await asyncio.to_thread(write_file, self._path, json.dumps(content).encode())
        self._limits = wanted
        self._told.set()

    async def run(self) -> None:
        """Brings guests what was told, until it is cancelled."""
        while True:
            await self._told.wait()
            self._told.clear()
            try:
                await self.apply()
            except AgentError as error:
                log.warning("disk_limit.not_applied", reason=error.message)
                await asyncio.sleep(_RETRY_SECONDS)
                self._told.set()

    async def apply(self, uuid: str = "") -> None:
        """All guests, or that one, go by the limits; changes nothing where they do. Raises AgentError."""
        if not self._limits:
            return
        limits = {
            make_serial(volume.uuid): self._limits.get(volume.volume_type) for volume in await self._list_volumes()
        }
        changed = await self._apply(limits.get, uuid)
        if changed:
            log.info("disk_limit.applied", disks=changed)


def _read(path: Path) -> dict[str, DiskLimit]:
    try:
        return {str(name): DiskLimit(**limit) for name, limit in json.loads(path.read_bytes()).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        # It is told again with the next registration.
        log.warning("disk_limit.unreadable", path=str(path), reason=str(error))
        return {}
