"""The agent's part in keeping highly available guests from running twice: it renews the lease of its watchdog.

The lease begins with the sending of the newest heartbeat that the coordinator has stored (`agent.watchdog.lease` says
why that is safe), and names the guests that it is about: those that this node's definitions call highly available. A
guest is named before libvirt hears of it, so that none can run unnamed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from agent.errors import DomainFenced, LeaseExpired, LeaseFailed
from agent.watchdog.lease import Lease, read_boot_id, read_clock, read_health, read_lease, write_lease
from agent.watchdog.record import FencedGuest, FenceRecord

_LONGEST_LEASE_SECONDS: Final = 600.0

log = structlog.get_logger(__name__)


class SelfFence:
    """The lease of this node. Nothing is promised to the coordinator before `begin`."""

    def __init__(
        self,
        run_dir: Path,
        record: FenceRecord,
        *,
        boot_id: Callable[[], str] = read_boot_id,
        clock: Callable[[], float] = read_clock,
    ) -> None:
        self._run_dir = run_dir
        self._record = record
        self._boot_id = boot_id()
        self._clock = clock
        former = read_lease(run_dir)
        # The former agent's lease goes on: only the coordinator makes it longer, and only the watchdog ends it.
        self._lease = former if former and former.boot_id == self._boot_id else None
        self._guests = set(self._lease.guests) if self._lease else set()
        # When the heartbeats of this session were sent, by their numbers, from the last stored one on.
        self._sent: dict[int, float] = {}
        self._is_written = True

    def note_sending(self, sequence: int) -> None:
        """Call it before heartbeat number `sequence` leaves; number 0 is the registration, which begins anew."""
        now = self._clock()
        kept = {} if sequence == 0 else self._sent
        # A lease that began before would be over: a coordinator that stores nothing does not fill the memory.
        self._sent = {number: at for number, at in kept.items() if now - at < _LONGEST_LEASE_SECONDS} | {sequence: now}

    def begin(self, guests: Iterable[str], tolerance_seconds: int) -> None:
        """The coordinator has stored the registration; these guests of the node are highly available.

        Those that were named before stay: a name without a process harms nobody.
        """
        self._guests |= set(guests)
        self.renew(0, tolerance_seconds)

    def renew(self, stored: int, tolerance_seconds: int) -> None:
        """The coordinator has stored heartbeat number `stored`, and waits that long from then on.

        What is older than is known already changes nothing.
        """
        if stored not in self._sent:
            return
        self._sent = {sequence: at for sequence, at in self._sent.items() if sequence >= stored}
        self._write(Lease(self._boot_id, self._sent[stored], tolerance_seconds, tuple(sorted(self._guests))))

    def set_guest(self, uuid: str, *, ha_enabled: bool) -> None:
        """Whether a guest is highly available; call it before libvirt gets its definition, or lets it in.

        Raises LeaseFailed when the watchdog cannot be told of it.
        """
        if ha_enabled is (uuid in self._guests):
            return
        (self._guests.add if ha_enabled else self._guests.discard)(uuid)
        if self._lease is not None:
            self._write(replace(self._lease, guests=tuple(sorted(self._guests))))
        if ha_enabled and not self._is_written:
            self._guests.discard(uuid)
            raise LeaseFailed(f"domain {uuid} is highly available, and the watchdog cannot be told of it")

    def forget(self, uuid: str) -> None:
        """The guest is gone from this node for good."""
        self.set_guest(uuid, ha_enabled=False)
        self.release([uuid])

    def check_startable(self, uuid: str) -> None:
        """Raises DomainFenced, LeaseExpired when the guest may run elsewhere by now."""
        if self._record.has(uuid):
            raise DomainFenced(
                f"domain {uuid} was ended here when the coordinator was not heard of: it is not started before the "
                "coordinator has said that it is still this node's"
            )
        lease = self._lease
        if uuid in self._guests and lease is not None and self.is_over:
            silent_seconds = self._clock() - lease.renewed_at
            raise LeaseExpired(
                f"domain {uuid} is highly available, and the coordinator was not heard of for {silent_seconds:.0f} s"
            )

    def release(self, uuids: Iterable[str]) -> None:
        """These guests may be started here again."""
        for uuid in uuids:
            self._record.remove(uuid)

    def list_fenced(self) -> list[FencedGuest]:
        """What the watchdog has killed and the coordinator has not released."""
        return self._record.list()

    @property
    def tolerance_seconds(self) -> int:
        """The tolerance by which this node goes now."""
        return self._lease.tolerance_seconds if self._lease else 0

    @property
    def is_over(self) -> bool:
        """Whether the highly available guests must not run now."""
        return self._lease is not None and self._lease.is_over(self._clock())

    @property
    def is_armed(self) -> bool:
        """Whether the watchdog looks at the lease, and at the one that was written last."""
        health = read_health(self._run_dir)
        return self._is_written and health is not None and health.is_alive(self._boot_id, self._clock())

    def _write(self, lease: Lease) -> None:
        """A lease that cannot be written leaves the former in force, and the coordinator with an unarmed node."""
        try:
            write_lease(self._run_dir, lease)
        except OSError as error:
            log.warning("lease.not_written", reason=str(error))
            self._is_written = False
            return
        self._lease, self._is_written = lease, True
