"""What is kept of migrations on disk: that one has begun, that it shall be given up, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agent.outcome import OutcomeJournal

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
    # 0: as QEMU has it; what it may grow to, 0: it stays.
    max_downtime_ms: int = 0
    most_downtime_ms: int = 0


class MigrationJournal(OutcomeJournal[MigrationEntry]):
    """A file for each migration."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "migration", MigrationEntry)

    def read_running(self) -> list[MigrationEntry]:
        """Those that nobody has seen end."""
        return [entry for entry in self.read_all() if entry.state == "running"]

    def write(self, entry: MigrationEntry) -> MigrationEntry:
        """The entry is on disk."""
        return self.keep(entry.migration_id, entry)
