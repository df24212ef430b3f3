"""The agent as a process: the gRPC server, the loops around it, and an orderly end. Guests run on through all of it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, Final

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from agent.config import AgentConfig, split_address
from agent.ended_guest import EndWatch
from agent.hypervisor.connection import ConnectionState
from agent.identity import Credentials
from agent.metric import MetricInterceptor, Metrics, MetricServer
from agent.network.role import find_own_address
from agent.node import Node, build_node
from agent.notification import notify_systemd
from agent.recovery import AffinityRecovery, DeviceRecovery, NetworkRecovery
from agent.renewal import CertificateRenewal
from agent.reporter import DomainView, Reporter
from agent.rpc.deadline import DeadlineInterceptor
from agent.rpc.device import DeviceServicer
from agent.rpc.domain import DomainServicer
from agent.rpc.guest import GuestServicer
from agent.rpc.host import HostServicer
from agent.rpc.interceptor import ErrorInterceptor, RoleInterceptor
from agent.rpc.migration import MigrationServicer
from agent.rpc.network import NetworkServicer
from agent.rpc.snapshot import SnapshotServicer
from agent.rpc.storage import ImageServicer, VolumeServicer
from agent.rpc.volume_export import VolumeExportServicer
from agent.rpc.volume_transfer import VolumeTransferServicer
from agent.stall import StallWatch
from protos.agent.v1 import (
    device_pb2,
    device_pb2_grpc,
    domain_pb2,
    domain_pb2_grpc,
    guest_pb2,
    guest_pb2_grpc,
    host_pb2,
    host_pb2_grpc,
    migration_pb2,
    migration_pb2_grpc,
    network_pb2,
    network_pb2_grpc,
    snapshot_pb2,
    snapshot_pb2_grpc,
    storage_pb2,
    storage_pb2_grpc,
)

_STOP_GRACE_SECONDS: Final = 5.0
_EVERYTHING: Final = ""  # the health service's name for the server as a whole
_DOMAIN_SERVICE: Final = domain_pb2.DESCRIPTOR.services_by_name["DomainService"].full_name
_FILES: Final = (
    host_pb2.DESCRIPTOR,
    domain_pb2.DESCRIPTOR,
    storage_pb2.DESCRIPTOR,
    network_pb2.DESCRIPTOR,
    guest_pb2.DESCRIPTOR,
    migration_pb2.DESCRIPTOR,
    device_pb2.DESCRIPTOR,
    snapshot_pb2.DESCRIPTOR,
)
_SERVICES: Final = tuple(service.full_name for file in _FILES for service in file.services_by_name.values())
_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # a second agent on this port is a mistake, and shall be told
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)

log = structlog.get_logger(__name__)


async def serve(
    config: AgentConfig,
    *,
    extra_interceptors: Sequence[grpc.aio.ServerInterceptor] = (),  # type: ignore[type-arg]
) -> None:
    """Serves until SIGTERM or SIGINT. Raises IdentityMissing; tests inject faults with `extra_interceptors`."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    node = build_node(config)
    credentials = ServerCredentials(node.identity.credentials())
    node.metrics.certificate_expires.set(credentials.expires_timestamp)
    await asyncio.to_thread(node.peers.write, node.identity.credentials())
    await node.guests.connection.open()
    # First: nothing in these guests goes on before.
    node.snapshots.pauses.resume()
    node.snapshots.freezes.resume()
    node.moves.migrations.resume()
    await node.hardware.keeper.restore()
    await node.storage.volumes.prepare()
    async with _serving(node, credentials, extra_interceptors) as port, _reporting(node, credentials, port):
        notify_systemd("READY=1")
        log.info("agent.ready", port=port, node_id=node.identity.membership().node_id)
        await stopping.wait()
        notify_systemd("STOPPING=1")
    await node.snapshots.freezes.close()
    await node.snapshots.pauses.close()
    await node.storage.images.close()
    await node.moves.sends.close()
    await node.moves.receivers.close()
    await node.coordinator.close()
    await node.guests.connection.close()
    log.info("agent.stopped")


