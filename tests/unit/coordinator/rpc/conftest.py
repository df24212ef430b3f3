"""The coordinator's real gRPC servers within the test, and machines that call them over TLS."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.fernet import Fernet

from coordinator.agents.client import AgentClients
from coordinator.config import Settings
from coordinator.domain.caller import Caller, Role
from coordinator.domain.clock import utc_now
from coordinator.pki import COORDINATOR_NAME, CoordinatorIdentity
from coordinator.rpc.server import GrpcServers
from coordinator.runtime import Runtime
from coordinator.secret import SecretBox
from coordinator.services.enrolment import create_enrolment_token
from coordinator.store.database import Database
from protos.coordinator.v1 import join_pb2, join_pb2_grpc
from tests.builders import credentials
from tests.certificate import KeyAndRequest, a_key_and_request

OPERATOR = Caller("tok-of-the-tests", Role.OPERATOR)


@dataclass(frozen=True)
class Member:
    """A machine that joined."""

    node_id: str
    key_pem: bytes
    certificate_pem: bytes


class TurnableClock:
    """The real time, and what a test adds to it."""

    def __init__(self) -> None:
        self._added = timedelta()

    def __call__(self) -> datetime:
        return utc_now() + self._added

    def forward(self, time: timedelta) -> None:
        self._added += time


@dataclass(frozen=True)
class Cloud:
    """Running servers, and ways to call them."""

    runtime: Runtime
    identity: CoordinatorIdentity
    identity_clock: TurnableClock
    servers: GrpcServers

    def enrolment_token(self) -> str:
        return create_enrolment_token(self.runtime, OPERATOR).secret

    @asynccontextmanager
    async def join_channel(self) -> AsyncIterator[grpc.aio.Channel]:
        """As a machine without a certificate, which trusts the authority."""
        trust = grpc.ssl_channel_credentials(self.runtime.authority.pem)
        async with self._channel(self.servers.join_port, trust) as channel:
            yield channel

    @asynccontextmanager
    async def peer_channel(
        self, key_pem: bytes | None = None, certificate_pem: bytes | None = None
    ) -> AsyncIterator[grpc.aio.Channel]:
        """As the bearer of a certificate, or of none."""
        trust = grpc.ssl_channel_credentials(self.runtime.authority.pem, key_pem, certificate_pem)
        async with self._channel(self.servers.peer_port, trust) as channel:
            yield channel

    @asynccontextmanager
    async def _channel(self, port: int, trust: grpc.ChannelCredentials) -> AsyncIterator[grpc.aio.Channel]:
        options = (
            ("grpc.ssl_target_name_override", COORDINATOR_NAME),
            # A fresh handshake for each channel of a test.
            ("grpc.use_local_subchannel_pool", 1),
        )
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", trust, options) as channel:
            yield channel

    async def join(
        self,
        token: str = "",
        machine: KeyAndRequest | None = None,
        machine_uuid: str = "4c4c4544-0001",
        hostname: str = "host-a",
    ) -> Member:
        """A machine becomes a node."""
        made = machine or a_key_and_request()
        request = join_pb2.JoinRequest(
            token=token or self.enrolment_token(),
            certificate_request_pem=made.request_pem.decode(),
            hostname=hostname,
            machine_uuid=machine_uuid,
        )
        async with self.join_channel() as channel:
            answer = await join_pb2_grpc.JoinServiceStub(channel).Join(request, timeout=60)
        return Member(answer.node_id, made.key_pem, answer.certificate_pem.encode())


def code_of(error: grpc.aio.AioRpcError) -> str:
    """The stable code that a failed call carries."""
    metadata: Any = error.trailing_metadata() or ()
    return str(dict(metadata)["nodewright-code"])


@pytest.fixture
async def cloud(database: Database, tmp_path: Path) -> AsyncIterator[Cloud]:
    """Both servers over both databases."""
    settings = Settings(
        state_dir=tmp_path, database_url=database.url, grpc_listen="127.0.0.1:0", join_listen="127.0.0.1:0"
    )
    runtime = Runtime(
        settings=settings,
        database=database,
        secrets=SecretBox(Fernet.generate_key()),
        agents=AgentClients(database, credentials()),
    )
    clock = TurnableClock()
    identity = CoordinatorIdentity(runtime.authority, settings.pki_dir, ["localhost"], clock)
    servers = GrpcServers(runtime, identity)
    await servers.start()
    yield Cloud(runtime, identity, clock, servers)
    await servers.stop()
