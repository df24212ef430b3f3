"""One connection to libvirt that comes back by itself, and the threads that use it.

Crash-only: whatever breaks, the connection is dropped and opened anew, every callback is registered again and
the listeners are told, so that they read the full state instead of repairing what they know. There is no
keepalive: it misfires on hosts with many guests, the socket of a dead libvirtd closes by itself, and every
call has a timeout of its own.

libvirtd works on so many calls of a client at once (max_client_requests, 5 by default) and lets the others wait. So
what may take long has connections of its own: silent guests, and guests that are moved, hold up nobody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import Callable
from enum import Enum
from typing import TypeVar

import libvirt
import structlog

from agent.errors import HypervisorTimeout, HypervisorUnavailable
from agent.hypervisor.eventloop import ensure_event_loop
from agent.hypervisor.pool import WorkerPool
from agent.hypervisor.translation import is_connection_loss, translate

T = TypeVar("T")

_FIRST_RETRY_SECONDS = 0.2
_LAST_RETRY_SECONDS = 5.0
_OPEN_TIMEOUT_SECONDS = 30.0
_MIGRATION_WORKERS = 16
_MIGRATION_TIMEOUT_SECONDS = 7 * 24 * 3600.0

log = structlog.get_logger(__name__)


class ConnectionState(Enum):
    """What a listener is told: after LOST nothing can be asked, after OPEN everything must be read again."""

    OPEN = "open"
    LOST = "lost"


class _Lane:
    """Calls of one sort: their threads, and their connection while there is one."""

    def __init__(self, name: str, worker_count: int) -> None:
        self.pool = WorkerPool(name, worker_count)
        self.handle: libvirt.virConnect | None = None


class Connection:
    """A connection to libvirt for the event loop in which it was opened."""

    def __init__(
        self, uri: str = "qemu:///system", *, worker_count: int = 8, guest_agent_worker_count: int = 8
    ) -> None:
        self.uri = uri
        self._calls = _Lane("libvirt", worker_count)
        self._guest_agent_calls = _Lane("guest-agent", guest_agent_worker_count)
        self._migrations = _Lane("migration", _MIGRATION_WORKERS)
        self._lanes = (self._calls, self._guest_agent_calls, self._migrations)
        self._setups: list[Callable[[libvirt.virConnect], None]] = []
        self._listeners: list[Callable[[ConnectionState], None]] = []
        self._lost = asyncio.Event()
        self._first_attempt = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether libvirt can be asked at this moment."""
        return self._calls.handle is not None

    def add_setup(self, setup: Callable[[libvirt.virConnect], None]) -> None:
        """Has the function run, in a worker thread, on every new connection for calls before anybody else uses it."""
        self._setups.append(setup)

    def add_listener(self, listener: Callable[[ConnectionState], None]) -> None:
        """Has the function, which must not block, called in the event loop on every OPEN and LOST."""
        self._listeners.append(listener)

    async def open(self) -> None:
        """Starts to keep the connection open; returns after the first attempt, also when libvirt is away."""
        ensure_event_loop()
        self._keeper = asyncio.create_task(self._keep_open(), name="libvirt-connection")
        await self._first_attempt.wait()

    async def close(self) -> None:
        """Gives the connection up for good."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        await self._drop()
        for lane in self._lanes:
            lane.pool.stop()

    async def call(self, function: Callable[[libvirt.virConnect], T], *, timeout_seconds: float = 30.0) -> T:
        """Runs the function with the connection in a worker thread and answers its result.

        Raises HypervisorUnavailable while libvirt is away, HypervisorTimeout, and the agent's error for each
        of libvirt's.
        """
        return await self._run(self._calls, function, timeout_seconds)

    async def call_guest_agent(self, function: Callable[[libvirt.virConnect], T], *, timeout_seconds: float) -> T:
        """Like `call`, in threads and with a connection of its own: silent guests can use up only these."""
        return await self._run(self._guest_agent_calls, function, timeout_seconds)

    async def call_migration(self, function: Callable[[libvirt.virConnect], T]) -> T:
        """Like `call`, for what ends when a whole guest has been moved, in threads and with a connection of its own."""
        return await self._run(self._migrations, function, _MIGRATION_TIMEOUT_SECONDS)

    async def _run(self, lane: _Lane, function: Callable[[libvirt.virConnect], T], timeout_seconds: float) -> T:
        handle = lane.handle
        if handle is None:
            raise HypervisorUnavailable(f"libvirt at {self.uri} is away")
        try:
            return await lane.pool.run(lambda: function(handle), timeout_seconds=timeout_seconds)
        except TimeoutError:
            raise HypervisorTimeout(f"libvirt did not answer within {timeout_seconds:g} s") from None
        except libvirt.libvirtError as error:
            if is_connection_loss(error) and lane.handle is handle:
                self._lost.set()
            raise translate(error) from error

    async def _keep_open(self) -> None:
        retry_seconds = _FIRST_RETRY_SECONDS
        while True:
            try:
                await self._establish()
            except Exception as error:  # whatever it is, there is no connection, and the next attempt may have one
                log.warning("hypervisor.unreachable", uri=self.uri, reason=str(error))
                self._first_attempt.set()
                await asyncio.sleep(retry_seconds * random.uniform(0.8, 1.2))  # noqa: S311 - spreads load, no secret
                retry_seconds = min(retry_seconds * 2, _LAST_RETRY_SECONDS)
                continue
            retry_seconds = _FIRST_RETRY_SECONDS
            self._tell(ConnectionState.OPEN)
            self._first_attempt.set()
            await self._lost.wait()
            log.warning("hypervisor.lost", uri=self.uri)
            await self._drop()

    async def _establish(self) -> None:
        loop = asyncio.get_running_loop()
        self._lost.clear()

        def on_close(*_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits for the connection any more
                loop.call_soon_threadsafe(self._lost.set)

        def connect() -> list[libvirt.virConnect]:
            # libvirt's test driver keeps what it simulates in the connection.
            count = 1 if self.uri.startswith("test:") else len(self._lanes)
            handles = [libvirt.open(self.uri) for _ in range(count)]
            for handle in handles:
                with contextlib.suppress(libvirt.libvirtError):  # not every driver can tell
                    handle.registerCloseCallback(on_close, None)
            for setup in self._setups:
                setup(handles[0])
            return handles

        handles = await self._calls.pool.run(connect, timeout_seconds=_OPEN_TIMEOUT_SECONDS)
        for lane, handle in zip(self._lanes, itertools.cycle(handles), strict=False):
            lane.handle = handle
        log.info("hypervisor.connected", uri=self.uri)

    async def _drop(self) -> None:
        handles = {lane.handle for lane in self._lanes if lane.handle is not None}
        for lane in self._lanes:
            lane.handle = None
        if not handles:
            return
        self._tell(ConnectionState.LOST)
        for handle in handles:
            with contextlib.suppress(libvirt.libvirtError, TimeoutError):
                await self._calls.pool.run(handle.close, timeout_seconds=_FIRST_RETRY_SECONDS)

    def _tell(self, state: ConnectionState) -> None:
        for listener in self._listeners:
            listener(state)
