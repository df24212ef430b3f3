"""Turning back: asked for, impossible, or stuck half way."""

import asyncio
from dataclasses import replace

from coordinator.domain.task import TaskState
from coordinator.tasks.model import StepCanceled, StepContext, TaskKind
from coordinator.tasks.submission import is_cancelable, request_cancel
from tests.database import BOTH_DATABASES
from tests.stopwatch import Stopwatch
from tests.unit.coordinator.tasks.conftest import running
from tests.unit.coordinator.tasks.toy import (
    BUILD,
    WHOLE,
    Behaviour,
    Site,
    away,
    broken,
    build_with,
    forever,
    make_step,
)

pytestmark = BOTH_DATABASES


def cancel(site: Site, task_id: str) -> bool:
    with site.runtime.database.write() as session:
        asked = request_cancel(session, task_id)
    site.runtime.wake_tasks()
    return asked


async def test_cancellation_interrupts_a_step_and_undoes(site: Site) -> None:
    async with running(site, build_with("raise", forever)):
        task_id = site.submit(half_acts=["raise"])
        await site.wait_for_step(task_id, "raise")
        with Stopwatch() as watch:
            assert cancel(site, task_id)
            task = await site.wait(task_id)
        assert watch.seconds < 0.9
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
        with Stopwatch() as watch:
            cancel(site, task_id)
            assert (await site.wait(task_id)).state == TaskState.CANCELED
        assert watch.seconds < 3


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


async def test_a_task_follows_a_parked_one(site: Site) -> None:
    async with running(site, build_with("lay", undo=broken)):
        first = site.submit(fails_at="lay")
        await site.wait(first, TaskState.NEEDS_OPERATOR)
        assert (await site.wait(site.submit(after=first))).state == TaskState.SUCCEEDED


def settling(behaviour: Behaviour) -> TaskKind:
    """BUILD, whose second step settles cancellations itself."""
    kind = build_with("raise", behaviour)
    return replace(kind, steps=(kind.steps[0], replace(kind.steps[1], settles_cancellation=True), kind.steps[2]))


async def wait_for_cancellation(context: StepContext) -> None:
    """A step that looks for it."""
    while not context.is_cancel_requested():
        await asyncio.sleep(0.01)


async def give_in(context: StepContext) -> None:
    """A step that ends as it was asked to."""
    await wait_for_cancellation(context)
    raise StepCanceled


async def test_a_step_that_settles_cancellation_may_go_through_all_the_same(site: Site) -> None:
    kind = settling(wait_for_cancellation)
    async with running(site, kind):
        task_id = site.submit()
        await site.wait_for_step(task_id, "raise")
        assert is_cancelable(kind, site.task(task_id), site.steps(task_id))
        cancel(site, task_id)
        assert (await site.wait(task_id)).state == TaskState.SUCCEEDED
    assert site.files(task_id) == WHOLE
    assert not is_cancelable(kind, site.task(task_id), site.steps(task_id))


async def test_a_step_that_settles_cancellation_may_give_in(site: Site) -> None:
    async with running(site, settling(give_in)):
        task_id = site.submit()
        await site.wait_for_step(task_id, "raise")
        cancel(site, task_id)
        task = await site.wait(task_id)
    assert (task.state, task.error_code) == (TaskState.CANCELED, "")
    assert site.files(task_id) == {}
    assert site.note(task_id) == "canceled at raise: Canceled"


async def test_who_takes_a_settling_step_over_knows_of_the_cancellation(site: Site) -> None:
    async with running(site, settling(forever)):
        task_id = site.submit()
        await site.wait_for_step(task_id, "raise")
    cancel(site, task_id)
    async with running(site, settling(give_in)):
        assert (await site.wait(task_id)).state == TaskState.CANCELED
    assert site.files(task_id) == {}


async def test_before_a_settling_step_a_cancellation_interrupts_as_ever(site: Site) -> None:
    kind = settling(give_in)
    kind = replace(kind, steps=(make_step("lay", forever), *kind.steps[1:]))
    async with running(site, kind):
        task_id = site.submit()
        await site.wait_for_step(task_id, "lay")
        cancel(site, task_id)
        assert (await site.wait(task_id)).state == TaskState.CANCELED
    assert site.steps(task_id)[1].started_at is None


async def test_a_cancelled_task_whose_undo_fails_for_now_is_not_tried_without_a_pause(site: Site) -> None:
    tries = 0

    async def undo(context: StepContext) -> None:
        nonlocal tries
        tries += 1
        await away(context)

    async with running(site, build_with("raise", forever, undo=undo)):
        task_id = site.submit()
        await site.wait_for_step(task_id, "raise")
        cancel(site, task_id)
        await asyncio.sleep(2)
    assert 1 <= tries <= 5
