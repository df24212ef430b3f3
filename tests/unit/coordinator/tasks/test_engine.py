"""Tasks from submission to end, on real databases."""

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, select

from coordinator.domain.task import StepPhase, StepState, TaskState
from coordinator.errors import StatusUnsupported
from coordinator.store.database import Database
from coordinator.store.tables.task import Task
from coordinator.tasks.model import Step, StepContext, StepDeferred, StepResult
from coordinator.tasks.submission import request_cancel
from tests.database import BOTH_DATABASES
from tests.unit.coordinator.tasks.conftest import running
from tests.unit.coordinator.tasks.toy import (
    BUILD,
    STEPS,
    WHOLE,
    Site,
    away,
    build_with,
    forever,
    make_step,
)

pytestmark = BOTH_DATABASES


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


async def test_patience_with_transient_failures_ends(site: Site) -> None:
    async with running(site, build_with("raise", away, retry_seconds=0.6)):
        task_id = site.submit()
        task = await site.wait(task_id)
    assert (task.state, task.error_code, task.error_message) == (TaskState.FAILED, "NodeAway", "node n1 is away")
    assert site.files(task_id) == {}


async def test_the_patience_of_a_step_counts_for_doing_and_not_for_undoing(site: Site) -> None:
    undone = 0

    async def stumble(context: StepContext) -> None:
        nonlocal undone
        undone += 1
        if undone == 1:
            await away(context)

    kind = build_with("raise", away, stumble)
    steps = (kind.steps[0], replace(kind.steps[1], retry_seconds=0.0), kind.steps[2])
    async with running(site, replace(kind, steps=steps)):
        task_id = site.submit()
        task = await site.wait(task_id)
    assert (task.state, task.error_code, undone) == (TaskState.FAILED, "NodeAway", 2)
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


async def test_a_step_that_cannot_begin_yet_waits_without_patience_running_out(site: Site) -> None:
    deferrals = 0

    async def wait_for_turn(_context: StepContext) -> None:
        nonlocal deferrals
        deferrals += 1
        if deferrals < 4:
            raise StepDeferred("three are before it", 0.05)

    async with running(site, build_with("raise", wait_for_turn, retry_seconds=0)):
        task_id = site.submit()
        await site.wait(task_id)
    task = site.task(task_id)
    assert (task.state, task.attempts, deferrals) == (TaskState.SUCCEEDED, 0, 4)
    assert site.files(task_id) == WHOLE


async def test_a_deferred_step_tells_why_and_can_be_cancelled(site: Site) -> None:
    async def never(_context: StepContext) -> None:
        raise StepDeferred("three are before it", 50)

    async with running(site, build_with("raise", never)):
        task_id = site.submit()
        async with asyncio.timeout(60):
            while site.task(task_id).message != "three are before it":
                await asyncio.sleep(0.02)
        with site.runtime.database.write() as session:
            request_cancel(session, task_id)
        site.runtime.wake_tasks()
        assert (await site.wait(task_id)).state == TaskState.CANCELED
    assert site.files(task_id) == {}
