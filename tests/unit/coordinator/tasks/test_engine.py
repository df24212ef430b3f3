"""Tasks from submission to end, on real databases."""

import asyncio
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, select

from coordinator.domain.task import StepPhase, StepState, TaskState
from coordinator.errors import StatusUnsupported
from coordinator.store.database import Database, DatabaseInUse
from coordinator.store.tables.task import Task
from coordinator.tasks.model import Step, StepContext, StepResult
from coordinator.tasks.submission import is_cancelable, request_cancel
from tests.unit.coordinator.tasks.conftest import running
from tests.unit.coordinator.tasks.toy import (
    BUILD,
    STEPS,
    Site,
    away,
    broken,
    build_with,
    forever,
    make_runtime,
    make_step,
)

WHOLE = dict.fromkeys(sorted(STEPS), "whole")


def cancel(site: Site, task_id: str) -> bool:
    with site.runtime.database.write() as session:
        asked = request_cancel(session, task_id)
    site.runtime.wake_tasks()
    return asked


async def test_a_task_does_its_steps_in_order_and_succeeds(site: Site) -> None:
    async with running(site):
        task_id = site.submit()
        task = await site.wait(task_id)
    assert (task.state, task.progress_percent, task.error_code) == (TaskState.SUCCEEDED, 100, "")
    assert (task.lease_owner, task.lease_expires_at) == ("", None)
    assert task.finished_at is not None
    assert site.files(task_id) == WHOLE
    assert site.note(task_id) == "built"
    assert [step.result for step in site.steps(task_id)] == [{"made": name} for name in STEPS]


async def test_result_and_next_intent_are_one_commit(site: Site) -> None:
    async with running(site):
        await site.wait(site.submit())
    commits = [
        ["build.lay.intent"],
        ["build.lay.result", "build.raise.intent"],
        ["build.raise.result", "build.roof.intent"],
        ["build.roof.result", "build.end"],
    ]
    expected = [f"{point}.{side}" for points in commits for side in ("before", "after") for point in points]
    assert site.points == expected


async def test_the_check_refuses_within_the_submitting_transaction(site: Site, database: Database) -> None:
    def refuse(_session: Session, _args: object) -> None:
        raise StatusUnsupported("no", "不行")

    with pytest.raises(StatusUnsupported):
        site.submit(kind=replace(BUILD, check=refuse))
    with database.read() as session:
        assert session.exec(select(Task)).all() == []


async def test_submission_wakes_the_engine_at_once(site: Site) -> None:
    async with running(site):
        await site.wait(site.submit())
        began = time.monotonic()
        await site.wait(await asyncio.to_thread(site.submit))
        assert time.monotonic() - began < 0.8  # the poll alone would take about a second


async def test_a_failed_step_is_undone_with_those_before(site: Site) -> None:
    async with running(site):
        task_id = site.submit(fails_at="roof", half_acts=["roof"])
        task = await site.wait(task_id)
    assert (task.state, task.error_code) == (TaskState.FAILED, "ECS.InvalidParameter.Status.NotSupported")
    assert task.error_message == "roof cannot be done"
    assert site.files(task_id) == {}
    assert site.note(task_id) == "failed at roof: ECS.InvalidParameter.Status.NotSupported"
    assert [(step.phase, step.state) for step in site.steps(task_id)] == [(StepPhase.UNDO, StepState.DONE)] * 3
    assert [point for point in site.points if "undo" in point and "before" in point] == [
        "build.roof.undo.before",
        "build.raise.undo.before",
        "build.lay.undo.before",
    ]


async def test_steps_that_never_began_are_not_undone(site: Site) -> None:
    async with running(site):
        task_id = site.submit(fails_at="lay")
        await site.wait(task_id)
    assert [step.phase for step in site.steps(task_id)] == [StepPhase.UNDO, StepPhase.DO, StepPhase.DO]


async def test_a_defect_is_told_to_users_without_its_details(site: Site) -> None:
    async def stumble(_context: StepContext) -> None:
        raise ZeroDivisionError("secret detail")

    async with running(site, build_with("raise", stumble)):
        task = await site.wait(site.submit())
    assert (task.state, task.error_code) == (TaskState.FAILED, "ECS.InternalError")
    assert "secret" not in task.error_message


async def test_a_step_that_takes_too_long_fails(site: Site) -> None:
    steps = tuple(replace(make_step(name, forever), timeout_seconds=0.2) for name in STEPS)
    async with running(site, replace(BUILD, steps=steps)):
        task = await site.wait(site.submit())
    assert (task.state, task.error_code) == (TaskState.FAILED, "StepTimeout")


