"""After a start, and whenever libvirt comes back: libvirt is the truth, and what the node needs is put right.

Rules of the packet filter are looked at all the time, for nobody tells when a person or a firewall flushes them. Guests
are left alone but for the CPUs that they float on: what they should be is the coordinator's business, which hears from
the reporter what they are. A volume, a port or a seed without a domain is no leftover: a creation makes them first.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from agent.devices.keeper import DeviceKeeper
from agent.errors import AgentError
from agent.hypervisor.affinity import Affinities
from agent.hypervisor.connection import Connection, ConnectionState
from agent.hypervisor.events import DomainChange, DomainEvents
from agent.network.nat import NatBackend
from agent.storage.directory import DirectoryBackend
from agent.storage.image_cache import ImageCache
from agent.storage.seed import Seeds

log = structlog.get_logger(__name__)


def remove_leftovers(images: ImageCache, volumes: DirectoryBackend, seeds: Seeds) -> None:
    """Nothing is left of what a crash interrupted half-way; call it before anybody is served."""
    images.prepare()
    volumes.prepare()
    seeds.remove_leftovers()


_FILTER_SECONDS: Final = 30.0
_AFFINITY_RETRY_SECONDS: Final = 30.0
# After these a guest may have other pins: a definition that was made or removed, an older one that ran until now.
_PIN_CHANGES: Final = frozenset(("defined", "undefined", "started", "stopped", "crashed"))


class NetworkRecovery:
    """Networks that ports need are up: a restart of the node, or a person, may have stopped them."""

    def __init__(self, connection: Connection, networks: NatBackend) -> None:
        self._networks = networks
        self._opened = asyncio.Event()
        if connection.is_open:
            self._opened.set()
        connection.add_listener(self._on_connection)

    async def run(self) -> None:
        """Restores at every reconnect, and the packet filter between them, until it is cancelled."""
        while True:
            try:
                await asyncio.wait_for(self._opened.wait(), _FILTER_SECONDS)
            except TimeoutError:
                await self._networks.ensure_filter()
                continue
            self._opened.clear()
            try:
                await self._networks.restore()
            except AgentError as error:  # libvirt is away again: its return brings the next turn
                log.warning("network.restore_interrupted", reason=error.message)

    def _on_connection(self, state: ConnectionState) -> None:
        if state is ConnectionState.OPEN:
            self._opened.set()


class DeviceRecovery:
    """Devices are as guests and the node need them, after libvirt was away: without it nobody knows what guests have.

    At the agent's start it was done before anything was told of devices.
    """

    def __init__(self, connection: Connection, keeper: DeviceKeeper) -> None:
        self._keeper = keeper
        self._opened = asyncio.Event()
        connection.add_listener(self._on_connection)

    async def run(self) -> None:
        """Restores at every reconnect, until it is cancelled."""
        while True:
            await self._opened.wait()
            self._opened.clear()
            await self._keeper.restore()

    def _on_connection(self, state: ConnectionState) -> None:
        if state is ConnectionState.OPEN:
            self._opened.set()


class AffinityRecovery:
    """Guests without pins float where nobody has pins, whatever a crash or a person interrupted or changed."""

    def __init__(self, connection: Connection, affinities: Affinities, events: DomainEvents) -> None:
        self._connection = connection
        self._affinities = affinities
        self._events = events

    async def run(self) -> None:
        """Settles at every reconnect, and after changes that nobody here made, until it is cancelled."""
        async with self._events.subscribe() as changes:
            anew = self._connection.is_open
            pending = anew
            while True:
                if pending:
                    pending = not await self._settle(anew=anew)
                    anew = anew and pending
                batch = await _next_changes(changes, _AFFINITY_RETRY_SECONDS if pending else None)
                anew = anew or any(change.is_resync for change in batch)
                pending = pending or anew or any(change.kind in _PIN_CHANGES for change in batch)

    async def _settle(self, *, anew: bool) -> bool:
        try:
            await self._affinities.settle(anew=anew)
        except AgentError as error:
            log.warning("affinity.settle_interrupted", reason=error.message)
            return False
        return True


async def _next_changes(changes: asyncio.Queue[DomainChange], seconds: float | None) -> list[DomainChange]:
    """All that there are, at least one unless the time is over first."""
    try:
        batch = [await asyncio.wait_for(changes.get(), seconds)]
    except TimeoutError:
        return []
    while not changes.empty():
        batch.append(changes.get_nowait())
    return batch
