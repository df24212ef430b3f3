"""A coordinator killed at any commit: its successor ends in the same state as if nothing had happened."""

import asyncio
import multiprocessing
import signal
from pathlib import Path
from typing import Any

import pytest

from coordinator.domain.task import TaskState
from coordinator.store.database import Database
from tests.database import BOTH_DATABASES
from tests.unit.coordinator.tasks.conftest import running
from tests.unit.coordinator.tasks.toy import Site, make_runtime, run_to_end

pytestmark = BOTH_DATABASES

# Processes that start in milliseconds: forked from one that has imported everything and runs nothing.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.unit.coordinator.tasks.toy"])

# A lease of a dead coordinator is waited out on PostgreSQL: the successor's clock is past it.
_PAST_THE_LEASE_SECONDS = 11

SCENARIOS: dict[str, dict[str, Any]] = {
    "succeeds": {},
    "fails": {"fails_at": "roof", "half_acts": ["roof"]},
}

_SUCCEEDS = [
    "lay.intent",
    "lay.result",
    "raise.intent",
    "raise.result",
    "roof.intent",
    "roof.result",
    "end",
]
_FAILS = [*_SUCCEEDS[:-1], "roof.undo", "raise.undo", "lay.undo", "end"]
POINTS = [
    (scenario, f"build.{place}.{side}")
    for scenario, places in (("succeeds", _SUCCEEDS), ("fails", _FAILS))
    for place in places
    for side in ("before", "after")
]


def _run(database: Database, directory: Path, task_id: str, kill_at: str = "", ahead_seconds: int = 0) -> int | None:
    process = _processes.Process(
        target=run_to_end, args=(database.url, directory, task_id, kill_at, ahead_seconds), daemon=True
    )
    process.start()
    process.join(60)
    return process.exitcode


def _end_state(site: Site, task_id: str) -> dict[str, Any]:
    task = site.task(task_id)
    return {
        "state": task.state,
        "error": (task.error_code, task.error_message, task.message),
        "progress": task.progress_percent,
        "lease": (task.lease_owner, task.lease_expires_at),
        "steps": [(step.name, step.phase, step.state, step.result, step.error) for step in site.steps(task_id)],
        "note": site.note(task_id),
        "files": site.files(task_id),
    }


@pytest.mark.parametrize(("scenario", "point"), POINTS)
def test_a_killed_coordinator_is_succeeded(site: Site, database: Database, scenario: str, point: str) -> None:
    undisturbed = site.submit(**SCENARIOS[scenario])
    assert _run(database, site.directory, undisturbed) == 0

    task_id = site.submit(**SCENARIOS[scenario])
    assert _run(database, site.directory, task_id, kill_at=point) == -signal.SIGKILL
    ahead_seconds = 0 if database.is_sqlite else _PAST_THE_LEASE_SECONDS
    assert _run(database, site.directory, task_id, ahead_seconds=ahead_seconds) == 0

    assert _end_state(site, task_id) == _end_state(site, undisturbed)


async def test_the_points_are_all_commits_of_the_engine(site: Site) -> None:
    """What is killed above is complete: no commit of these scenarios is missing from the list."""
    async with running(site):
        for arguments in SCENARIOS.values():
            await site.wait(await asyncio.to_thread(lambda given=arguments: site.submit(**given)))  # type: ignore[misc]
    assert set(site.points) == {point for _scenario, point in POINTS}


async def test_a_lease_is_respected_until_it_expires(database: Database, tmp_path: Path) -> None:
    """A successor on PostgreSQL leaves the task alone while its holder may still live."""
    if database.is_sqlite:
        pytest.skip("the only coordinator takes over at once")
    directory = tmp_path / "world"
    directory.mkdir()
    site = Site(make_runtime(database, tmp_path), directory)
    task_id = site.submit()
    assert await asyncio.to_thread(_run, database, directory, task_id, "build.lay.intent.after") == -signal.SIGKILL
    async with running(site):
        await asyncio.sleep(1.5)
        assert site.task(task_id).state == TaskState.RUNNING
        assert site.task(task_id).fencing == 1