class ServerCredentials:
    """The server's certificate, read anew at every handshake: a renewed one is in use without a restart."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._served: Credentials | None = None

    @property
    def expires_timestamp(self) -> float:
        """When the certificate ends, in seconds since 1970."""
        return self._credentials.validity.not_after.timestamp()

    def replace(self, credentials: Credentials) -> None:
        """New connections get this certificate."""
        self._credentials = credentials

    def for_grpc(self) -> grpc.ServerCredentials:
        """Mutual TLS: no caller without a certificate of the coordinator's authority."""
        return grpc.dynamic_ssl_server_credentials(
            self._configure(),
            self._configure_if_changed,  # type: ignore[arg-type]  # None says "as before"; the stubs do not know it
            require_client_authentication=True,
        )

    def _configure(self) -> grpc.ServerCertificateConfiguration:
        self._served = self._credentials
        pair = (self._served.key_pem, self._served.certificate_pem)
        return grpc.ssl_server_certificate_configuration([pair], root_certificates=self._served.authority_pem)

    def _configure_if_changed(self) -> grpc.ServerCertificateConfiguration | None:
        return None if self._served is self._credentials else self._configure()


@contextlib.asynccontextmanager
async def _serving(node: Node, credentials: ServerCredentials, extra_interceptors: Sequence[Any]) -> AsyncIterator[int]:
    """Answers calls; the value is the port."""
    interceptors = (*build_interceptors(node.metrics), *extra_interceptors)
    server = grpc.aio.server(interceptors=interceptors, options=_OPTIONS)
    _add_services(server, node)
    health_servicer = await _add_health(server, node)
    port = server.add_secure_port(node.config.listen, credentials.for_grpc())
    await server.start()
    try:
        yield port
    finally:
        await health_servicer.enter_graceful_shutdown()
        await server.stop(_STOP_GRACE_SECONDS)


def build_interceptors(metrics: Metrics) -> tuple[grpc.aio.ServerInterceptor, ...]:  # type: ignore[type-arg]
    """What surrounds every call, from the outside in: metrics count what the others make of it."""
    return MetricInterceptor(metrics), ErrorInterceptor(), RoleInterceptor(), DeadlineInterceptor()


def _add_services(server: grpc.aio.Server, node: Node) -> None:
    domains = DomainServicer(
        node.guests.guests,
        node.changes.definitions,
        node.guests.stops,
        node.changes.reboots,
        node.guests.events,
        node.guests.prober,
        node.changes.locks,
        node.changes.attachments,
        node.guests.growths,
        node.guests.hibernations,
    )
    device_pb2_grpc.add_DeviceServiceServicer_to_server(DeviceServicer(node.changes.assignments), server)
    domain_pb2_grpc.add_DomainServiceServicer_to_server(domains, server)
    guest_pb2_grpc.add_GuestServiceServicer_to_server(
        GuestServicer(node.guests.guest_agents, node.guests.prober), server
    )
    host_pb2_grpc.add_HostServiceServicer_to_server(HostServicer(node.hardware.host), server)
    migrations = MigrationServicer(node.moves.migrations, node.moves.incoming, node.changes.definitions, node.peers)
    migration_pb2_grpc.add_MigrationServiceServicer_to_server(migrations, server)
    network_pb2_grpc.add_NetworkServiceServicer_to_server(NetworkServicer(node.networks), server)
    storage_pb2_grpc.add_ImageServiceServicer_to_server(ImageServicer(node.storage.images), server)
    snapshots = SnapshotServicer(node.snapshots.snapshots, node.snapshots.stores)
    snapshot_pb2_grpc.add_SnapshotServiceServicer_to_server(snapshots, server)
    volumes = VolumeServicer(node.storage.volumes, node.changes.attachments, node.snapshots.copies)
    storage_pb2_grpc.add_VolumeServiceServicer_to_server(volumes, server)
    storage_pb2_grpc.add_VolumeExportServiceServicer_to_server(VolumeExportServicer(node.moves.exports), server)
    transfers = VolumeTransferServicer(node.moves.sends, node.moves.receivers, node.peers)
    storage_pb2_grpc.add_VolumeTransferServiceServicer_to_server(transfers, server)


