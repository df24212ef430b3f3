"""Deletes a backup: its file on the node, and the state that its volume keeps for the next one."""

from sqlmodel import Session

from coordinator.agents.client import AgentCallError
from coordinator.domain.backup import BackupStatus
from coordinator.domain.instance import InstanceStatus
from coordinator.tasks.backup_step import read_rows, remove_files, remove_states, rows_of, show_backups
from coordinator.tasks.instance_step import Args, blueprint_of, load_instance, require_status, settle, settle_failure
from coordinator.tasks.model import Failure, Step, StepContext, StepResult, TaskKind
from coordinator.tasks.snapshot_step import has_instance

_ADMITTED = (
    InstanceStatus.RUNNING,
    InstanceStatus.STOPPED,
    InstanceStatus.PAUSED,
    InstanceStatus.HIBERNATED,
    InstanceStatus.SOFT_DELETED,
)


async def _remove(context: StepContext) -> StepResult:
    rows = await read_rows(context, lambda session: rows_of(session, context.args))
    instance = (await blueprint_of(context)).instance if context.args["ecsId"] else None
    if not await remove_states(context, instance, [row for row in rows if row.holds_state]):
        raise AgentCallError("NodeAway", "its node is lost: delete it again when the instance runs elsewhere", False)
    await remove_files(context, rows)
    return StepResult()


def _check(session: Session, args: Args) -> None:
    if args["ecsId"]:
        require_status(load_instance(session, args), "delete a backup", *_ADMITTED)


def _forget(session: Session, args: Args) -> None:
    for row in rows_of(session, args):
        session.delete(row)
    if args["ecsId"] and has_instance(session, args):
        settle(session, args)


def _fail(session: Session, args: Args, failure: Failure) -> None:
    """It may be half gone: it can only be deleted again. One that was cancelled in time is as it was."""
    if failure.canceled:
        show_backups(session, args, BackupStatus(args["statusBefore"]))
    else:
        show_backups(session, args, BackupStatus.ERROR, failure.message)
    if args["ecsId"] and has_instance(session, args):
        settle_failure(session, args, failure)


DELETE_BACKUP = TaskKind(
    name="delete_backup",
    steps=(Step("remove", _remove, point_of_no_return=True, timeout_seconds=1200.0),),
    check=_check,
    on_success=_forget,
    on_failure=_fail,
)
