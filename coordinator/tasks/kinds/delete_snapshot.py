"""Deletes a snapshot from all its volumes, wherever those are; guests that run with them go on."""

import asyncio

from sqlmodel import Session, select

from coordinator.agents.client import AgentCallError, NodeAway
from coordinator.domain.instance import InstanceStatus
from coordinator.domain.snapshot import SnapshotStatus
from coordinator.store.queries import snapshot as queries
from coordinator.store.tables.task import Task, TaskStep
from coordinator.tasks.instance_step import Args, blueprint_of, load_instance, require_status, settle, settle_failure
from coordinator.tasks.kinds.delete_instance import RETRY_SECONDS
from coordinator.tasks.model import Failure, Step, StepContext, StepResult, TaskKind
from coordinator.tasks.snapshot_step import has_instance, load_snapshot, places_of, remove_snapshot, show_snapshot
from coordinator.tasks.volume_step import is_given_up

NAME = "delete_snapshot"
_HERE = "remove"
_ADMITTED = (
    InstanceStatus.RUNNING,
    InstanceStatus.STOPPED,
    InstanceStatus.PAUSED,
    InstanceStatus.HIBERNATED,
    InstanceStatus.SOFT_DELETED,
)


async def _remove_here(context: StepContext) -> StepResult:
    """Nobody takes it back, but an instance that is to be started elsewhere does not wait for it.

    It waits neither for the nodes of volumes that others have by now, unless nothing comes after this step.
    """
    node_id, is_last = await asyncio.to_thread(_read, context)
    places = await places_of(context)
    here = [place for place in places if is_last or place.node_id == node_id]
    try:
        await remove_snapshot(context, context.args["snapshotId"], here)
    except NodeAway as error:
        if await is_given_up(context, (await blueprint_of(context)).instance):
            raise AgentCallError(error.code, error.message, transient=False) from error
        raise
    if len(here) == len(places):
        return StepResult({"isWhole": True})
    return StepResult(apply=lambda session: _release(session, context.args))


async def _remove_elsewhere(context: StepContext) -> StepResult:
    if not context.results[_HERE].get("isWhole"):
        await remove_snapshot(context, context.args["snapshotId"], await places_of(context))
    return StepResult()


def _read(context: StepContext) -> tuple[str | None, bool]:
    """The instance's node, None of one that is gone; and whether the task has one step alone, as those of version 1."""
    with context.runtime.database.read() as session:
        steps = session.exec(select(TaskStep.seq).where(TaskStep.task_id == context.task_id)).all()
        node_id = load_instance(session, context.args).node_id if has_instance(session, context.args) else None
        return node_id, len(steps) == 1


def _release(session: Session, args: Args) -> None:
    """Other operations may work on the instance again."""
    if _is_busy(session, args):
        settle(session, args)


def _is_busy(session: Session, args: Args) -> bool:
    """Whether the instance is there, and this deletion what works on it."""
    if not has_instance(session, args):
        return False
    task_id = load_instance(session, args).task_id
    task = session.get(Task, task_id) if task_id else None
    return task is not None and task.kind == NAME and task.args["snapshotId"] == args["snapshotId"]


def _check(session: Session, args: Args) -> None:
    load_snapshot(session, args)
    require_status(load_instance(session, args), "delete a snapshot", *_ADMITTED)


def _forget(session: Session, args: Args) -> None:
    if (found := queries.lock_snapshot(session, args["snapshotId"])) is not None:
        queries.delete_snapshot(session, found)
    _release(session, args)


def _fail(session: Session, args: Args, failure: Failure) -> None:
    """It may be half gone: it can only be deleted again. One that was cancelled in time is as it was."""
    if failure.canceled:
        show_snapshot(session, args, SnapshotStatus(args["statusBefore"]))
    else:
        show_snapshot(session, args, SnapshotStatus.ERROR, failure.message)
    if _is_busy(session, args):
        settle_failure(session, args, failure)


DELETE_SNAPSHOT = TaskKind(
    name=NAME,
    steps=(
        Step(_HERE, _remove_here, point_of_no_return=True, timeout_seconds=1200.0),
        Step("remove_elsewhere", _remove_elsewhere, point_of_no_return=True, timeout_seconds=1200.0),
    ),
    check=_check,
    on_success=_forget,
    on_failure=_fail,
    schema_version=2,
    former_versions=frozenset({1}),
    retry_seconds=RETRY_SECONDS,
)
