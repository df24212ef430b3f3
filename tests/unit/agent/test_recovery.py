"""After a start nothing half-made is left, and networks come back whenever libvirt does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agent import recovery
from agent.errors import HypervisorUnavailable
from agent.hypervisor.connection import Connection
from agent.network.nat import NatBackend
from agent.recovery import NetworkRecovery, remove_leftovers
from agent.storage.directory import DirectoryBackend
from agent.storage.seed import _STAGING_PREFIX, Seeds
from tests.unit.agent.nat_node import NatNode
from tests.unit.agent.network_builder import NETWORK, a_libvirt, a_port
from tests.unit.agent.storage_builder import Source, a_cache, nobody


def test_what_a_crash_left_half_made_is_gone(tmp_path: Path) -> None:
    images = a_cache(tmp_path / "images", Source())
    volumes = DirectoryBackend(
        tmp_path / "volumes",
        owner="node-1",
        find_image=images.find,
        find_users=nobody,
        reserved_bytes=0,
    )
    seeds = Seeds(tmp_path / "seeds")
    left = [tmp_path / place / ".new-0a1b2c3d-thing" for place in ("images", "volumes")]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    left.append(tmp_path / "seeds" / f"{_STAGING_PREFIX}0a1b2c3d")
    left[-1].mkdir(parents=True)
    remove_leftovers(images, volumes, seeds)
    assert [path for path in left if path.exists()] == []


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[NatNode]:
    async with a_libvirt(tmp_path) as connection:
        node = NatNode(connection, tmp_path)
        await node.backend.ensure_port(a_port())
        yield node


@asynccontextmanager
async def recovering(connection: Connection, networks: NatBackend) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(NetworkRecovery(connection, networks).run())
    try:
        yield task
        assert not task.done()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def is_up(node: NatNode) -> None:
    """Waits until the network is."""
    async with asyncio.timeout(60):
        while True:
            with suppress(HypervisorUnavailable):
                state = await node.networks.find(NETWORK)
                if state is not None and state.active:
                    return
            await asyncio.sleep(0.01)


async def test_networks_are_up_after_a_start(node: NatNode) -> None:
    await node.touch("destroy")
    async with recovering(node.connection, node.backend):
        await is_up(node)


async def test_networks_come_back_with_libvirt(node: NatNode) -> None:
    """The test driver forgets everything when its last connection closes, as a node does that boots."""
    async with recovering(node.connection, node.backend):
        await is_up(node)
        node.filter.rules = ""
        node.connection._lost.set()  # as libvirt's close callback does
        async with asyncio.timeout(60):
            while not node.filter.rules:
                await asyncio.sleep(0.01)
        await is_up(node)
        assert await node.hosts() == [("52:54:00:00:00:01", "10.80.0.11", "web-1")]


async def test_flushed_rules_come_back_by_themselves(node: NatNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "_FILTER_SECONDS", 0.01)
    async with recovering(node.connection, node.backend):
        await is_up(node)
        for _ in range(2):
            wanted, node.filter.rules = node.filter.rules, ""
            async with asyncio.timeout(60):
                while node.filter.rules != wanted:
                    await asyncio.sleep(0.01)


async def test_a_libvirt_that_is_not_there_yet_is_waited_for(node: NatNode, tmp_path: Path) -> None:
    later = Connection(node.connection.uri, worker_count=1, guest_agent_worker_count=1)
    node.filter.rules = ""
    async with recovering(later, node.backend):
        await asyncio.sleep(0.05)
        assert node.filter.rules == ""
        await later.open()
        async with asyncio.timeout(60):
            while not node.filter.rules:
                await asyncio.sleep(0.01)
    await later.close()


async def test_a_libvirt_that_goes_away_in_the_middle_ends_nothing(
    node: NatNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    was_asked = asyncio.Event()

    async def fail() -> None:
        was_asked.set()
        raise HypervisorUnavailable("libvirt is away")

    monkeypatch.setattr(node.backend, "restore", fail)
    with capture_logs() as logs:
        async with recovering(node.connection, node.backend):
            await asyncio.wait_for(was_asked.wait(), 60)
            await asyncio.sleep(0)
    assert [entry["event"] for entry in logs] == ["network.restore_interrupted"]
