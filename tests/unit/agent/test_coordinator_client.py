"""Calls to the coordinator over real gRPC and mutual TLS, and what its failures become."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from agent import coordinator_client
from agent.coordinator_client import (
    CoordinatorClient,
    CoordinatorRefused,
    CoordinatorUnavailable,
    RegistrationRequired,
)
from agent.errors import ImageNotFound, ImageSourceUnavailable
from agent.identity import Identity
from coordinator.pki import Authority
from protos.coordinator.v1 import image_pb2, node_pb2
from tests.unit.agent.coordinator_server import Coordinator, an_identity, connected, serving

BEAT = node_pb2.HeartbeatRequest(session_id="s-1", last_event_sequence=7)


@pytest.fixture
def coordinator(tmp_path: Path) -> Coordinator:
    return Coordinator(Authority.open(tmp_path / "authority"))


@pytest.fixture
def identity(tmp_path: Path, coordinator: Coordinator) -> Identity:
    return an_identity(tmp_path / "state", coordinator.authority)


@pytest.fixture
async def client(coordinator: Coordinator, identity: Identity) -> AsyncIterator[CoordinatorClient]:
    async with serving(coordinator) as port, connected(port, identity.credentials()) as client:
        yield client


async def test_requests_and_answers_arrive(coordinator: Coordinator, client: CoordinatorClient) -> None:
    terms = await client.register(node_pb2.RegisterRequest(session_id="s-1"))
    assert terms.lease.seconds == coordinator.lease_seconds
    await client.heartbeat(BEAT)
    await client.report_inventory(node_pb2.ReportInventoryRequest(session_id="s-1"))
    events = [node_pb2.ReportedEvent(sequence=number) for number in (1, 2)]
    assert await client.report_events(node_pb2.ReportEventsRequest(session_id="s-1", events=events)) == 2
    assert await coordinator.request("Heartbeat") == BEAT
    for method in ("Register", "ReportInventory", "ReportEvents"):
        assert (await coordinator.request(method)).session_id == "s-1"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, CoordinatorUnavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, CoordinatorUnavailable),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, CoordinatorUnavailable),
        (grpc.StatusCode.ABORTED, CoordinatorUnavailable),
        (grpc.StatusCode.CANCELLED, CoordinatorUnavailable),
        (grpc.StatusCode.UNKNOWN, CoordinatorUnavailable),
        (grpc.StatusCode.INTERNAL, CoordinatorUnavailable),
        (grpc.StatusCode.FAILED_PRECONDITION, RegistrationRequired),
        (grpc.StatusCode.PERMISSION_DENIED, CoordinatorRefused),
        (grpc.StatusCode.UNAUTHENTICATED, CoordinatorRefused),
        (grpc.StatusCode.INVALID_ARGUMENT, CoordinatorRefused),
        (grpc.StatusCode.UNIMPLEMENTED, CoordinatorRefused),
    ],
)
async def test_a_failure_says_whether_to_try_again(
    coordinator: Coordinator, client: CoordinatorClient, status: grpc.StatusCode, kind: type[Exception]
) -> None:
    coordinator.failures["Heartbeat"] = [status]
    with pytest.raises(kind, match=f"^{status.name}: Heartbeat as told$") as caught:
        await client.heartbeat(BEAT)
    assert type(caught.value) is kind


async def test_a_call_has_a_deadline(
    coordinator: Coordinator, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*_: object) -> node_pb2.HeartbeatResponse:
        await asyncio.sleep(60)
        return node_pb2.HeartbeatResponse()

    monkeypatch.setattr(coordinator, "Heartbeat", hang)
    monkeypatch.setattr(coordinator_client, "_CALL_SECONDS", 0.1)
    monkeypatch.setattr(CoordinatorClient._call, "__defaults__", (0.1,))
    async with serving(coordinator) as port, connected(port, identity.credentials()) as client:
        with pytest.raises(CoordinatorUnavailable, match="DEADLINE_EXCEEDED"):
            await client.heartbeat(BEAT)


class TestTrust:
    """Both sides show a certificate of the same authority."""

    async def test_a_coordinator_of_another_authority_is_not_talked_to(
        self, tmp_path: Path, coordinator: Coordinator, identity: Identity
    ) -> None:
        impostor = Coordinator(Authority.open(tmp_path / "other"))
        async with serving(impostor) as port, connected(port, identity.credentials()) as client:
            with pytest.raises(CoordinatorUnavailable):
                await client.heartbeat(BEAT)
            with pytest.raises(TimeoutError):
                await client.wait_until_reachable(0.1)
        assert not impostor.requests

    async def test_another_node_is_not_taken_for_the_coordinator(
        self, coordinator: Coordinator, identity: Identity
    ) -> None:
        """Its certificate is of the right authority, but has another name."""
        credentials = identity.credentials()
        server = grpc.aio.server()
        pair = (credentials.key_pem, credentials.certificate_pem)
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
        await server.start()
        try:
            async with connected(port, credentials) as client:
                with pytest.raises(CoordinatorUnavailable):
                    await client.heartbeat(BEAT)
        finally:
            await server.stop(None)

    async def test_a_renewed_certificate_is_used_for_the_next_call(
        self, tmp_path: Path, coordinator: Coordinator, identity: Identity
    ) -> None:
        """The authority was replaced as well: only the new certificate is let in."""
        other = Coordinator(Authority.open(tmp_path / "other"))
        renewed = an_identity(tmp_path / "renewed", other.authority).credentials()
        async with serving(coordinator) as port, connected(port, identity.credentials()) as client:
            await client.heartbeat(BEAT)
            client.reload(renewed)
            with pytest.raises(CoordinatorUnavailable):
                await client.heartbeat(BEAT)
        async with serving(other) as port, connected(port, identity.credentials()) as client:
            client.reload(renewed)
            await client.wait_until_reachable(5)
            await client.heartbeat(BEAT)

    async def test_calls_under_way_end_with_the_certificate_that_they_began_with(
        self, coordinator: Coordinator, identity: Identity
    ) -> None:
        begun, may_end = asyncio.Event(), asyncio.Event()

        async def wait(*_: object) -> node_pb2.HeartbeatResponse:
            begun.set()
            await may_end.wait()
            return node_pb2.HeartbeatResponse()

        async with (
            serving(_Waiting(coordinator.authority, wait)) as port,
            connected(port, identity.credentials()) as client,
        ):
            call = asyncio.create_task(client.heartbeat(BEAT))
            await begun.wait()
            client.reload(identity.credentials())
            await asyncio.sleep(0.02)
            may_end.set()
            await call


class _Waiting(Coordinator):
    """A coordinator with another way to answer heartbeats."""

    def __init__(self, authority: Authority, answer: object) -> None:
        super().__init__(authority)
        self.Heartbeat = answer  # type: ignore[assignment,method-assign]


class TestImage:
    """Bytes of images."""

    async def test_an_image_comes_whole_and_from_an_offset_on(
        self, coordinator: Coordinator, client: CoordinatorClient
    ) -> None:
        coordinator.images["img-1"], coordinator.chunk_bytes = b"0123456789", 4
        assert b"".join([chunk async for chunk in client.read_image("img-1", 0)]) == b"0123456789"
        assert b"".join([chunk async for chunk in client.read_image("img-1", 7)]) == b"789"
        assert [chunk async for chunk in client.read_image("img-1", 10)] == []

    async def test_an_image_that_the_coordinator_does_not_have_is_named(self, client: CoordinatorClient) -> None:
        with pytest.raises(ImageNotFound, match="img-1: no such image"):
            await anext(client.read_image("img-1", 0))

    @pytest.mark.parametrize("status", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.PERMISSION_DENIED])
    async def test_a_coordinator_that_fails_may_be_asked_again(
        self, coordinator: Coordinator, client: CoordinatorClient, status: grpc.StatusCode
    ) -> None:
        coordinator.failures["Read"] = [status]
        with pytest.raises(ImageSourceUnavailable, match="img-1: Read as told"):
            await anext(client.read_image("img-1", 0))

    async def test_a_transfer_without_progress_is_given_up(
        self, coordinator: Coordinator, identity: Identity, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stalling = _Stalling(coordinator.authority)
        monkeypatch.setattr(coordinator_client, "_CHUNK_SECONDS", 0.1)
        async with serving(stalling) as port, connected(port, identity.credentials()) as client:
            chunks = client.read_image("img-1", 0)
            assert await anext(chunks) == b"begin"
            with pytest.raises(ImageSourceUnavailable, match="sends nothing"):
                await anext(chunks)
            await asyncio.wait_for(stalling.ended.wait(), 60)

    async def test_a_reader_that_leaves_ends_the_transfer(self, coordinator: Coordinator, identity: Identity) -> None:
        stalling = _Stalling(coordinator.authority)
        async with serving(stalling) as port, connected(port, identity.credentials()) as client:
            chunks = client.read_image("img-1", 0)
            await anext(chunks)
            await chunks.aclose()
            await asyncio.wait_for(stalling.ended.wait(), 60)


class _Stalling(Coordinator):
    """A coordinator that sends one chunk, and then nothing."""

    def __init__(self, authority: Authority) -> None:
        super().__init__(authority)
        self.ended = asyncio.Event()

    async def Read(self, request: image_pb2.ReadImageRequest, context: object) -> AsyncIterator[image_pb2.ImageChunk]:
        yield image_pb2.ImageChunk(data=b"begin")
        try:
            await asyncio.sleep(60)
        finally:
            self.ended.set()
