"""Calls to the coordinator, with a deadline each; failures leave as CoordinatorUnavailable or CoordinatorRefused."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import grpc

from agent.config import split_address
from agent.errors import ImageNotFound, ImageSourceUnavailable, VolumeKeyRefused, VolumeKeyUnavailable
from agent.identity import Credentials
from protos.coordinator.v1 import (
    image_pb2,
    image_pb2_grpc,
    join_pb2,
    join_pb2_grpc,
    node_pb2,
    node_pb2_grpc,
    volume_key_pb2,
    volume_key_pb2_grpc,
)

TARGET_NAME: Final = "coordinator.nodewright.internal"

_CALL_SECONDS: Final = 15.0
_REGISTER_SECONDS: Final = 60.0
# The longest pause between two chunks of an image before the transfer is taken for stuck.
_CHUNK_SECONDS: Final = 60.0
_CLOSE_GRACE_SECONDS: Final = 30.0
_OPTIONS: Final = (
    ("grpc.ssl_target_name_override", TARGET_NAME),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # The agent has its own rhythm of retries; gRPC's back-off would only add to it.
    ("grpc.max_reconnect_backoff_ms", 5_000),
)
# The call may succeed later without anything being changed on this node.
_TRANSIENT: Final = frozenset(
    (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
    )
)

Answer = TypeVar("Answer")


class CoordinatorUnavailable(Exception):
    """The coordinator is away, or too busy: try again."""


class CoordinatorRefused(Exception):
    """The coordinator does not accept the call."""


class RegistrationRequired(CoordinatorRefused):
    """The coordinator does not know this session: register."""


async def join(address: str, authority_pem: str, request: join_pb2.JoinRequest) -> join_pb2.JoinResponse:
    """Exchanges an enrolment token for a certificate; trusts this authority alone."""
    trust = grpc.ssl_channel_credentials(root_certificates=authority_pem.encode())
    async with grpc.aio.secure_channel(address, trust, options=_OPTIONS) as channel:
        with _translated():
            answer: join_pb2.JoinResponse = await join_pb2_grpc.JoinServiceStub(channel).Join(
                request, timeout=_CALL_SECONDS
            )
            return answer


class CoordinatorClient:
    """The coordinator, for a node that has joined."""

    def __init__(self, address: str, credentials: Credentials) -> None:
        self._address = address
        self._channel = _open(address, credentials)

    def reload(self, credentials: Credentials) -> None:
        """Uses the new certificate for every later call; those that are under way may end."""
        former, self._channel = self._channel, _open(self._address, credentials)
        closing = asyncio.create_task(former.close(_CLOSE_GRACE_SECONDS))
        _closings.add(closing)
        closing.add_done_callback(_closings.discard)

    async def close(self) -> None:
        """Ends all calls."""
        await self._channel.close(None)

    async def wait_until_reachable(self, timeout_seconds: float) -> None:
        """A connection with mutual TLS stands. Raises TimeoutError."""
        await asyncio.wait_for(self._channel.channel_ready(), timeout_seconds)

    async def register(self, request: node_pb2.RegisterRequest) -> node_pb2.RegisterResponse:
        """Tells everything."""
        return await self._call(self._node().Register, request, node_pb2.RegisterResponse, _REGISTER_SECONDS)

    async def heartbeat(
        self, request: node_pb2.HeartbeatRequest, timeout_seconds: float = _CALL_SECONDS
    ) -> node_pb2.HeartbeatResponse:
        """Renews the lease. Raises RegistrationRequired."""
        return await self._call(self._node().Heartbeat, request, node_pb2.HeartbeatResponse, timeout_seconds)

    async def report_inventory(self, request: node_pb2.ReportInventoryRequest) -> None:
        """Facts or inventory changed."""
        await self._call(self._node().ReportInventory, request, node_pb2.ReportInventoryResponse)

    async def report_events(self, request: node_pb2.ReportEventsRequest) -> int:
        """The highest sequence number that the coordinator has stored."""
        answer = await self._call(self._node().ReportEvents, request, node_pb2.ReportEventsResponse)
        return answer.acknowledged_sequence

    async def renew_certificate(self, request_pem: str) -> node_pb2.RenewCertificateResponse:
        """A new certificate for this node."""
        request = node_pb2.RenewCertificateRequest(certificate_request_pem=request_pem)
        return await self._call(self._node().RenewCertificate, request, node_pb2.RenewCertificateResponse)

    async def read_image(self, image_id: str, offset_bytes: int) -> AsyncGenerator[bytes, None]:
        """The image's bytes from the offset on. Raises ImageNotFound, ImageSourceUnavailable."""
        request = image_pb2.ReadImageRequest(image_id=image_id, offset_bytes=offset_bytes)
        call = image_pb2_grpc.ImageServiceStub(self._channel).Read(request)
        try:
            async for chunk in _paced(call):
                yield chunk.data
        except grpc.aio.AioRpcError as error:
            reason = f"image {image_id}: {error.details() or error.code().name}"
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise ImageNotFound(reason) from None
            raise ImageSourceUnavailable(reason) from None
        except TimeoutError:
            raise ImageSourceUnavailable(f"image {image_id}: the coordinator sends nothing") from None
        finally:
            call.cancel()

    async def read_volume_key(self, uuid: str) -> str:
        """The passphrase of an encrypted volume. Raises VolumeKeyRefused, VolumeKeyUnavailable."""
        stub = volume_key_pb2_grpc.VolumeKeyServiceStub(self._channel)
        request = volume_key_pb2.GetVolumeKeyRequest(volume_uuid=uuid)
        try:
            key = await self._call(stub.Get, request, volume_key_pb2.VolumeKey)
        except CoordinatorRefused as error:
            raise VolumeKeyRefused(f"volume {uuid}: {error}") from None
        except CoordinatorUnavailable as error:
            raise VolumeKeyUnavailable(f"volume {uuid}: {error}") from None
        return key.passphrase

    def _node(self) -> node_pb2_grpc.NodeServiceStub:
        return node_pb2_grpc.NodeServiceStub(self._channel)

    async def _call(
        self, method: Any, request: Any, answer_kind: type[Answer], timeout_seconds: float = _CALL_SECONDS
    ) -> Answer:
        with _translated():
            answer: Answer = await method(request, timeout=timeout_seconds)
            return answer


