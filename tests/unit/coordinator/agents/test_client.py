"""Calls to agents over real gRPC with mutual TLS; the agent's side answers as told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import grpc
import pytest
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from coordinator.agents import client as client_module
from coordinator.agents.client import AgentCallError, AgentClients, NodeAway
from coordinator.pki import Authority, CoordinatorIdentity
from coordinator.store.database import Database
from coordinator.store.tables.node import Node
from protos.agent.v1 import domain_pb2, storage_pb2, storage_pb2_grpc
from tests.builders import a_node
from tests.database import migrated
from tests.unit.agent.transfer_node import UUID as VOLUME_UUID
from tests.unit.agent.transfer_node import TransferNode, assert_same_content

Answer = Callable[[Any, Any], Awaitable[Any]]
UUID = "0b5c2a6e-8f0a-4f0e-9a51-111111111111"


@pytest.fixture
def database(tmp_path: Path) -> Any:
    """SQLite alone: the client only reads addresses."""
    with migrated(f"sqlite:///{tmp_path / 'coordinator.db'}") as opened:
        yield opened


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.open(tmp_path / "pki")


@pytest.fixture
async def clients(database: Database, authority: Authority, tmp_path: Path) -> AsyncIterator[AgentClients]:
    identity = CoordinatorIdentity(authority, tmp_path / "pki", ["localhost"])
    opened = AgentClients(database, identity, asyncio.get_running_loop())
    yield opened
    await opened.close()


class Agent:
    """Serves two methods: one does `answer` first, the other streams three messages and then waits if it `hangs`."""

    def __init__(self, answer: Answer | None = None, hangs: bool = False) -> None:
        self.answer = answer
        self.hangs = hangs
        self.was_cancelled = asyncio.Event()
        self.metadata: dict[str, str] = {}

    async def ensure_running(self, request: domain_pb2.EnsureRunningRequest, context: Any) -> domain_pb2.Domain:
        self.metadata = dict(context.invocation_metadata())
        if self.answer:
            await self.answer(request, context)
        return domain_pb2.Domain(uuid=request.uuid, power_state=domain_pb2.POWER_STATE_RUNNING)

    async def ensure_cached(
        self, request: storage_pb2.EnsureImageCachedRequest, context: Any
    ) -> AsyncIterator[storage_pb2.ImageProgress]:
        for done in (10, 20, 30):
            yield storage_pb2.ImageProgress(done_bytes=done, total_bytes=30, cached=done == 30)
        if self.hangs:
            try:
                await asyncio.sleep(60)
            finally:
                self.was_cancelled.set()

    def add_to(self, server: grpc.aio.Server) -> None:
        """The two methods under the names of the protos."""
        ensure_running = grpc.unary_unary_rpc_method_handler(
            self.ensure_running,
            request_deserializer=domain_pb2.EnsureRunningRequest.FromString,
            response_serializer=domain_pb2.Domain.SerializeToString,
        )
        ensure_cached = grpc.unary_stream_rpc_method_handler(
            self.ensure_cached,
            request_deserializer=storage_pb2.EnsureImageCachedRequest.FromString,
            response_serializer=storage_pb2.ImageProgress.SerializeToString,
        )
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    "nodewright.agent.v1.DomainService", {"EnsureRunning": ensure_running}
                ),
                grpc.method_handlers_generic_handler(
                    "nodewright.agent.v1.ImageService", {"EnsureCached": ensure_cached}
                ),
            )
        )


class Served(Protocol):
    """Something that answers calls."""

    def add_to(self, server: grpc.aio.Server) -> None: ...


@asynccontextmanager
async def serving(
    agent: Served, authority: Authority, node_id: str, address: str = "127.0.0.1:0"
) -> AsyncIterator[int]:
    """The port of a server with the node's certificate, which admits only callers of the same authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    issued = authority.sign_agent(node_id, request.public_bytes(serialization.Encoding.PEM))
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    server = grpc.aio.server()
    agent.add_to(server)
    trust = grpc.ssl_server_credentials(
        [(key_pem, issued.certificate_pem)], root_certificates=authority.pem, require_client_auth=True
    )
    port = server.add_secure_port(address, trust)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


def register(database: Database, node: Node, port: int) -> None:
    with database.write() as session:
        node.address = f"127.0.0.1:{port}"
        session.merge(node)


async def refusal_of(call: Awaitable[Any]) -> AgentCallError:
    with pytest.raises(AgentCallError) as raised:
        await call
    return raised.value