async def test_transient_failures_are_retried_and_shown(site: Site) -> None:
    messages: list[str] = []
    attempts = 0

    async def twice_away(context: StepContext) -> None:
        nonlocal attempts
        attempts += 1
        messages.append((await asyncio.to_thread(site.task, context.task_id)).message)
        if attempts < 3:
            await away(context)

    async with running(site, build_with("raise", twice_away)):
        task_id = site.submit()
        task = await site.wait(task_id)
    assert task.state == TaskState.SUCCEEDED
    assert messages == ["", "node n1 is away; retrying, attempt 2", "node n1 is away; retrying, attempt 3"]
    assert (task.attempts, task.retrying_since, task.message) == (0, None, "")


async def test_a_database_that_was_away_for_a_moment_costs_a_retry(site: Site) -> None:
    attempts = 0

    async def stumble(_context: StepContext) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise OperationalError("SELECT", {}, Exception("server closed the connection"))

    async with running(site, build_with("raise", stumble)):
        assert (await site.wait(site.submit())).state == TaskState.SUCCEEDED
    assert attempts == 2


async def test_a_task_of_another_version_is_left_alone(site: Site) -> None:
    async with running(site):
        task_id = site.submit(kind=replace(BUILD, schema_version=2))
        await asyncio.sleep(1.3)
        assert site.task(task_id).state == TaskState.PENDING
        assert (await site.wait(site.submit())).state == TaskState.SUCCEEDED


async def test_patience_with_transient_failures_ends(site: Site) -> None:
    async with running(site, build_with("raise", away, retry_seconds=0.6)):
        task_id = site.submit()
        task = await site.wait(task_id)
    assert (task.state, task.error_code, task.error_message) == (TaskState.FAILED, "NodeAway", "node n1 is away")
    assert site.files(task_id) == {}


async def test_reported_progress_renews_the_patience(site: Site) -> None:
    attempts = 0

    async def slow_but_steady(context: StepContext) -> None:
        nonlocal attempts
        attempts += 1
        await context.report_progress(50, f"attempt {attempts}")
        await asyncio.sleep(0.5)
        if attempts < 4:
            await away(context)

    async with running(site, build_with("raise", slow_but_steady, retry_seconds=1.5)):
        task = await site.wait(site.submit())
    assert task.state == TaskState.SUCCEEDED


async def test_progress_counts_the_weights_of_steps(site: Site) -> None:
    seen: list[tuple[int, str]] = []

    async def report(context: StepContext) -> None:
        await context.report_progress(50, "half way")
        task = await asyncio.to_thread(site.task, context.task_id)
        seen.append((task.progress_percent, task.message))

    kind = build_with("raise", report)
    steps = (kind.steps[0], replace(kind.steps[1], weight=2), kind.steps[2])
    async with running(site, replace(kind, steps=steps)):
        await site.wait(site.submit())
    assert seen == [(50, "half way")]


async def test_cancellation_interrupts_a_step_and_undoes(site: Site) -> None:
    async with running(site, build_with("raise", forever)):
        task_id = site.submit(half_acts=["raise"])
        await site.wait_for_step(task_id, "raise")
        began = time.monotonic()
        assert cancel(site, task_id)
        task = await site.wait(task_id)
        assert time.monotonic() - began < 0.9
    assert (task.state, task.error_code) == (TaskState.CANCELED, "")
    assert site.files(task_id) == {}
    assert site.note(task_id) == "canceled at raise: Canceled"


async def test_a_waiting_task_is_cancelled_without_acting(site: Site) -> None:
    async with running(site, build_with("lay", forever)):
        first = site.submit()
        second = site.submit(after=first)
        await site.wait_for_step(first, "lay")
        cancel(site, second)
        task = await site.wait(second)
        assert task.state == TaskState.CANCELED
        assert site.steps(second)[0].started_at is None
        assert site.task(first).state == TaskState.RUNNING


async def test_cancellation_ends_a_back_off(site: Site) -> None:
    async with running(site, build_with("raise", away)):
        task_id = site.submit()
        await site.wait_for_step(task_id, "raise")
        await asyncio.sleep(2)
        cancel(site, task_id)
        assert (await site.wait(task_id, seconds=3)).state == TaskState.CANCELED


async def test_an_ended_task_cannot_be_cancelled(site: Site) -> None:
    async with running(site):
        task_id = site.submit()
        await site.wait(task_id)
    assert not cancel(site, task_id)
    assert not cancel(site, "op-unknown")
    assert site.task(task_id).state == TaskState.SUCCEEDED


async def test_past_the_point_of_no_return_cancellation_is_ignored(site: Site) -> None:
    release = asyncio.Event()

    async def wait(_context: StepContext) -> None:
        await release.wait()

    kind = build_with("raise", wait)
    steps = (kind.steps[0], replace(kind.steps[1], point_of_no_return=True), kind.steps[2])
    kind = replace(kind, steps=steps)
    async with running(site, kind):
        task_id = site.submit()
        await site.wait_for_step(task_id, "raise")
        assert not is_cancelable(kind, site.task(task_id), site.steps(task_id))
        cancel(site, task_id)
        await asyncio.sleep(1.5)
        release.set()
        task = await site.wait(task_id)
    assert task.state == TaskState.SUCCEEDED
    assert site.files(task_id) == WHOLE


