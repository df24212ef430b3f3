"""What is kept of migrations on disk: that one has begun, that it shall be given up, and how it ended."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

from agent.durable_file import write_file
from agent.errors import RequestInvalid

_MIGRATION_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
# Longer than any coordinator repeats a call.
_KEPT_SECONDS: Final = 7 * 24 * 3600.0

MigrationState = Literal["running", "completed", "failed", "canceled", "undecided"]


@dataclass(frozen=True)
class MigrationEntry:
    """One migration."""

    migration_id: str
    uuid: str
    state: MigrationState
    reason: str = ""
    # Seconds since 1970.
    started_at: float = 0.0
    ended_at: float = 0.0
    # Somebody wants it given up.
    is_cancelled: bool = False
    # The firmware's variables here, which libvirt leaves behind when the guest has gone.
    nvram: str = ""
    # For whoever watches on after a restart.
    data_address: str = ""
    allow_post_copy: bool = False
    stalled_iterations: int = 5
    most_iterations: int = 50


class MigrationJournal:
    """A file for each migration."""

    def __init__(self, directory: Path, *, now: Callable[[], float] = time.time) -> None:
        self._directory = directory
        self.now = now

    def read(self, migration_id: str) -> MigrationEntry | None:
        """None when the id is not known. Raises RequestInvalid for what is no id."""
        try:
            return MigrationEntry(**json.loads(self._path(migration_id).read_bytes()))
        except FileNotFoundError:
            return None

    def read_running(self) -> list[MigrationEntry]:
        """Those that nobody has seen end."""
        entries = (self.read(path.stem.removeprefix("migration-")) for path in self._directory.glob("migration-*.json"))
        return [entry for entry in entries if entry is not None and entry.state == "running"]

    def write(self, entry: MigrationEntry) -> MigrationEntry:
        """The entry is on disk."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_file(self._path(entry.migration_id), json.dumps(asdict(entry)).encode())
        return entry

    def prune(self) -> None:
        """What is over for long is forgotten."""
        for path in self._directory.glob("migration-*.json"):
            if path.stat().st_mtime < self.now() - _KEPT_SECONDS:
                path.unlink(missing_ok=True)

    def _path(self, migration_id: str) -> Path:
        if not _MIGRATION_ID.fullmatch(migration_id):
            raise RequestInvalid("migration_id: letters, digits, '_' and '-', at most 64")
        return self._directory / f"migration-{migration_id}.json"
