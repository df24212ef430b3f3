"""Guests that stood still for want of space go on when there is some; those of which a disk has failed do not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import libvirt
import pytest

from agent import stall
from agent.domain_lock import DomainLocks
from agent.hypervisor.connection import Connection
from agent.hypervisor.description import PowerState
from agent.hypervisor.events import DomainEvents
from agent.hypervisor.guest import Guests
from agent.stall import StallWatch
from tests.unit.agent.guest_builder import GUEST_UUID

MIB = 1024**2
NO_SPACE = libvirt.VIR_DOMAIN_DISK_ERROR_NO_SPACE


class Node:
    """A guest that QEMU has paused; also its domain, and all that the watch asks."""

    def __init__(self, file: Path, error: int) -> None:
        self.file, self.error = file, error
        self.free_bytes = 0
        self.resumed = 0
        self.lists = 0
        self.locks = DomainLocks()
        self.reason = "ioerror"

    async def list(self) -> list[Any]:
        self.lists += 1
        state = PowerState.RUNNING if self.resumed else PowerState.PAUSED
        return [
            SimpleNamespace(
                uuid=GUEST_UUID, name="web", foreign=False, power_state=state, power_state_reason=self.reason
            )
        ]

    async def resume(self, _uuid: str) -> None:
        self.resumed += 1

    async def call(self, function: Callable[[Any], Any]) -> Any:
        return function(None)

    def add_setup(self, _register: object) -> None:
        """Nothing happens."""

    add_listener = add_setup

    def state(self) -> tuple[int, int]:
        return libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR

    def diskErrors(self) -> dict[str, int]:
        return {"vda": self.error}

    def XMLDesc(self, _flags: int) -> str:
        return f'<domain><devices><disk><target dev="vda"/><source file="{self.file}"/></disk></devices></domain>'


async def watch(node: Node, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Lets the watch look for a while, or until the guest goes on."""
    monkeypatch.setattr(stall, "find_owned", lambda _handle, _uuid: node)
    connection = cast("Connection", node)

    def free_bytes(_path: Path) -> int:
        assert not node.locks.of(GUEST_UUID).locked()
        return node.free_bytes

    watching = StallWatch(
        connection,
        cast("Guests", node),
        DomainEvents(connection),
        node.locks,
        free_bytes=free_bytes,
        look_seconds=0.01,
    )
    task = asyncio.create_task(watching.run())
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not node.resumed:
                await asyncio.sleep(0.01)
    assert not task.done()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    ("error", "reason", "goes_on"),
    [(NO_SPACE, "ioerror", True), (libvirt.VIR_DOMAIN_DISK_ERROR_UNSPEC, "ioerror", False), (NO_SPACE, "user", False)],
)
async def test_who_goes_on_once_there_is_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int, reason: str, goes_on: bool
) -> None:
    file = tmp_path / "disk.qcow2"
    file.touch()
    node = Node(file, error)
    node.reason = reason
    await watch(node, monkeypatch, 0.2)
    assert not node.resumed
    node.free_bytes = 64 * MIB
    await watch(node, monkeypatch, 60 if goes_on else 0.2)
    assert bool(node.resumed) == goes_on
    # Who needs something else than space is not looked for again and again.
    assert (node.lists > 4) == goes_on
