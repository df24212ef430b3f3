"""After a start, and whenever libvirt comes back: libvirt is the truth, and what the node needs is put right.

Rules of the packet filter are looked at all the time, for nobody tells when a person or a firewall flushes them. Guests
are left alone: what they should be is the coordinator's business, which hears from the reporter what they are. A
volume, a port or a seed without a domain is no leftover: a creation makes them first.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from agent.errors import AgentError
from agent.hypervisor.connection import Connection, ConnectionState
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
