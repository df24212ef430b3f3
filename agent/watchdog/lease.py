"""What the agent and its watchdog tell each other: two small files on a tmpfs, replaced as a whole.

How long a node may go on without the coordinator. All moments of the node are on its CLOCK_BOOTTIME, which nobody turns
and which counts suspended time; `sent` is when the node sent a heartbeat that the coordinator has stored, `heard` when
the coordinator received it, on the coordinator's clock:

    deadline = sent + tolerance - margin                       the watchdog's: from then on it kills
    gone    <= deadline + reaction                             no such guest runs here any more
    fenced   = heard + tolerance                               the coordinator's: from then on they may run elsewhere

Sent is never after heard, for an answer proves that the request came first. So gone <= sent + tolerance - margin +
reaction <= heard + tolerance = fenced, as long as margin >= reaction + drift: what it takes the watchdog to look and to
kill (two looks and a second), and what the two clocks may differ over one tolerance (2 x 500 ppm of 600 s are 0.6 s).
A heartbeat whose answer was lost makes heard later, never earlier; one that the coordinator received but lost before it
was stored does not count here either, because only stored ones are acknowledged.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

LOOK_SECONDS: Final = 0.5
# After six looks that were missed it counts as dead.
_SILENT_SECONDS: Final = 6 * LOOK_SECONDS
_KILL_SECONDS: Final = 2.0
_LARGEST_DRIFT: Final = 0.001
_LEASE_NAME: Final = "lease"
_HEALTH_NAME: Final = "watchdog"
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Lease:
    """How long this node may run its highly available guests without hearing of the coordinator."""

    boot_id: str
    # When the last heartbeat was sent that the coordinator has stored; CLOCK_BOOTTIME, seconds.
    renewed_at: float
    # What the coordinator waits for; 0: nobody starts guests elsewhere, so none is killed here.
    tolerance_seconds: int
    # UUIDs of the highly available guests, whether they run or not.
    guests: tuple[str, ...]

    @property
    def deadline(self) -> float:
        """CLOCK_BOOTTIME from which on these guests must not run."""
        return self.renewed_at + self.tolerance_seconds - margin_seconds(self.tolerance_seconds)

    def is_over(self, now: float) -> bool:
        """Whether the guests must not run now."""
        return self.tolerance_seconds > 0 and now >= self.deadline


@dataclass(frozen=True)
class Health:
    """What the watchdog last did."""

    boot_id: str
    pid: int
    # When it last looked at the lease; CLOCK_BOOTTIME, seconds.
    looked_at: float
    # The tolerance that it enforces; 0: none.
    tolerance_seconds: int

    def is_alive(self, boot_id: str, now: float) -> bool:
        """Whether it has looked just now, and not before the machine was started anew."""
        return self.boot_id == boot_id and now - self.looked_at < _SILENT_SECONDS


def margin_seconds(tolerance_seconds: int) -> float:
    """By how much the watchdog is ahead of the coordinator: its reaction, and what two clocks differ."""
    return 2 * LOOK_SECONDS + _KILL_SECONDS + 2.0 + tolerance_seconds * _LARGEST_DRIFT


def read_clock() -> float:
    """Seconds since the start of the machine, suspended time included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def read_boot_id() -> str:
    """Another one after each start of the machine."""
    return _BOOT_ID.read_text().strip()


def read_lease(directory: Path) -> Lease | None:
    """The present lease; None without a readable one."""
    try:
        text = (directory / _LEASE_NAME).read_text()
        values = json.loads(text)
        return Lease(**{**values, "guests": tuple(values["guests"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write_lease(directory: Path, lease: Lease) -> None:
    """The watchdog goes by this lease within half a second. Raises OSError."""
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    _replace(directory / _LEASE_NAME, json.dumps(asdict(lease)))


def read_health(directory: Path) -> Health | None:
    """What the watchdog told last; None when it has told nothing."""
    try:
        return Health(**json.loads((directory / _HEALTH_NAME).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def write_health(directory: Path, health: Health) -> None:
    """Tells the agent that the watchdog looks."""
    _replace(directory / _HEALTH_NAME, json.dumps(asdict(health)))


def _replace(path: Path, text: str) -> None:
    """Nobody reads half of it. Not synced: neither file means anything after the machine has gone down."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)