async def test_a_call_reaches_the_node_by_the_name_in_its_certificate(
    database: Database, authority: Authority, clients: AgentClients
) -> None:
    node, agent = a_node(), Agent()
    async with serving(agent, authority, node.id) as port:
        register(database, node, port)
        with structlog.contextvars.bound_contextvars(requestId="r-1"):
            domain = await clients.of(node.id).ensure_running(UUID)
    assert (domain.uuid, domain.power_state) == (UUID, domain_pb2.POWER_STATE_RUNNING)
    assert agent.metadata["nodewright-request-id"] == "r-1"


async def test_another_node_at_the_address_is_not_believed(
    database: Database, authority: Authority, clients: AgentClients
) -> None:
    node = a_node()
    async with serving(Agent(), authority, "node-somebodyelse00") as port:
        register(database, node, port)
        error = await refusal_of(clients.of(node.id).ensure_running(UUID))
    assert isinstance(error, NodeAway)


@pytest.mark.parametrize(
    ("status", "code", "expected_code", "transient"),
    [
        (grpc.StatusCode.FAILED_PRECONDITION, "DomainForeign", "DomainForeign", False),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "DomainStopTimeout", "DomainStopTimeout", False),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "HypervisorTimeout", "HypervisorTimeout", True),
        (grpc.StatusCode.UNAVAILABLE, "HypervisorUnavailable", "HypervisorUnavailable", True),
        (grpc.StatusCode.INTERNAL, "AgentError", "AgentError", False),
        (grpc.StatusCode.UNAVAILABLE, "", "NodeAway", True),
        (grpc.StatusCode.CANCELLED, "", "AgentCallFailed", True),
        (grpc.StatusCode.UNIMPLEMENTED, "", "AgentOutdated", False),
        (grpc.StatusCode.UNAUTHENTICATED, "", "AgentUntrusted", False),
    ],
)
async def test_failures_keep_the_agents_code_and_tell_whether_to_retry(
    database: Database,
    authority: Authority,
    clients: AgentClients,
    status: grpc.StatusCode,
    code: str,
    expected_code: str,
    transient: bool,
) -> None:
    async def fail(_request: Any, context: Any) -> None:
        await context.abort(status, "the reason", (("nodewright-code", code),) if code else ())

    node = a_node()
    async with serving(Agent(fail), authority, node.id) as port:
        register(database, node, port)
        error = await refusal_of(clients.of(node.id).ensure_running(UUID))
    assert (error.code, error.transient) == (expected_code, transient)
    assert "the reason" in error.message


