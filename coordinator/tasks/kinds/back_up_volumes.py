"""Backs up volumes of an instance at one moment, whether it runs or not.

Each volume keeps the state that was backed up, as a snapshot that nobody sees, until the next backup: that holds what
has changed since. The volume's node tells from the volume itself what that is, so that nothing can break the chain
unnoticed: if the state is not there any more the backup is whole.
"""

from typing import Any

from sqlmodel import Session

from coordinator.agents.export import EXPORT_SECONDS
from coordinator.domain.backup import FILE_LIFE, BackupStatus, name_file
from coordinator.domain.instance import InstanceStatus
from coordinator.domain.snapshot import Consistency
from coordinator.store.queries import backup as queries
from coordinator.store.tables import VolumeBackup
from coordinator.tasks.backup_step import forget_states, read_rows, remove_files, remove_states, rows_of, show_backups
from coordinator.tasks.instance_step import Args, admit, agent_of, blueprint_of, settle, settle_failure
from coordinator.tasks.kinds.forget_snapshot import remove_unless_lost
from coordinator.tasks.model import Failure, Step, StepContext, StepResult, TaskKind
from coordinator.tasks.snapshot_step import CONSISTENCIES
from protos.agent.v1 import snapshot_pb2, storage_pb2


async def _take(context: StepContext) -> StepResult:
    blueprint = await blueprint_of(context)
    rows = await read_rows(context, lambda session: rows_of(session, context.args))
    taken = await agent_of(context, blueprint).ensure_snapshot_taken(
        context.args["pointId"],
        blueprint.instance.uuid,
        [row.volume_uuid for row in rows],
        quiesces=context.args["quiesces"],
    )
    return StepResult(
        result={"pausedSeconds": taken.paused.ToTimedelta().total_seconds(), "reason": taken.reason},
        apply=lambda session: _record_state(context, session, taken),
    )


def _record_state(context: StepContext, session: Session, taken: snapshot_pb2.TakenSnapshot) -> None:
    for row in rows_of(session, context.args):
        row.consistency = CONSISTENCIES.get(taken.consistency, Consistency.CRASH)
        row.taken_at = context.runtime.now()
        session.add(row)


async def _remove_states(context: StepContext) -> StepResult:
    blueprint = await blueprint_of(context)
    rows = await read_rows(context, lambda session: rows_of(session, context.args))
    uuids, agent = [row.volume_uuid for row in rows], agent_of(context, blueprint)
    return await remove_unless_lost(context, blueprint.instance, agent, context.args["pointId"], uuids)


async def _export(context: StepContext) -> StepResult:
    """The node has the files; those that a repeated step finds there stay."""
    agent = agent_of(context, await blueprint_of(context))
    rows = await read_rows(context, lambda session: rows_of(session, context.args))
    found: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(rows):

        async def report(
            progress: storage_pb2.VolumeExportProgress, number: int = number, row: VolumeBackup = row
        ) -> None:
            percent = (100 * number + progress.percent) // len(rows)
            await context.report_progress(percent, f"copying volume-{row.volume_uuid}: {progress.percent}%")

        parent_snapshot_id, parent_name = await _parent_of(context, row)
        done = await agent.ensure_volume_exported(
            row.volume_uuid,
            row.backup_id,
            report,
            snapshot_id=row.point_id,
            parent_snapshot_id=parent_snapshot_id,
            parent_name=parent_name,
        )
        found[row.backup_id] = {
            "fileBytes": done.size_bytes,
            "sha256": done.sha256,
            "isIncrement": done.is_increment,
            "wholeBecause": done.whole_because,
        }
    return StepResult(result=found, apply=lambda session: _record_files(context, session, found))


async def _parent_of(context: StepContext, row: VolumeBackup) -> tuple[str, str]:
    """The state that the backup is based on, and how its file is called."""
    if not row.parent_id:
        return "", ""
    [parent] = await read_rows(context, lambda session: queries.list_by_ids(session, [row.parent_id]))
    return parent.point_id, name_file(parent.backup_id)


def _record_files(context: StepContext, session: Session, found: dict[str, dict[str, Any]]) -> None:
    for row in rows_of(session, context.args):
        file = found[row.backup_id]
        row.file_bytes, row.sha256, row.whole_because = file["fileBytes"], file["sha256"], file["wholeBecause"]
        row.parent_id = row.parent_id if file["isIncrement"] else ""
        row.file_expires_at = context.runtime.now() + FILE_LIFE
        row.status, row.holds_state = BackupStatus.AVAILABLE, True
        session.add(row)


async def _remove_files(context: StepContext) -> StepResult:
    await remove_files(context, await read_rows(context, lambda session: rows_of(session, context.args)))
    return StepResult()


async def _release(context: StepContext) -> StepResult:
    """The volumes keep the newest state alone; what this leaves behind the next backup removes."""

    def list_former(session: Session) -> list[VolumeBackup]:
        uuids = [row.volume_uuid for row in rows_of(session, context.args)]
        return [row for row in queries.list_with_state(session, uuids) if row.point_id != context.args["pointId"]]

    former = await read_rows(context, list_former)
    if not await remove_states(context, (await blueprint_of(context)).instance, former):
        return StepResult()
    return StepResult(apply=lambda session: forget_states(session, [row.backup_id for row in former]))


def _give_up(session: Session, args: Args, failure: Failure) -> None:
    """Nothing is left but the rows, which say why. Backups that are there stay, whatever came of the older states."""
    if failure.step != "release":
        show_backups(session, args, BackupStatus.ERROR, "canceled" if failure.canceled else failure.message)
        forget_states(session, args["backupIds"])
    settle_failure(session, args, failure)


BACK_UP_VOLUMES = TaskKind(
    name="back_up_volumes",
    steps=(
        # Its own calls have a deadline, which is longer than that of most steps.
        Step("take", _take, undo=_remove_states, timeout_seconds=1200.0),
        Step("export", _export, undo=_remove_files, weight=8, timeout_seconds=EXPORT_SECONDS),
        Step("release", _release, point_of_no_return=True, timeout_seconds=1200.0),
    ),
    check=admit("make a backup", InstanceStatus.RUNNING, InstanceStatus.STOPPED, InstanceStatus.PAUSED),
    on_success=settle,
    on_failure=_give_up,
)
