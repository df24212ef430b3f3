"""Channels to agents: one a node, kept open, with mutual TLS, opened anew when the node's address changes."""

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from typing import Final, Protocol

import grpc
from sqlmodel import select

from coordinator.agents.error import AgentCallError, NodeAway
from coordinator.store.database import Database
from coordinator.store.tables.node import Node

_OPTIONS: Final = (
    # A node that comes back is found again within seconds, not after gRPC's default of two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 3000),
    # A host that lost its power sends no reset: pings find it out during a long call.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.enable_http_proxy", 0),
    # A new channel does not wait for the end of an old one's back-off.
    ("grpc.use_local_subchannel_pool", 1),
)

_RETIRE_SECONDS: Final = 600.0
# Calls at once that make one node work; guests that are waited for and questions do not count.
_NODE_CONCURRENCY: Final = 32


class Credentials(Protocol):
    """The coordinator's own certificate and key, and the authority that signed those of the agents; all PEM.

    May answer others after a renewal: channels are then opened anew.
    """

    @property
    def ca_pem(self) -> bytes: ...
    @property
    def cert_pem(self) -> bytes: ...
    @property
    def key_pem(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class _Connection:
    name: str
    address: str
    # Of the coordinator, when the channel was opened: a renewed one needs a new channel.
    cert_pem: bytes
    channel: grpc.aio.Channel


class ChannelPool:
    """The open channels. Used on one event loop only."""

    def __init__(self, database: Database, credentials: Credentials) -> None:
        self._database = database
        self._credentials = credentials
        self._connections: dict[str, _Connection] = {}
        # Nodes whose address is to be read again before the next call.
        self._suspects: set[str] = set()
        # Nodes that registered since their last call: an agent that answers need not be waited for.
        self._returned: set[str] = set()
        self._gates: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(_NODE_CONCURRENCY))
        self._retiring: set[asyncio.Future[None]] = set()

    async def channel(self, node_id: str) -> grpc.aio.Channel:
        """The channel to the agent of `node_id`; NodeAway when it has not registered yet."""
        connection = self._connections.get(node_id)
        if connection and node_id not in self._suspects and connection.cert_pem == self._credentials.cert_pem:
            return connection.channel
        self._suspects.discard(node_id)
        name, address = await asyncio.to_thread(self._read_address, node_id)
        # Another call may have opened it meanwhile.
        connection = self._connections.get(node_id)
        is_same = connection and (connection.address, connection.cert_pem) == (address, self._credentials.cert_pem)
        if connection and is_same and not self._is_stale(node_id, connection):
            return connection.channel
        fresh = _Connection(name, address, self._credentials.cert_pem, self._open(node_id, address))
        self._connections[node_id] = fresh
        if connection:
            self._retire(connection.channel)
        return fresh.channel

    def name(self, node_id: str) -> str:
        """The node's name as people know it; its id before the first call."""
        connection = self._connections.get(node_id)
        return connection.name if connection else node_id

    def gate(self, node_id: str) -> asyncio.Semaphore:
        """Bounds the calls that make this node work."""
        return self._gates[node_id]

    def suspect(self, node_id: str) -> None:
        """The node did not answer: it may have another address now."""
        self._suspects.add(node_id)

    def node_returned(self, node_id: str) -> None:
        """The node registered anew, perhaps at another address. Callable from any thread."""
        self._returned.add(node_id)
        self._suspects.add(node_id)

    async def close(self) -> None:
        """Closes all channels; calls in flight are cancelled."""
        connections, self._connections = list(self._connections.values()), {}
        for connection in connections:
            await connection.channel.close(None)

    def _is_stale(self, node_id: str, connection: _Connection) -> bool:
        """Whether the channel still waits before it looks for an agent that is back."""
        is_back = node_id in self._returned
        self._returned.discard(node_id)
        return is_back and connection.channel.get_state() is not grpc.ChannelConnectivity.READY

    def _retire(self, channel: grpc.aio.Channel) -> None:
        """Closes a channel once the calls that still run on it have ended."""
        closing = asyncio.ensure_future(channel.close(_RETIRE_SECONDS))
        self._retiring.add(closing)
        closing.add_done_callback(self._retiring.discard)

    def _read_address(self, node_id: str) -> tuple[str, str]:
        with self._database.read() as session:
            # Not the node with all its facts.
            found = session.exec(select(Node.name, Node.address).where(Node.id == node_id)).first()
        if found is None:
            raise AgentCallError("NodeNotFound", f"node {node_id} does not exist", transient=False)
        name, address = found
        if not address:
            raise NodeAway(f"node {name} has not registered yet")
        return name, address

    def _open(self, node_id: str, address: str) -> grpc.aio.Channel:
        trust = grpc.ssl_channel_credentials(
            root_certificates=self._credentials.ca_pem,
            private_key=self._credentials.key_pem,
            certificate_chain=self._credentials.cert_pem,
        )
        # Nodes are addressed by whatever they advertise and recognised by the name in their certificate.
        name = ("grpc.ssl_target_name_override", f"{node_id}.node.nodewright.internal")
        return grpc.aio.secure_channel(address, trust, options=(*_OPTIONS, name))