async def _add_health(server: grpc.aio.Server, node: Node) -> Any:
    """The server is healthy while it answers; the domain service only while libvirt does."""
    servicer = health.aio.HealthServicer()  # type: ignore[attr-defined]  # absent in the stubs only
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    reflection.enable_server_reflection((*_SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    for name in (_EVERYTHING, *_SERVICES):
        await servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    changes: set[asyncio.Task[None]] = set()

    def on_connection(state: ConnectionState) -> None:
        serving = state is ConnectionState.OPEN
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        change = asyncio.ensure_future(servicer.set(_DOMAIN_SERVICE, status))
        changes.add(change)
        change.add_done_callback(changes.discard)

    on_connection(ConnectionState.OPEN if node.guests.connection.is_open else ConnectionState.LOST)
    node.guests.connection.add_listener(on_connection)
    return servicer


@contextlib.asynccontextmanager
async def _reporting(node: Node, credentials: ServerCredentials, port: int) -> AsyncIterator[None]:
    """Runs the loops beside the server. One that fails ends the agent: to be started anew is its way to recover."""
    registered = False

    def on_session(present: bool) -> None:
        nonlocal registered
        registered = present

    async def renew_peers(renewed: Credentials) -> None:
        await asyncio.to_thread(node.peers.write, renewed)
        await node.peers.reload()

    def on_renewed(renewed: Credentials) -> None:
        group.create_task(renew_peers(renewed))
        credentials.replace(renewed)
        node.coordinator.reload(renewed)
        node.metrics.certificate_expires.set(credentials.expires_timestamp)

    reporter = Reporter(
        node.coordinator,
        node.hardware.host,
        DomainView(node.guests.guests, node.guests.prober),
        node.guests.events,
        node.guests.self_fence,
        node.hardware.watch,
        advertise_address=lambda: node.config.advertise_address or _guess_address(node, port),
        zone=node.config.zone,
        list_ended=node.guests.ends.list,
        on_session=on_session,
        on_disk_limits=node.storage.disk_limits.tell,
    )
    metric_server = MetricServer(
        node.metrics, lambda: {"libvirt": node.guests.connection.is_open, "coordinator": registered}
    )
    await metric_server.start(*split_address("metrics_listen", node.config.metrics_listen))
    renewal = CertificateRenewal(node.identity, node.coordinator, on_renewed=on_renewed)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(loop) for loop in (reporter.run(), renewal.run(), *_begin_loops(node))]
            yield
            for task in tasks:
                task.cancel()
    finally:
        await metric_server.stop()


def _begin_loops(node: Node) -> tuple[Coroutine[Any, Any, None], ...]:
    """What the node does by itself, beside what it is asked and what it tells."""
    return (
        node.hardware.watch.run(),
        node.changes.usb_return.run(),
        node.changes.disk_return.run(),
        node.guests.prober.run(),
        NetworkRecovery(node.guests.connection, node.networks).run(),
        DeviceRecovery(node.guests.connection, node.hardware.keeper).run(),
        AffinityRecovery(node.guests.connection, node.guests.affinities, node.guests.events).run(),
        node.storage.disk_limits.run(),
        EndWatch(node.guests.ends, node.guests.guests, node.guests.events).run(),
        StallWatch(node.guests.connection, node.guests.guests, node.guests.events, node.changes.locks).run(),
        node.storage.images.run(),
        node.storage.volumes.run(),
        node.storage.keys.run(),
        node.moves.exports.run(),
    )


def _guess_address(node: Node, port: int) -> str:
    """Where the coordinator reaches this agent, when nobody has said it."""
    own = find_own_address(node.config, node.identity.membership())
    return f"[{own}]:{port}" if ":" in own else f"{own}:{port}"