# Channels of former certificates that are being closed.
_closings: Final[set[asyncio.Task[None]]] = set()


def _open(address: str, credentials: Credentials) -> grpc.aio.Channel:
    trust = grpc.ssl_channel_credentials(
        root_certificates=credentials.authority_pem,
        private_key=credentials.key_pem,
        certificate_chain=credentials.certificate_pem,
    )
    return grpc.aio.secure_channel(_target(address), trust, options=_OPTIONS)


def _target(address: str) -> str:
    """What gRPC is told: of several coordinators it takes the first that answers, and another when that one is gone."""
    addresses = address.split(",")
    if len(addresses) == 1:
        return address
    found = [_resolve(*split_address("coordinator_address", it)) for it in addresses]
    family = found[0].version
    return f"ipv{family}:" + ",".join(
        f"[{it.ip}]:{it.port}" if family == 6 else f"{it.ip}:{it.port}" for it in found if it.version == family
    )


@dataclass(frozen=True)
class _Endpoint:
    version: int
    ip: str
    port: int


def _resolve(host: str, port: int) -> _Endpoint:
    """The first address of a name. gRPC takes several targets as addresses only."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    return _Endpoint(6 if family == socket.AF_INET6 else 4, str(address[0]), port)


async def _paced(call: Any) -> AsyncIterator[image_pb2.ImageChunk]:
    """The stream's messages; TimeoutError when the next one is too long in coming."""
    while True:
        async with asyncio.timeout(_CHUNK_SECONDS):
            chunk = await call.read()
        if chunk is grpc.aio.EOF:  # type: ignore[attr-defined]  # absent in the stubs only
            return
        yield chunk


class _Translation(contextlib.AbstractContextManager[None]):
    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if not isinstance(error, grpc.aio.AioRpcError):
            return
        reason = f"{error.code().name}: {error.details()}"
        if error.code() in _TRANSIENT:
            raise CoordinatorUnavailable(reason) from None
        if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
            raise RegistrationRequired(reason) from None
        raise CoordinatorRefused(reason) from None


def _translated() -> _Translation:
    """gRPC's failures in the agent's words."""
    return _Translation()
