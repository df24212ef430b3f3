"""Who works on a task: engines that start, stop, hang, and share."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from coordinator.domain.clock import utc_now
from coordinator.domain.task import TaskState
from coordinator.store.database import Database, DatabaseInUse
from coordinator.store.tables.task import Task
from coordinator.tasks.model import StepContext
from tests.database import BOTH_DATABASES
from tests.stopwatch import Stopwatch
from tests.unit.coordinator.tasks.conftest import running
from tests.unit.coordinator.tasks.toy import (
    BUILD,
    WHOLE,
    Site,
    build_with,
    forever,
    make_runtime,
)

pytestmark = BOTH_DATABASES


async def test_submission_wakes_the_engine_at_once(site: Site) -> None:
    async with running(site):
        await site.wait(site.submit())
        with Stopwatch() as watch:
            await site.wait(await asyncio.to_thread(site.submit))
        assert watch.seconds < 0.8  # the poll alone would take about a second


async def test_a_task_of_another_version_is_left_alone(site: Site) -> None:
    async with running(site):
        task_id = site.submit(kind=replace(BUILD, schema_version=2))
        await asyncio.sleep(1.3)
        assert site.task(task_id).state == TaskState.PENDING
        assert (await site.wait(site.submit())).state == TaskState.SUCCEEDED


async def test_a_stopped_engine_lets_go_at_once(site: Site) -> None:
    async with running(site, build_with("raise", forever)):
        task_id = site.submit()
        await site.wait_for_step(task_id, "raise")
    task = site.task(task_id)
    assert (task.state, task.lease_owner, task.lease_expires_at) == (TaskState.RUNNING, "", None)
    async with running(site):
        assert (await site.wait(task_id)).state == TaskState.SUCCEEDED
    assert site.files(task_id) == WHOLE


async def test_a_stale_runner_cannot_commit(site: Site, database: Database, tmp_path: Path) -> None:
    """The first engine hangs past its lease; a second takes over and finishes; what the first then does is void."""
    release = asyncio.Event()

    async def hang(_context: StepContext) -> None:
        await release.wait()

    async with running(site, build_with("raise", hang)):
        task_id = site.submit()
        await site.wait_for_step(task_id, "raise")
        with database.write() as session:
            session.get_one(Task, task_id).lease_expires_at = site.runtime.now() - timedelta(seconds=1)
        second = Site(make_runtime(database, tmp_path), site.directory)
        async with running(second):
            await second.wait(task_id)
            ended = second.task(task_id)
            release.set()
            await asyncio.sleep(0.3)
    assert site.task(task_id) == ended
    assert ended.fencing == 2
    assert site.note(task_id) == "built"
    assert "build.raise.result.before" not in site.points


@pytest.mark.parametrize("column", ["not_before", "lease_expires_at"])
async def test_a_clock_that_was_turned_back_holds_no_task_up(site: Site, database: Database, column: str) -> None:
    task_id = site.submit()
    with database.write() as session:
        setattr(session.get_one(Task, task_id), column, utc_now() + timedelta(minutes=10))
    async with running(site):
        assert (await site.wait(task_id)).state == TaskState.SUCCEEDED


async def test_many_tasks_run_at_once(site: Site) -> None:
    async def nap(_context: StepContext) -> None:
        await asyncio.sleep(0.3)

    async with running(site, build_with("raise", nap)):
        with Stopwatch() as watch:
            task_ids = await asyncio.to_thread(lambda: [site.submit() for _ in range(40)])
            tasks = [await site.wait(task_id) for task_id in task_ids]
    assert {task.state for task in tasks} == {TaskState.SUCCEEDED}
    assert watch.seconds < 40 * 0.3


async def test_old_tasks_are_forgotten(site: Site, database: Database) -> None:
    async with running(site):
        old, young = site.submit(), site.submit()
        await site.wait(old)
        await site.wait(young)
    with database.write() as session:
        session.get_one(Task, old).finished_at = site.runtime.now() - timedelta(days=31)
    async with running(site):
        async with asyncio.timeout(60):
            while await asyncio.to_thread(site.steps, old):
                await asyncio.sleep(0.05)
    with database.read() as session:
        assert session.get(Task, old) is None
        assert session.get(Task, young) is not None


async def test_a_second_coordinator_on_sqlite_is_refused(site: Site, database: Database, tmp_path: Path) -> None:
    if not database.is_sqlite:
        pytest.skip("PostgreSQL may be shared")
    async with running(site):
        await site.wait(site.submit())
        other = Database(database.url)
        with pytest.raises(DatabaseInUse):
            await Site(make_runtime(other, tmp_path), site.directory).engine().run()
        other.close()


async def test_two_engines_share_the_work_on_postgresql(site: Site, database: Database, tmp_path: Path) -> None:
    if database.is_sqlite:
        pytest.skip("one coordinator only")
    second = Site(make_runtime(database, tmp_path), site.directory)
    async with running(site), running(second):
        task_ids = await asyncio.to_thread(lambda: [site.submit() for _ in range(60)])
        for task_id in task_ids:
            assert (await site.wait(task_id)).state == TaskState.SUCCEEDED
    # Each commit was made by one of the two, once.
    ends = [point for one in (site, second) for point in one.points if point == "build.end.after"]
    assert len(ends) == 60
    assert all(site.task(task_id).fencing == 1 for task_id in task_ids)
