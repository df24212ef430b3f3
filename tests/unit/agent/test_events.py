"""Events of domains: all subscribers get them, and who lost some is told so."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.hypervisor.connection import Connection
from agent.hypervisor.events import DomainChange, DomainEvents


@pytest.fixture
async def connection() -> AsyncIterator[Connection]:
    connection = Connection("test:///default")
    yield connection
    await connection.close()


async def _next(queue: asyncio.Queue[DomainChange]) -> DomainChange:
    return await asyncio.wait_for(queue.get(), 60)


async def test_every_subscriber_gets_what_libvirt_tells(connection: Connection) -> None:
    events = DomainEvents(connection)
    await connection.open()
    async with events.subscribe() as first, events.subscribe() as second:
        await connection.call(lambda handle: handle.lookupByName("test").destroy())
        changes = [await _next(first), await _next(second)]
    assert [(change.name, change.kind) for change in changes] == [("test", "stopped")] * 2
    assert not any(change.is_resync for change in changes)


async def test_what_is_told_of_a_device_names_it(connection: Connection) -> None:
    events = DomainEvents(connection)
    await connection.open()
    async with events.subscribe() as queue:
        # libvirt's test driver has no such events: as libvirt would call.
        domain = await connection.call(lambda handle: handle.lookupByName("test"))
        handle = await connection.call(lambda handle: handle)
        await asyncio.to_thread(events.on_device_removed, handle, domain, "ua-dev-1", None)
        await asyncio.to_thread(events.on_device_removal_failed, handle, domain, "ua-dev-1", None)
        changes = [await _next(queue), await _next(queue)]
    assert [(change.kind, change.device_alias) for change in changes] == [
        ("device-removed", "ua-dev-1"),
        ("device-removal-failed", "ua-dev-1"),
    ]


async def test_a_new_connection_means_to_read_everything_again(connection: Connection) -> None:
    events = DomainEvents(connection)
    async with events.subscribe() as queue:
        await connection.open()
        assert (await _next(queue)).is_resync


async def test_a_slow_subscriber_is_told_that_it_lost_changes_and_holds_up_nobody(tmp_path: Path) -> None:
    events = DomainEvents(Connection(f"test://{tmp_path}/absent"))
    async with events.subscribe() as slow, events.subscribe() as quick:
        for number in range(3000):
            events.publish(DomainChange(f"uuid-{number}", "", "started"))
            assert (await _next(quick)).uuid == f"uuid-{number}"
        received = [slow.get_nowait() for _ in range(slow.qsize())]
    assert received[0].is_resync
    assert received[-1].uuid == "uuid-2999"
    assert len(received) < 3000


async def test_who_has_left_gets_nothing_more(tmp_path: Path) -> None:
    events = DomainEvents(Connection(f"test://{tmp_path}/absent"))
    async with events.subscribe() as queue:
        pass
    events.publish(DomainChange("uuid", "", "started"))
    assert queue.empty()
