"""Guests that ended by themselves, or because somebody wanted it, are known after a power failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from agent import ended_guest
from agent.ended_guest import EndRecord, EndWatch
from agent.errors import HypervisorTimeout
from protos.agent.v1.domain_pb2 import EnsureDefinedRequest
from tests.unit.agent.domain_server import FOREIGN_UUID, DomainServer, serve
from tests.unit.agent.guest_builder import GUEST_UUID, a_spec


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[DomainServer]:
    async with serve(tmp_path) as server:
        await server.domains.EnsureDefined(EnsureDefinedRequest(spec=a_spec()))
        yield server


@pytest.fixture
def record(tmp_path: Path) -> EndRecord:
    return EndRecord(tmp_path / "journal/ended")


@asynccontextmanager
async def watching(server: DomainServer, record: EndRecord) -> AsyncIterator[None]:
    task = asyncio.create_task(EndWatch(record, server.guests, server.events).run())
    # Until it listens, and has read everything.
    await asyncio.sleep(0.05)
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def eventually(question: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not question():
            await asyncio.sleep(0.005)


async def test_an_end_is_kept_until_the_next_start(server: DomainServer, record: EndRecord, tmp_path: Path) -> None:
    async with watching(server, record):
        # Off, but nobody knows why: as everything is after a boot.
        assert record.list() == []
        await server.guests.start(GUEST_UUID)
        await server.guests.destroy(GUEST_UUID)
        await eventually(record.list)
        assert EndRecord(tmp_path / "journal/ended").list() == [GUEST_UUID]
        await server.guests.start(GUEST_UUID)
        await eventually(lambda: not record.list())
        await server.guests.destroy(GUEST_UUID)
        await eventually(record.list)
        await server.guests.remove(GUEST_UUID)
        await eventually(lambda: not record.list())


async def test_what_happened_while_nobody_looked_is_read_at_the_start(server: DomainServer, record: EndRecord) -> None:
    await server.guests.start(GUEST_UUID)
    await server.guests.destroy(GUEST_UUID)
    await server.connection.call(lambda handle: handle.lookupByUUIDString(FOREIGN_UUID).destroy())
    async with watching(server, record):
        await eventually(record.list)
        assert record.list() == [GUEST_UUID]
    await server.guests.start(GUEST_UUID)
    async with watching(server, record):
        await eventually(lambda: not record.list())


async def test_what_libvirt_did_not_answer_is_asked_again(
    server: DomainServer, record: EndRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ended_guest, "_RETRY_SECONDS", 0.01)
    async with watching(server, record):
        find = server.guests.find

        async def fail(uuid: str) -> None:
            monkeypatch.setattr(server.guests, "find", find)
            raise HypervisorTimeout(f"no answer about {uuid}")

        await server.guests.start(GUEST_UUID)
        await asyncio.sleep(0.05)
        monkeypatch.setattr(server.guests, "find", fail)
        await server.guests.destroy(GUEST_UUID)
        await eventually(record.list)
