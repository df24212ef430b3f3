"""A coordinator over real gRPC and real mutual TLS, which remembers what it was told and answers as a test wants."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc

from agent.coordinator_client import CoordinatorClient
from agent.identity import Credentials, Identity, Membership
from coordinator.pki import Authority
from protos.coordinator.v1 import image_pb2, image_pb2_grpc, join_pb2, join_pb2_grpc, node_pb2, node_pb2_grpc

NODE_ID = "node-0a1b2c3d4e5f6g"
_WAIT_SECONDS = 60.0


class Coordinator(
    node_pb2_grpc.NodeServiceServicer, image_pb2_grpc.ImageServiceServicer, join_pb2_grpc.JoinServiceServicer
):
    """Every request waits in the queue of its method until a test looks at it."""

    def __init__(self, authority: Authority) -> None:
        self.authority = authority
        self.requests: defaultdict[str, asyncio.Queue[Any]] = defaultdict(asyncio.Queue)
        # With what the next calls of a method fail, in this order; None: the call succeeds.
        self.failures: defaultdict[str, list[grpc.StatusCode | None]] = defaultdict(list)
        self.lease_seconds = 30.0
        self.heartbeat_seconds = 0.01
        self.ha_tolerance_seconds = 30
        # Each heartbeat is stored before the next one is answered; else none is.
        self.stores_heartbeats = True
        self.released_domain_uuids: list[str] = []
        # What the next calls of ReportEvents say instead of the highest number that they were told.
        self.acknowledgements: list[int] = []
        self.images: dict[str, bytes] = {}
        self.chunk_bytes = 64 * 1024
        self.grpc_address = ""
        self.join_authority_pem = authority.pem.decode()

    async def request(self, method: str) -> Any:
        """The next request of a method."""
        return await asyncio.wait_for(self.requests[method].get(), _WAIT_SECONDS)

    async def Register(self, request: node_pb2.RegisterRequest, context: Any) -> node_pb2.RegisterResponse:
        await self._receive("Register", request, context)
        answer = node_pb2.RegisterResponse()
        answer.lease.FromTimedelta(timedelta(seconds=self.lease_seconds))
        answer.heartbeat_interval.FromTimedelta(timedelta(seconds=self.heartbeat_seconds))
        answer.ha_tolerance_seconds = self.ha_tolerance_seconds
        answer.released_domain_uuids.extend(self.released_domain_uuids)
        return answer

    async def Heartbeat(self, request: node_pb2.HeartbeatRequest, context: Any) -> node_pb2.HeartbeatResponse:
        await self._receive("Heartbeat", request, context)
        terms = node_pb2.HaTerms(
            stored_heartbeat=max(request.sequence - 1, 0), ha_tolerance_seconds=self.ha_tolerance_seconds
        )
        return node_pb2.HeartbeatResponse(ha_terms=terms if self.stores_heartbeats else None)

    async def ReportInventory(
        self, request: node_pb2.ReportInventoryRequest, context: Any
    ) -> node_pb2.ReportInventoryResponse:
        await self._receive("ReportInventory", request, context)
        return node_pb2.ReportInventoryResponse()

    async def ReportEvents(self, request: node_pb2.ReportEventsRequest, context: Any) -> node_pb2.ReportEventsResponse:
        await self._receive("ReportEvents", request, context)
        highest = request.events[-1].sequence
        acknowledged = self.acknowledgements.pop(0) if self.acknowledgements else highest
        return node_pb2.ReportEventsResponse(acknowledged_sequence=acknowledged)

    async def RenewCertificate(
        self, request: node_pb2.RenewCertificateRequest, context: Any
    ) -> node_pb2.RenewCertificateResponse:
        await self._receive("RenewCertificate", request, context)
        issued = self.authority.sign_agent(NODE_ID, request.certificate_request_pem.encode())
        return node_pb2.RenewCertificateResponse(
            certificate_pem=issued.certificate_pem.decode(), authority_pem=self.authority.pem.decode()
        )

    async def Read(self, request: image_pb2.ReadImageRequest, context: Any) -> AsyncIterator[image_pb2.ImageChunk]:
        await self._receive("Read", request, context)
        if request.image_id not in self.images:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such image")
        content = self.images[request.image_id][request.offset_bytes :]
        for start in range(0, len(content), self.chunk_bytes):
            yield image_pb2.ImageChunk(data=content[start : start + self.chunk_bytes])

    async def Join(self, request: join_pb2.JoinRequest, context: Any) -> join_pb2.JoinResponse:
        await self._receive("Join", request, context)
        issued = self.authority.sign_agent(NODE_ID, request.certificate_request_pem.encode())
        return join_pb2.JoinResponse(
            node_id=NODE_ID,
            certificate_pem=issued.certificate_pem.decode(),
            authority_pem=self.join_authority_pem,
            grpc_address=self.grpc_address,
            region="region0",
        )

    async def _receive(self, method: str, request: Any, context: Any) -> None:
        self.requests[method].put_nowait(request)
        failure = self.failures[method].pop(0) if self.failures[method] else None
        if failure is not None:
            await context.abort(failure, f"{method} as told")


@asynccontextmanager
async def serving(
    coordinator: Coordinator, *, port: int = 0, authority: Authority | None = None, client_certificate: bool = True
) -> AsyncIterator[int]:
    """The port of a server with a certificate of the coordinator's authority, or of another."""
    issuer = authority or coordinator.authority
    issued = issuer.issue_coordinator(["localhost"])
    trust = grpc.ssl_server_credentials(
        [(issued.key_pem, issued.certificate_pem)],
        root_certificates=issuer.pem if client_certificate else None,
        require_client_auth=client_certificate,
    )
    server = grpc.aio.server()
    node_pb2_grpc.add_NodeServiceServicer_to_server(coordinator, server)
    image_pb2_grpc.add_ImageServiceServicer_to_server(coordinator, server)
    join_pb2_grpc.add_JoinServiceServicer_to_server(coordinator, server)
    bound_port = server.add_secure_port(f"127.0.0.1:{port}", trust)
    await server.start()
    try:
        yield bound_port
    finally:
        await server.stop(None)


def an_identity(directory: Path, authority: Authority, coordinator_address: str = "127.0.0.1:1") -> Identity:
    """The identity of a node that has joined."""
    identity = Identity(directory, directory / "pki")
    identity.prepare()
    issued = authority.sign_agent(NODE_ID, identity.request_to_join().encode())
    identity.accept(issued.certificate_pem.decode(), authority.pem.decode())
    identity.accept_membership(Membership(NODE_ID, "region0", coordinator_address))
    return identity


@asynccontextmanager
async def connected(port: int, credentials: Credentials) -> AsyncIterator[CoordinatorClient]:
    """The agent's client of the server on this port."""
    client = CoordinatorClient(f"127.0.0.1:{port}", credentials)
    try:
        yield client
    finally:
        await client.close()
