"""Deletes a snapshot from all its volumes, wherever those are; guests that run with them go on."""

from sqlmodel import Session

from coordinator.domain.instance import InstanceStatus
from coordinator.domain.snapshot import SnapshotStatus
from coordinator.store.queries import snapshot as queries
from coordinator.tasks.instance_step import Args, load_instance, require_status, settle, settle_failure
from coordinator.tasks.kinds.delete_instance import RETRY_SECONDS
from coordinator.tasks.model import Failure, Step, StepContext, StepResult, TaskKind
from coordinator.tasks.snapshot_step import has_instance, load_snapshot, places_of, remove_snapshot, show_snapshot

_ADMITTED = (
    InstanceStatus.RUNNING,
    InstanceStatus.STOPPED,
    InstanceStatus.PAUSED,
    InstanceStatus.HIBERNATED,
    InstanceStatus.SOFT_DELETED,
)


async def _remove(context: StepContext) -> StepResult:
    await remove_snapshot(context, context.args["snapshotId"], await places_of(context))
    return StepResult()


def _check(session: Session, args: Args) -> None:
    load_snapshot(session, args)
    require_status(load_instance(session, args), "delete a snapshot", *_ADMITTED)


def _forget(session: Session, args: Args) -> None:
    if (found := queries.lock_snapshot(session, args["snapshotId"])) is not None:
        queries.delete_snapshot(session, found)
    if has_instance(session, args):
        settle(session, args)


def _fail(session: Session, args: Args, failure: Failure) -> None:
    """It may be half gone: it can only be deleted again."""
    show_snapshot(session, args, SnapshotStatus.ERROR, failure.message)
    if has_instance(session, args):
        settle_failure(session, args, failure)


DELETE_SNAPSHOT = TaskKind(
    name="delete_snapshot",
    steps=(Step("remove", _remove, point_of_no_return=True, timeout_seconds=1200.0),),
    check=_check,
    on_success=_forget,
    on_failure=_fail,
    retry_seconds=RETRY_SECONDS,
)
