"""What the watchdog has killed, a durable file for each guest, until the coordinator has released it."""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from agent.durable_file import remove_file, write_file

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class FencedGuest:
    """A guest that was killed because the coordinator was not heard of."""

    uuid: str
    # Seconds since 1970.
    fenced_at: float
    # For how long nothing had been heard of the coordinator.
    silent_seconds: float
    tolerance_seconds: int


class FenceRecord:
    """The files of one node."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def add(self, guest: FencedGuest) -> None:
        """Is kept over a power failure. Raises OSError."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_file(self._path(guest.uuid), json.dumps(asdict(guest)).encode())

    def list(self) -> list[FencedGuest]:
        """All that was not removed yet, by UUID."""
        found = []
        for path in sorted(self._directory.glob("*.json")):
            with contextlib.suppress(OSError, ValueError, TypeError):
                found.append(FencedGuest(**json.loads(path.read_bytes())))
        return found

    def has(self, uuid: str) -> bool:
        """Whether the guest was fenced, and nobody has released it since."""
        return self._path(uuid).exists()

    def remove(self, uuid: str) -> None:
        """The guest is released. Absence is success."""
        if self.has(uuid):
            remove_file(self._path(uuid))

    def _path(self, uuid: str) -> Path:
        if not _UUID.fullmatch(uuid):
            raise ValueError(f"{uuid!r} is no UUID")
        return self._directory / f"{uuid}.json"
