"""`nodewright-watchdog [CONFIG]`: kills this node's highly available guests when its lease is over.

A process of its own that needs neither the agent, which may be stopped or gone, nor libvirt, which may hang. It reads
the lease twice a second and says that it did; after a crash it goes on with the file that is there. A lease of an
earlier start of the machine means nothing, for no guest has survived that.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from agent.config import ConfigInvalid, load_config
from agent.notification import notify_systemd
from agent.watchdog.guest_process import GuestProcess, GuestProcesses
from agent.watchdog.lease import LOOK_SECONDS, Health, Lease, read_boot_id, read_clock, read_lease, write_health
from agent.watchdog.record import FencedGuest, FenceRecord

# Source: mlockall(2).
_MCL_CURRENT, _MCL_FUTURE = 1, 2
_STUBBORN_SECONDS: Final = 5.0
_PREPARE_SECONDS: Final = 5.0


class Watchdog:
    """Looks at the lease again and again. The clock is the lease's."""

    def __init__(
        self,
        run_dir: Path,
        record: FenceRecord,
        *,
        pid: int,
        boot_id: str,
        clock: Callable[[], float] = read_clock,
        say: Callable[[str], None] = lambda _: None,
        processes: GuestProcesses | None = None,
    ) -> None:
        self._run_dir = run_dir
        self._record = record
        self._pid = pid
        self._boot_id = boot_id
        self._clock = clock
        self._say = say
        self._lease: Lease | None = None
        # When each of these was killed, or last complained about.
        self._killed: dict[GuestProcess, float] = {}
        self._is_over = False
        self._processes = processes or GuestProcesses()
        self._prepared_at = -_PREPARE_SECONDS

    def look(self) -> None:
        """Reads the lease and acts on it; a lease that cannot be read leaves the last one in force."""
        lease = read_lease(self._run_dir) or self._lease
        if lease is not None and lease.boot_id == self._boot_id:
            self._lease = lease
        self._enforce(self._lease)
        write_health(self._run_dir, Health(self._boot_id, self._pid, self._clock(), self._tolerance_seconds))

    @property
    def _tolerance_seconds(self) -> int:
        return self._lease.tolerance_seconds if self._lease else 0

    def _enforce(self, lease: Lease | None) -> None:
        is_over = lease is not None and lease.is_over(self._clock())
        if is_over is not self._is_over:
            self._say(f"the lease is {'over: no highly available guest may run' if is_over else 'renewed'}")
            self._is_over = is_over
        if lease is None:
            return
        if is_over:
            for process in self._processes.kill(frozenset(lease.guests)):
                self._tell(process, lease)
        else:
            self._killed.clear()
            self._prepare(lease)

    def _prepare(self, lease: Lease) -> None:
        """Finds the guests now and then. Where that hangs nothing is told any more, and nobody relies on this node."""
        if self._clock() - self._prepared_at >= _PREPARE_SECONDS:
            self._processes.find(frozenset(lease.guests))
            self._prepared_at = self._clock()

    def _tell(self, process: GuestProcess, lease: Lease) -> None:
        now = self._clock()
        first = self._killed.setdefault(process, now)
        if first == now:
            self._say(f"killed process {process.pid} of guest {process.uuid}")
            self._note(FencedGuest(process.uuid, time.time(), now - lease.renewed_at, lease.tolerance_seconds))
        elif now - first > _STUBBORN_SECONDS:
            self._killed[process] = now
            # In the kernel, waiting for a disk: the guest does not run on, but what it has sent may still be written.
            self._say(f"process {process.pid} of guest {process.uuid} was killed and does not end")

    def _note(self, guest: FencedGuest) -> None:
        """A full disk must not keep the other guests alive."""
        try:
            self._record.add(guest)
        except OSError as error:
            self._say(f"guest {guest.uuid} was killed, which could not be recorded: {error}")


def main() -> int:
    """Watches until SIGTERM; answers the exit status."""
    try:
        config = load_config(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    except ConfigInvalid as error:
        _say(str(error))
        return 1
    config.run_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
    _lock_memory()
    record = FenceRecord(config.fence_dir)
    watchdog = Watchdog(config.run_dir, record, pid=os.getpid(), boot_id=read_boot_id(), say=_say)
    watchdog.look()
    notify_systemd("READY=1")
    while True:
        time.sleep(LOOK_SECONDS)
        watchdog.look()
        notify_systemd("WATCHDOG=1")


def _lock_memory() -> None:
    """Its pages need no disk, which may be what hangs. Without the right to it the watchdog runs all the same."""
    if ctypes.CDLL(None, use_errno=True).mlockall(_MCL_CURRENT | _MCL_FUTURE):
        _say("memory could not be locked: raise RLIMIT_MEMLOCK")


def _say(text: str) -> None:
    print(f"nodewright-watchdog: {text}", file=sys.stderr, flush=True)  # noqa: T201 - the journal is its log


if __name__ == "__main__":
    sys.exit(main())
