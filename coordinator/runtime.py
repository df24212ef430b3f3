"""What use cases and tasks need from the process: built once in main, replaced piece by piece in tests."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

from coordinator.audit_log import AuditLog
from coordinator.concurrency import ConcurrencyLimit
from coordinator.config import Settings
from coordinator.domain.clock import Clock, utc_now
from coordinator.domain.expiring_cache import ExpiringCache
from coordinator.domain.identifier import Identifiers
from coordinator.domain.lease import LeaseBook
from coordinator.domain.silence import SilenceClock
from coordinator.event_feed import EventFeed
from coordinator.fencing.chain import Fences, make_fences
from coordinator.pki import Authority
from coordinator.placement.cache import HostCache
from coordinator.scheduler.pipeline import merge_weights
from coordinator.secret import SecretBox
from coordinator.store.database import Database

if TYPE_CHECKING:
    from coordinator.agents.client import AgentClients
    from coordinator.domain.caller import Caller

# How long a deleted token may still be honoured by another coordinator.
_CALLER_LIFE_SECONDS: Final = 5.0


def _nobody_to_wake() -> None:
    """Without a task engine in this process there is nobody to wake."""


@dataclass(slots=True)
class Runtime:
    """The process's collaborators."""

    settings: Settings
    database: Database
    secrets: SecretBox
    agents: "AgentClients"
    identifiers: Identifiers = field(default_factory=Identifiers)
    now: Clock = utc_now
    # Tells the task engine that a task was committed; callable from any thread.
    wake_tasks: Callable[[], None] = _nobody_to_wake
    is_engine_alive: Callable[[], bool] = lambda: True
    # Calls to guest agents, by tenant: a silent guest holds a thread of REST as long as it is waited for.
    guest_calls: ConcurrencyLimit = field(default_factory=lambda: ConcurrencyLimit(per_key=8, total=24))
    # Callers that follow events, by token.
    event_streams: ConcurrencyLimit = field(default_factory=lambda: ConcurrencyLimit(per_key=16, total=512))
    events: EventFeed = field(init=False)
    audit: AuditLog = field(init=False)
    leases: LeaseBook = field(default_factory=LeaseBook)
    # Callers by the hash of their credentials.
    callers: "ExpiringCache[Caller]" = field(default_factory=lambda: ExpiringCache(_CALLER_LIFE_SECONDS))
    # What the scheduler chooses from.
    hosts: HostCache = field(init=False)
    # What makes sure that lost nodes run nothing.
    fences: Fences = field(init=False)
    _authority: Authority | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        settings = self.settings
        self.events = EventFeed(self.database)
        self.audit = AuditLog(self.database)
        self.hosts = HostCache(self.database, seed=settings.scheduler_seed, weights=merge_weights(settings.weights))
        self.fences = make_fences(settings.fences, self._read_clock, SilenceClock(self._read_clock))

    def _read_clock(self) -> datetime:
        """Of this moment's clock, which tests replace."""
        return self.now()

    @property
    def authority(self) -> Authority:
        """The certificate authority in the state directory, opened (or made) on first use."""
        if self._authority is None:
            self._authority = Authority.open(self.settings.pki_dir, self.now)
        return self._authority
