"""What a fence is asked, and what it answers."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from coordinator.domain.fence import BmcKind, FenceKind
from coordinator.domain.message import Message


@dataclass(frozen=True, slots=True)
class BmcAccess:
    """How a node's management controller is reached."""

    kind: BmcKind
    # Redfish: a URL, with the path of the system where there are several; IPMI: host or host:port.
    address: str
    username: str
    password: str = field(repr=False)
    verify_tls: bool = True


@dataclass(frozen=True, slots=True)
class FenceSubject:
    """A node that is to be fenced, as the database knows it."""

    node_id: str
    name: str
    # When its last stored heartbeat was received; None: never.
    heard_at: datetime | None
    # Its watchdog ran, as it said with that heartbeat.
    self_fence: bool
    # How long it may go on with its highly available guests after that heartbeat, at most.
    tolerance_seconds: int
    bmc: BmcAccess | None = None


@dataclass(frozen=True, slots=True)
class FenceResult:
    """What one fence came to. Only what is confirmed counts."""

    kind: FenceKind
    confirmed: bool
    # Why, or why not: for people.
    reason: Message
    at: datetime


class Fence(Protocol):
    """One way to make sure that a node runs no highly available guest."""

    kind: FenceKind

    def confirm(self, node: FenceSubject) -> FenceResult:
        """Makes sure, or says why it cannot. Never raises, and returns within its deadline; may be repeated."""
