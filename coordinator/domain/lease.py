"""Signs of life of nodes, kept in memory between the moments at which they are stored."""

import threading
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class NodeSession:
    """One run of one node's agent."""

    node_id: str
    session_id: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A sign of life of a node, and how it would fence itself."""

    # When it was received.
    at: datetime
    # Its number within the session.
    sequence: int = 0
    # The node's watchdog would end its highly available guests.
    self_fence: bool = False
    # By which tolerance, so far as the node had been told when it sent this.
    tolerance_seconds: int = 0


@dataclass(frozen=True, slots=True)
class HaTerms:
    """What a node renews its lease on highly available guests by: a heartbeat that is stored, and the tolerance."""

    stored_heartbeat: int
    tolerance_seconds: int


@dataclass(frozen=True, slots=True)
class Heard:
    """The last heartbeat since the previous look, and what the node was answered."""

    heartbeat: Heartbeat
    told: HaTerms | None

    @property
    def longest_seconds(self) -> int:
        """The longest tolerance that the node may go by: what it said, or what it was told afterwards."""
        return max(self.heartbeat.tolerance_seconds, self.told.tolerance_seconds if self.told else 0)


class LeaseBook:
    """Which sessions are alive, and when they were last heard of. Safe to use from any thread.

    A heartbeat costs a look into memory; the sweep stores what came in since the last one, all nodes together. Only
    what was stored is acknowledged to a node: a coordinator that dies takes nothing with it that a node relies on.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: dict[str, NodeSession] = {}
        self._terms: dict[NodeSession, HaTerms] = {}
        self._heard: dict[NodeSession, Heard] = {}

    def open(self, session: NodeSession, terms: HaTerms | None = None) -> None:
        """From now on the node has this session, and no other."""
        with self._lock:
            self._forget(session.node_id)
            self._sessions[session.node_id] = session
            if terms is not None:
                self._terms[session] = terms

    def renew(self, session: NodeSession, heartbeat: Heartbeat) -> Heard | None:
        """Notes a sign of life, and answers what to tell; None when this session of the node is not known here."""
        with self._lock:
            if self._sessions.get(session.node_id) != session:
                return None
            heard = Heard(heartbeat, self._terms.get(session))
            self._heard[session] = heard
            return heard

    def find_terms(self, session: NodeSession) -> HaTerms | None:
        """What the session is told now."""
        with self._lock:
            return self._terms.get(session)

    def set_terms(self, session: NodeSession, terms: HaTerms) -> None:
        """From now on the session is told this. What is not known here any more is ignored."""
        with self._lock:
            if self._sessions.get(session.node_id) == session:
                self._terms[session] = terms

    def close(self, session: NodeSession) -> None:
        """The session is over, or another coordinator looks after it."""
        with self._lock:
            if self._sessions.get(session.node_id) == session:
                self._forget(session.node_id)

    def take_heard(self) -> dict[NodeSession, Heard]:
        """Signs of life since the last call; the caller stores them."""
        with self._lock:
            heard, self._heard = self._heard, {}
            return heard

    def _forget(self, node_id: str) -> None:
        former = self._sessions.pop(node_id, None)
        if former is not None:
            self._terms.pop(former, None)
