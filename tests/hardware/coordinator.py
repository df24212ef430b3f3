"""What the node's agent reports to: a coordinator that remembers, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from coordinator.pki import Authority
from protos.agent.v1.host_pb2 import HostInventory
from tests.hardware.machine import OUTSIDE_ADDRESS
from tests.lab.waiting import wait_until
from tests.unit.agent.coordinator_server import Coordinator, an_identity, serving


class _Listener(Coordinator):
    """Keeps the newest inventory; heartbeats come as seldom as in a cloud."""

    def __init__(self, authority: Authority) -> None:
        super().__init__(authority)
        self.heartbeat_seconds = 5.0
        self.inventory = HostInventory()

    async def _receive(self, method: str, request: Any, context: Any) -> None:
        if method in ("Register", "ReportInventory"):
            self.inventory = request.inventory
        await super()._receive(method, request, context)


class StandIn:
    """A coordinator that agents of the node can reach. It lives until `end`."""

    def __init__(self, directory: Path) -> None:
        self.authority = Authority.open(directory)
        self._listener = _Listener(self.authority)
        self._port: Future[int] = Future()
        self._loop = asyncio.new_event_loop()
        self._ending = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)
        self._thread.start()

    @property
    def images(self) -> dict[str, bytes]:
        """What agents can fetch, by id."""
        return self._listener.images

    @property
    def inventory(self) -> HostInventory:
        """What the agent has told last."""
        return self._listener.inventory

    def end(self) -> None:
        """Nobody answers any more."""
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join()

    def write_identity(self, directory: Path) -> None:
        """The files of a node that has joined."""
        an_identity(directory, self.authority, f"{OUTSIDE_ADDRESS}:{self._port.result(10)}")

    def wait_for_inventory(
        self, question: Callable[[HostInventory], bool], what: str, timeout_seconds: float = 30
    ) -> float:
        """Until the agent tells of something; the seconds that it took from now."""
        began = time.monotonic()
        wait_until(lambda: question(self.inventory), what, timeout_seconds=timeout_seconds, interval_seconds=0.02)
        return time.monotonic() - began

    async def _serve(self) -> None:
        async with serving(self._listener) as port:
            self._port.set_result(port)
            await self._ending.wait()