async def test_a_failure_past_the_point_of_no_return_is_not_undone(site: Site) -> None:
    steps = (BUILD.steps[0], replace(BUILD.steps[1], point_of_no_return=True), BUILD.steps[2])
    async with running(site, replace(BUILD, steps=steps)):
        task_id = site.submit(fails_at="roof")
        task = await site.wait(task_id)
    assert task.state == TaskState.FAILED
    assert site.files(task_id) == {"lay": "whole", "raise": "whole"}


async def test_a_failed_undo_parks_the_task_for_the_operator(site: Site) -> None:
    async with running(site, build_with("raise", undo=broken)):
        task_id = site.submit(fails_at="roof")
        task = await site.wait(task_id)
    assert (task.state, task.finished_at) == (TaskState.NEEDS_OPERATOR, None)
    assert task.message == "undoing raise failed: not ours"
    assert task.error_message == "roof cannot be done"
    # Neither the rest is undone nor `on_failure` run: what the task holds stays held.
    assert site.files(task_id) == {"lay": "whole", "raise": "whole"}
    assert site.note(task_id) == "without roof"


async def test_cancelling_a_parked_task_tries_its_undo_again(site: Site) -> None:
    is_mended = False

    async def undo(context: StepContext) -> None:
        if not is_mended:
            await broken(context)

    async with running(site, build_with("raise", undo=undo)):
        task_id = site.submit(fails_at="roof")
        await site.wait(task_id, TaskState.NEEDS_OPERATOR)
        is_mended = True
        assert cancel(site, task_id)
        task = await site.wait(task_id)
    assert task.state == TaskState.FAILED
    assert site.files(task_id) == {}


async def test_a_task_waits_for_its_predecessor(site: Site) -> None:
    release = asyncio.Event()

    async def wait(_context: StepContext) -> None:
        await release.wait()

    async with running(site, build_with("lay", wait)):
        first = site.submit()
        second = site.submit(after=first)
        await site.wait_for_step(first, "lay")
        await asyncio.sleep(1.3)
        assert site.task(second).state == TaskState.PENDING
        release.set()
        tasks = [await site.wait(task_id) for task_id in (first, second)]
    assert tasks[0].finished_at is not None
    assert tasks[1].finished_at is not None
    assert tasks[0].finished_at <= tasks[1].finished_at


async def test_a_task_follows_a_parked_one(site: Site) -> None:
    async with running(site, build_with("lay", undo=broken)):
        first = site.submit(fails_at="lay")
        await site.wait(first, TaskState.NEEDS_OPERATOR)
        assert (await site.wait(site.submit(after=first))).state == TaskState.SUCCEEDED


@pytest.mark.parametrize("hook", ["before", "apply", "on_success"])
async def test_a_hook_that_fails_counts_as_a_failed_step(site: Site, hook: str) -> None:
    def stumble(*_arguments: object) -> None:
        raise ZeroDivisionError

    async def do(_context: StepContext) -> StepResult:
        return StepResult({}, stumble if hook == "apply" else None)

    roof = Step("roof", do, before=stumble if hook == "before" else None)
    kind = replace(BUILD, steps=(*BUILD.steps[:2], roof))
    if hook == "on_success":
        kind = replace(kind, on_success=stumble)
    async with running(site, kind):
        task_id = site.submit()
        task = await site.wait(task_id)
    assert (task.state, task.error_code) == (TaskState.FAILED, "ECS.InternalError")
    assert site.files(task_id) == {}
    assert site.note(task_id) == "failed at roof: ECS.InternalError"


async def test_a_failing_on_failure_parks_the_task(site: Site) -> None:
    def stumble(*_arguments: object) -> None:
        raise ZeroDivisionError

    async with running(site, replace(BUILD, on_failure=stumble)):
        task = await site.wait(site.submit(fails_at="lay"))
    assert task.state == TaskState.NEEDS_OPERATOR


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


async def test_many_tasks_run_at_once(site: Site) -> None:
    async def nap(_context: StepContext) -> None:
        await asyncio.sleep(0.3)

    async with running(site, build_with("raise", nap)):
        began = time.monotonic()
        task_ids = await asyncio.to_thread(lambda: [site.submit() for _ in range(40)])
        tasks = [await site.wait(task_id) for task_id in task_ids]
    assert {task.state for task in tasks} == {TaskState.SUCCEEDED}
    assert time.monotonic() - began < 40 * 0.3


async def test_old_tasks_are_forgotten(site: Site, database: Database) -> None:
    async with running(site):
        old, young = site.submit(), site.submit()
        await site.wait(old)
        await site.wait(young)
    with database.write() as session:
        session.get_one(Task, old).finished_at = site.runtime.now() - timedelta(days=31)
    async with running(site):
        async with asyncio.timeout(10):
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
