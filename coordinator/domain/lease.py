"""Signs of life of nodes, kept in memory between the moments at which they are stored."""

import threading
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class NodeSession:
    """One run of one node's agent."""

    node_id: str
    session_id: str


class LeaseBook:
    """Which sessions are alive, and when they were last heard of. Safe to use from any thread.

    A heartbeat costs a look into memory; the sweep stores what came in since the last one, all nodes together.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: dict[str, NodeSession] = {}
        self._heard: dict[NodeSession, datetime] = {}

    def open(self, session: NodeSession) -> None:
        """From now on the node has this session, and no other."""
        with self._lock:
            self._sessions[session.node_id] = session

    def renew(self, session: NodeSession, at: datetime) -> bool:
        """Notes a sign of life; False when this session of the node is not known here."""
        with self._lock:
            if self._sessions.get(session.node_id) != session:
                return False
            self._heard[session] = at
            return True

    def close(self, session: NodeSession) -> None:
        """The session is over, or another coordinator looks after it."""
        with self._lock:
            if self._sessions.get(session.node_id) == session:
                del self._sessions[session.node_id]

    def take_heard(self) -> dict[NodeSession, datetime]:
        """Signs of life since the last call; the caller stores them."""
        with self._lock:
            heard, self._heard = self._heard, {}
            return heard
