"""The connection to libvirt: calls, its loss, and how libvirt's errors leave it."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.errors import (
    DomainDefinitionInvalid,
    DomainNotFound,
    DomainStateConflict,
    HypervisorTimeout,
    HypervisorUnavailable,
)
from agent.hypervisor.connection import Connection, ConnectionState
from tests.stopwatch import Stopwatch


@pytest.fixture
async def connection() -> AsyncIterator[Connection]:
    connection = Connection("test:///default", worker_count=2)
    await connection.open()
    yield connection
    await connection.close()


async def test_a_function_runs_with_the_connection(connection: Connection) -> None:
    assert await connection.call(lambda handle: handle.getType()) == "TEST"


async def test_errors_of_libvirt_arrive_as_the_errors_of_the_agent(connection: Connection) -> None:
    with pytest.raises(DomainNotFound):
        await connection.call(lambda handle: handle.lookupByName("nobody"))
    with pytest.raises(DomainDefinitionInvalid):
        await connection.call(lambda handle: handle.defineXML("<domain"))
    with pytest.raises(DomainStateConflict):
        await connection.call(lambda handle: [handle.lookupByName("test").destroy() for _ in range(2)])


async def test_a_call_without_an_answer_ends_in_time(connection: Connection) -> None:
    with Stopwatch() as watch, pytest.raises(HypervisorTimeout):
        await connection.call(lambda _handle: time.sleep(1), timeout_seconds=0.1)
    assert watch.seconds < 0.8
    assert await connection.call(lambda handle: handle.isAlive())


async def test_libvirt_may_be_away_when_the_agent_starts(tmp_path: Path) -> None:
    connection = Connection(f"qemu+unix:///system?socket={tmp_path}/absent")
    await connection.open()
    assert not connection.is_open
    with pytest.raises(HypervisorUnavailable):
        await connection.call(lambda handle: handle.getType())
    await connection.close()


async def test_set_up_comes_before_listeners_and_both_see_every_connection() -> None:
    seen: list[str] = []
    connection = Connection("test:///default")
    connection.add_setup(lambda handle: seen.append(f"set up {handle.getType()}"))
    connection.add_listener(lambda state: seen.append(state.value))
    await connection.open()
    await connection.close()
    assert seen == ["set up TEST", ConnectionState.OPEN.value, ConnectionState.LOST.value]


async def test_libvirt_prints_nothing_by_itself(connection: Connection, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DomainNotFound):
        await connection.call(lambda handle: handle.lookupByName("nobody"))
    assert "nobody" not in capfd.readouterr().err
