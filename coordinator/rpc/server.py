"""The coordinator's gRPC servers: one for peers with a certificate, one for machines that want to join."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from coordinator.pki import CoordinatorIdentity
from coordinator.rpc.audit import AuditInterceptor
from coordinator.rpc.image import ImageServicer
from coordinator.rpc.interceptor import ErrorInterceptor, RoleInterceptor
from coordinator.rpc.join import JoinServicer
from coordinator.rpc.node import NodeServicer
from coordinator.rpc.placement import PlacementServicer
from coordinator.rpc.volume_key import VolumeKeyServicer
from coordinator.runtime import Runtime
from protos.coordinator.v1 import (
    image_pb2,
    image_pb2_grpc,
    join_pb2,
    join_pb2_grpc,
    node_pb2,
    node_pb2_grpc,
    placement_pb2,
    placement_pb2_grpc,
    volume_key_pb2,
    volume_key_pb2_grpc,
)

STOP_GRACE_SECONDS: Final = 3.0

_OPTIONS: Final = (
    # Without this a second process could listen at the same port, and calls would go here and there.
    ("grpc.so_reuseport", 0),
    # Agents keep their connection: hosts that vanished are found out by pings.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)
# A registration tells of every domain and device of a host.
_PEER_OPTIONS: Final = (*_OPTIONS, ("grpc.max_receive_message_length", 64 * 1024 * 1024))
# Anybody may send here.
_JOIN_OPTIONS: Final = (*_OPTIONS, ("grpc.max_receive_message_length", 64 * 1024))

_MTLS_SERVICES: Final = tuple(
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in (
        (node_pb2, "NodeService"),
        (image_pb2, "ImageService"),
        (volume_key_pb2, "VolumeKeyService"),
        (placement_pb2, "PlacementService"),
    )
)
_JOIN_SERVICES: Final = (join_pb2.DESCRIPTOR.services_by_name["JoinService"].full_name,)


class ListenFailed(Exception):
    """A server cannot listen at its address; the message names it."""


class GrpcServers:
    """Both servers. `peer_port` and `join_port` tell where they listen once they are started."""

    def __init__(self, runtime: Runtime, identity: CoordinatorIdentity) -> None:
        settings = runtime.settings
        self._peers = grpc.aio.server(
            interceptors=(ErrorInterceptor(), AuditInterceptor(runtime), RoleInterceptor()), options=_PEER_OPTIONS
        )
        node_pb2_grpc.add_NodeServiceServicer_to_server(NodeServicer(runtime), self._peers)
        image_pb2_grpc.add_ImageServiceServicer_to_server(ImageServicer(runtime), self._peers)
        volume_key_pb2_grpc.add_VolumeKeyServiceServicer_to_server(VolumeKeyServicer(runtime), self._peers)
        placement_pb2_grpc.add_PlacementServiceServicer_to_server(
            PlacementServicer(runtime.database, runtime.hosts), self._peers
        )
        self._join = grpc.aio.server(interceptors=(ErrorInterceptor(),), options=_JOIN_OPTIONS)
        join_pb2_grpc.add_JoinServiceServicer_to_server(JoinServicer(runtime), self._join)
        self._health = [_add_standard(self._peers, _MTLS_SERVICES), _add_standard(self._join, _JOIN_SERVICES)]
        self.peer_port = _listen(self._peers, settings.grpc_listen, identity, is_mutual=True)
        self.join_port = _listen(self._join, settings.join_listen, identity, is_mutual=False)

    async def start(self) -> None:
        """Serves."""
        await self._peers.start()
        await self._join.start()
        for servicer in self._health:
            await servicer.set("", health_pb2.HealthCheckResponse.SERVING)

    async def stop(self) -> None:
        """Takes no new calls, lets those in flight end for a moment, then cancels them."""
        for servicer in self._health:
            await servicer.enter_graceful_shutdown()
        await self._join.stop(STOP_GRACE_SECONDS)
        await self._peers.stop(STOP_GRACE_SECONDS)


def _add_standard(server: grpc.aio.Server, services: Sequence[str]) -> Any:
    """Health checking and reflection, so that ordinary gRPC tools work."""
    servicer: Any = health.aio.HealthServicer()  # type: ignore[attr-defined]  # not in the stubs
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    standard = (health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection((*services, *standard), server)
    return servicer


def _listen(server: grpc.aio.Server, address: str, identity: CoordinatorIdentity, *, is_mutual: bool) -> int:
    try:
        return server.add_secure_port(address, _credentials(identity, is_mutual=is_mutual))
    except RuntimeError as error:
        raise ListenFailed(f"cannot listen at {address}: port in use, or no address of this machine") from error


def _credentials(identity: CoordinatorIdentity, *, is_mutual: bool) -> grpc.ServerCredentials:
    """Credentials that follow the identity's renewals: asked for again with each new connection."""
    return grpc.dynamic_ssl_server_credentials(
        _configuration(identity, is_mutual=is_mutual),
        _watch(identity, is_mutual=is_mutual),  # type: ignore[arg-type]  # the stubs forget that None means no change
        require_client_authentication=is_mutual,
    )


def _configuration(identity: CoordinatorIdentity, *, is_mutual: bool) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(identity.key_pem, identity.cert_pem)], root_certificates=identity.ca_pem if is_mutual else None
    )


def _watch(
    identity: CoordinatorIdentity, *, is_mutual: bool
) -> Callable[[], grpc.ServerCertificateConfiguration | None]:
    served = identity.cert_pem

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal served
        if identity.cert_pem == served:
            return None
        served = identity.cert_pem
        return _configuration(identity, is_mutual=is_mutual)

    return fetch
