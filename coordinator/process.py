"""The whole coordinator in one event loop: built in order, watched while it runs, taken down in reverse."""

import asyncio
import gc
import signal
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import structlog

from coordinator import service_manager
from coordinator.agents.client import AgentClients
from coordinator.api.app import create_app
from coordinator.config import Settings
from coordinator.http_server import HttpServer
from coordinator.pki import Authority, CoordinatorIdentity
from coordinator.rpc.server import GrpcServers
from coordinator.runtime import Runtime
from coordinator.secret import SecretBox
from coordinator.services.high_availability import RecoverySweep
from coordinator.services.image_eviction import evict_deleted_images
from coordinator.services.network import ensure_default_network
from coordinator.services.node_report import LeaseSweep, refresh_leases
from coordinator.services.purge import PurgeSweep
from coordinator.services.restart import RestartSweep
from coordinator.services.retention import forget_expired
from coordinator.services.schedule_run import ScheduleSweep
from coordinator.services.snapshot_policy_run import SnapshotPolicySweep
from coordinator.services.snapshot_recycle import SnapshotPurgeSweep
from coordinator.services.ssh_key_binding import KeySweep
from coordinator.services.tenancy import ensure_default_tenant
from coordinator.services.volume_key import check_keys
from coordinator.services.webhook_delivery import WebhookSender
from coordinator.store.clock import DatabaseClock
from coordinator.store.database import Database
from coordinator.tasks.engine import TaskEngine
from coordinator.tasks.kinds import KINDS

CLOCK_SECONDS: Final = 10.0
LEASE_SWEEP_SECONDS: Final = 2.0
RECOVERY_SWEEP_SECONDS: Final = 2.0
RESTART_SWEEP_SECONDS: Final = 2.0
KEY_SWEEP_SECONDS: Final = 2.0
PURGE_SWEEP_SECONDS: Final = 5.0
SNAPSHOT_SWEEP_SECONDS: Final = 2.0
SCHEDULE_SWEEP_SECONDS: Final = 1.0
CERTIFICATE_SWEEP_SECONDS: Final = 600.0
RETENTION_SWEEP_SECONDS: Final = 600.0
IMAGE_SWEEP_SECONDS: Final = 600.0
_STOP_SECONDS: Final = 10.0

log = structlog.get_logger(__name__)


class ComponentFailed(Exception):
    """A part of the process ended by itself; the supervisor starts the whole anew."""


async def serve(settings: Settings, database: Database, *, on_commit: Callable[[str], None] = lambda _: None) -> None:
    """Serves until SIGTERM or SIGINT. The database is migrated; it is closed by the caller.

    `on_commit` is told of every commit of the task engine.
    """
    identity = await asyncio.to_thread(_open_identity, settings)
    clock = DatabaseClock(database)
    await asyncio.to_thread(clock.adjust)
    runtime = Runtime(
        settings=settings,
        database=database,
        secrets=SecretBox.open(settings.state_dir / "secret.key"),
        agents=AgentClients(database, identity, asyncio.get_running_loop()),
        now=clock,
    )
    await asyncio.to_thread(check_keys, runtime)
    await asyncio.to_thread(_seed, runtime)
    http = HttpServer(create_app(runtime), settings, identity)
    grpc_servers = GrpcServers(runtime, identity)
    engine = TaskEngine(runtime, KINDS, on_commit)
    # What is there now stays: else some requests take 0.2 s longer, in which all of it is searched for garbage.
    gc.collect()
    gc.freeze()
    await grpc_servers.start()
    work = {"engine": engine.run(), "http": http.run()} | _background(runtime, clock, identity, http)
    parts = {name: asyncio.create_task(coroutine) for name, coroutine in work.items()}
    runtime.is_engine_alive = lambda: not parts["engine"].done()
    log.info("coordinator.ready", rest=settings.rest_listen, grpc=settings.grpc_listen, join=settings.join_listen)
    service_manager.notify_ready()
    try:
        await _wait_for_end(parts)
    finally:
        service_manager.notify_stopping()
        runtime.events.close()
        http.stop()
        await _settle(parts["http"])
        await grpc_servers.stop()
        engine.stop()
        await _settle(parts["engine"])
        await _settle(parts["webhooks"])
        for part in parts.values():
            part.cancel()
        await asyncio.to_thread(runtime.audit.flush)
        await runtime.agents.close()
        log.info("coordinator.stopped")


