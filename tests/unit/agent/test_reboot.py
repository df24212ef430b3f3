"""A reboot that a crash of the agent interrupts at each of its commits, on libvirt's test driver."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.domain_lock import DomainLocks
from agent.errors import DomainStopTimeout
from agent.hypervisor.description import PowerState
from agent.hypervisor.reboot import Reboots
from agent.hypervisor.stop import StopProgress
from protos.agent.v1.domain_pb2 import EnsureDefinedRequest, EnsureRunningRequest
from tests.unit.agent.domain_server import DomainServer, serve
from tests.unit.agent.guest_builder import GUEST_UUID, a_spec

WEEK_SECONDS = 7 * 24 * 3600


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[DomainServer]:
    async with serve(tmp_path) as server:
        await server.domains.EnsureDefined(EnsureDefinedRequest(spec=a_spec()))
        await server.domains.EnsureRunning(EnsureRunningRequest(uuid=GUEST_UUID))
        yield server


class _Journal:
    """The journal of one operation, as a crash left it."""

    def __init__(self, server: DomainServer) -> None:
        self.directory = server.directory / "journal"
        self.directory.mkdir(exist_ok=True)
        self.path = self.directory / "reboot-op-1.json"

    def write(self, phase: str, message: str = "") -> None:
        self.path.write_text(json.dumps({"uuid": GUEST_UUID, "phase": phase, "message": message}))

    @property
    def phase(self) -> str:
        return str(json.loads(self.path.read_text())["phase"])


async def _reboot(server: DomainServer, locks: DomainLocks | None = None) -> list[StopProgress]:
    reboots = Reboots(
        server.guests,
        server.stops,
        server.directory / "journal",
        check_startable=server.definitions.check_startable,
        locks=locks or DomainLocks(),
    )
    return [progress async for progress in reboots.reboot(GUEST_UUID, "op-1", force=False, grace_seconds=5)]


async def _state(server: DomainServer) -> PowerState:
    return (await server.guests.get(GUEST_UUID)).power_state


@pytest.mark.parametrize(
    ("phase", "was_running", "is_stopped"),
    [
        ("stopping", True, True),
        ("stopping", False, False),
        ("starting", False, False),
        ("starting", True, False),
        ("done", True, False),
    ],
)
async def test_after_a_crash_the_same_call_goes_on_where_it_was(
    server: DomainServer, phase: str, was_running: bool, is_stopped: bool
) -> None:
    journal = _Journal(server)
    journal.write(phase)
    if not was_running:
        await server.guests.destroy(GUEST_UUID)
    progress = await _reboot(server)
    assert bool(progress) == is_stopped
    assert await _state(server) is PowerState.RUNNING
    assert journal.phase == "done"


async def test_nothing_changes_between_the_look_at_a_guests_devices_and_its_start(server: DomainServer) -> None:
    locks = DomainLocks()
    _Journal(server).write("starting")
    await server.guests.destroy(GUEST_UUID)
    async with locks.of(GUEST_UUID):
        rebooting = asyncio.create_task(_reboot(server, locks))
        await asyncio.sleep(0.2)
        assert await _state(server) is PowerState.SHUTOFF
    await rebooting
    assert await _state(server) is PowerState.RUNNING


async def test_a_done_reboot_is_not_done_again_when_the_guest_has_ended_since(server: DomainServer) -> None:
    _Journal(server).write("done")
    await server.guests.destroy(GUEST_UUID)
    assert await _reboot(server) == []
    assert await _state(server) is PowerState.SHUTOFF


async def test_a_reboot_that_failed_answers_its_failure_again(server: DomainServer) -> None:
    _Journal(server).write("failed", "the guest still runs 5 s after it was asked to shut down")
    with pytest.raises(DomainStopTimeout, match="still runs 5 s"):
        await _reboot(server)
    assert await _state(server) is PowerState.RUNNING


async def test_old_outcomes_are_forgotten_and_young_ones_kept(server: DomainServer) -> None:
    journal = _Journal(server)
    old, young = (journal.directory / f"reboot-{name}.json" for name in ("old", "young"))
    for path, age_seconds in ((old, WEEK_SECONDS + 60), (young, WEEK_SECONDS - 60)):
        path.write_text("{}")
        modified_at = path.stat().st_mtime - age_seconds
        os.utime(path, (modified_at, modified_at))
    await _reboot(server)
    assert not old.exists()
    assert young.exists()