async def test_a_silent_agent_costs_the_deadline_only(
    database: Database, authority: Authority, clients: AgentClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(_request: Any, _context: Any) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(client_module, "POWER_SECONDS", 0.3)
    node = a_node()
    async with serving(Agent(hang), authority, node.id) as port:
        register(database, node, port)
        async with asyncio.timeout(60):
            error = await refusal_of(clients.of(node.id).ensure_running(UUID))
    assert (error.code, error.transient) == ("AgentTimeout", True)


async def test_a_node_that_never_registered_is_away(database: Database, clients: AgentClients) -> None:
    node = a_node(address="")
    with database.write() as session:
        session.add(node)
    error = await refusal_of(clients.of(node.id).ensure_running(UUID))
    assert isinstance(error, NodeAway)


async def test_an_unknown_node_is_not_retried(clients: AgentClients) -> None:
    error = await refusal_of(clients.of("node-unknown").ensure_running(UUID))
    assert (error.code, error.transient) == ("NodeNotFound", False)


async def test_an_agent_that_restarts_is_found_again(
    database: Database, authority: Authority, clients: AgentClients
) -> None:
    node = a_node()
    async with serving(Agent(), authority, node.id) as port:
        register(database, node, port)
        await clients.of(node.id).ensure_running(UUID)
    error = await refusal_of(clients.of(node.id).ensure_running(UUID))
    assert isinstance(error, NodeAway)
    assert error.message.startswith("node node-a is away: ")
    async with serving(Agent(), authority, node.id, f"127.0.0.1:{port}"), asyncio.timeout(60):
        while True:
            try:
                await clients.of(node.id).ensure_running(UUID)
                break
            except NodeAway:
                await asyncio.sleep(0.1)


@pytest.mark.parametrize("is_told", [True, False])
async def test_a_node_that_moved_is_followed(
    database: Database, authority: Authority, clients: AgentClients, is_told: bool
) -> None:
    node = a_node()
    async with serving(Agent(), authority, node.id) as old_port:
        register(database, node, old_port)
        await clients.of(node.id).ensure_running(UUID)
    async with serving(Agent(), authority, node.id) as new_port:
        register(database, node, new_port)
        if is_told:
            clients.node_registered(node.id)
        else:
            await refusal_of(clients.of(node.id).ensure_running(UUID))
        await clients.of(node.id).ensure_running(UUID)


async def test_progress_is_told_until_the_image_is_there(
    database: Database, authority: Authority, clients: AgentClients
) -> None:
    seen: list[int] = []

    async def note(progress: storage_pb2.ImageProgress) -> None:
        seen.append(progress.done_bytes)

    node = a_node()
    async with serving(Agent(), authority, node.id) as port:
        register(database, node, port)
        await clients.of(node.id).ensure_image_cached(storage_pb2.ImageRef(image_id="img-1"), note)
    assert seen == [10, 20, 30]


async def test_a_volume_goes_from_one_real_agent_to_another(
    database: Database, authority: Authority, clients: AgentClients, tmp_path: Path
) -> None:
    told: list[storage_pb2.VolumeTransferProgress] = []

    async def note(progress: storage_pb2.VolumeTransferProgress) -> None:
        told.append(progress)

    async with AsyncExitStack() as stack:
        nodes = [a_node(name) for name in ("node-a", "node-b")]
        agents = []
        for node in nodes:
            (directory := tmp_path / node.id).mkdir()
            agent = TransferNode(node.id, directory, b"")
            agent.trust(authority)
            stack.push_async_callback(agent.close)
            port = await stack.enter_async_context(serving(agent, authority, node.id))
            register(database, node, port)
            agents.append(agent)
        source, target = (clients.of(node.id) for node in nodes)
        await agents[0].make_volume(image_id=None)
        volume = await source.inspect_outgoing_volume(VOLUME_UUID)
        incoming = await target.prepare_volume_receive(
            VOLUME_UUID, "t-1", volume, network_role="", tls=True, source_node_id=nodes[0].id
        )
        outcome = await source.send_volume(VOLUME_UUID, "t-1", incoming, tls=True, on_progress=note)
        assert told[-1].outcome == outcome == await source.cancel_volume_send(VOLUME_UUID, "t-1")
        received = await target.complete_volume_receive(VOLUME_UUID, "t-1", outcome.sha256)
        await target.ensure_volume_receive_ended(VOLUME_UUID, "t-1")
    assert (received.uuid, received.size_bytes) == (VOLUME_UUID, volume.size_bytes)
    assert_same_content(*agents)


async def test_a_sending_that_the_agent_leaves_open_is_tried_again(
    database: Database, authority: Authority, clients: AgentClients
) -> None:
    class Restarting(storage_pb2_grpc.VolumeTransferServiceServicer):
        def add_to(self, server: grpc.aio.Server) -> None:
            storage_pb2_grpc.add_VolumeTransferServiceServicer_to_server(self, server)

        async def Send(self, _request: Any, _context: Any) -> AsyncIterator[storage_pb2.VolumeTransferProgress]:
            yield storage_pb2.VolumeTransferProgress(done_bytes=1, total_bytes=2)

    node = a_node()
    async with serving(Restarting(), authority, node.id) as port:  # type: ignore[abstract]  # the others are not called
        register(database, node, port)
        sending = clients.of(node.id).send_volume(VOLUME_UUID, "t-1", storage_pb2.IncomingVolume(), tls=False)
        error = await refusal_of(sending)
    assert (error.code, error.transient) == ("AgentCallFailed", True)


async def test_cancelling_a_call_reaches_the_agent(
    database: Database, authority: Authority, clients: AgentClients
) -> None:
    node, agent = a_node(), Agent(hangs=True)
    async with serving(agent, authority, node.id) as port:
        register(database, node, port)
        call = asyncio.create_task(clients.of(node.id).ensure_image_cached(storage_pb2.ImageRef(image_id="img-1")))
        await asyncio.sleep(0.5)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        async with asyncio.timeout(60):
            await agent.was_cancelled.wait()


async def test_other_threads_call_through_the_loop(
    database: Database, authority: Authority, clients: AgentClients
) -> None:
    node = a_node()
    async with serving(Agent(), authority, node.id) as port:
        register(database, node, port)
        domain = await asyncio.to_thread(
            lambda: clients.call_sync(clients.of(node.id).ensure_running(UUID), timeout_seconds=5)
        )
    assert domain.uuid == UUID