def _background(
    runtime: Runtime, clock: DatabaseClock, identity: CoordinatorIdentity, http: HttpServer
) -> dict[str, Coroutine[Any, Any, None]]:
    """What is done beside requests and tasks, by its name."""
    return {
        "events": runtime.events.run(),
        "audit": runtime.audit.run(),
        "webhooks": WebhookSender(runtime).run(),
        "clock": _repeat(CLOCK_SECONDS, clock.adjust),
        "leases": _repeat(LEASE_SWEEP_SECONDS, LeaseSweep(runtime)),
        "recoveries": _repeat(RECOVERY_SWEEP_SECONDS, RecoverySweep(runtime)),
        "restarts": _repeat(RESTART_SWEEP_SECONDS, RestartSweep(runtime)),
        "keys": _repeat(KEY_SWEEP_SECONDS, KeySweep(runtime)),
        "purges": _repeat(PURGE_SWEEP_SECONDS, PurgeSweep(runtime)),
        "snapshotPurges": _repeat(PURGE_SWEEP_SECONDS, SnapshotPurgeSweep(runtime)),
        "snapshotPolicies": _repeat(SNAPSHOT_SWEEP_SECONDS, SnapshotPolicySweep(runtime)),
        "schedules": _repeat(SCHEDULE_SWEEP_SECONDS, ScheduleSweep(runtime)),
        "certificates": _repeat(CERTIFICATE_SWEEP_SECONDS, lambda: _renew_certificate(identity, http)),
        "images": _repeat(IMAGE_SWEEP_SECONDS, lambda: evict_deleted_images(runtime)),
        "retention": _repeat(RETENTION_SWEEP_SECONDS, lambda: forget_expired(runtime)),
    }


def _open_identity(settings: Settings) -> CoordinatorIdentity:
    return CoordinatorIdentity(Authority.open(settings.pki_dir), settings.pki_dir, settings.certificate_hosts)


def _seed(runtime: Runtime) -> None:
    """What every cloud has from its first moment on."""
    runtime.settings.images_dir.mkdir(exist_ok=True, mode=0o700)
    ensure_default_tenant(runtime)
    ensure_default_network(runtime)
    refresh_leases(runtime)
    # Of thousands of hosts it takes seconds, which the first order need not wait for.
    with runtime.hosts.current():
        pass


async def _wait_for_end(parts: dict[str, asyncio.Task[None]]) -> None:
    """Until a signal asks for it; ComponentFailed when a part ended before."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    waiting = asyncio.create_task(asked.wait())
    done, _ = await asyncio.wait([waiting, *parts.values()], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    for name, part in parts.items():
        if part in done:
            raise ComponentFailed(f"{name} ended: {part.exception() or 'without a reason'}") from part.exception()


async def _repeat(seconds: float, sweep: Callable[[], object]) -> None:
    """Calls `sweep` in a thread again and again; what goes wrong this time may go well the next.

    The thread is its own: when hundreds of nodes register at once, leases are looked after as ever.
    """
    thread = ThreadPoolExecutor(1, thread_name_prefix="sweep")
    try:
        while True:
            await asyncio.sleep(seconds)
            try:
                await asyncio.get_running_loop().run_in_executor(thread, sweep)
            except Exception:
                log.exception("sweep.failed")
    finally:
        # What is under way ends by itself; the loop does not wait for it.
        thread.shutdown(wait=False)


async def _settle(part: asyncio.Task[None]) -> None:
    """Until a part has ended that was told to; a stubborn one is cancelled."""
    try:
        await asyncio.wait_for(part, _STOP_SECONDS)
    except Exception:
        log.exception("stop.failed")


def _renew_certificate(identity: CoordinatorIdentity, http: HttpServer) -> None:
    if identity.renew_when_due():
        http.reload_certificate()
        log.info("certificate.renewed")
