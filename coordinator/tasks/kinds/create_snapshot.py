"""Takes a snapshot of all volumes of an instance at one moment, whether it runs or not."""

from sqlmodel import Session

from coordinator.domain.instance import InstanceStatus
from coordinator.domain.snapshot import Consistency, SnapshotStatus
from coordinator.errors import StatusUnsupported
from coordinator.store.queries import snapshot as queries
from coordinator.tasks.instance_step import (
    Args,
    agent_of,
    blueprint_of,
    load_instance,
    require_status,
    settle,
    settle_failure,
)
from coordinator.tasks.kinds.forget_snapshot import remove_unless_lost
from coordinator.tasks.model import Failure, Step, StepContext, StepResult, TaskKind
from coordinator.tasks.snapshot_step import CONSISTENCIES, load_snapshot, places_of, show_snapshot
from protos.agent.v1 import snapshot_pb2


async def _take(context: StepContext) -> StepResult:
    blueprint = await blueprint_of(context)
    uuids = [uuid for place in await places_of(context) for uuid in place.volume_uuids]
    taken = await agent_of(context, blueprint).ensure_snapshot_taken(
        context.args["snapshotId"], blueprint.instance.uuid, uuids, quiesces=context.args["quiesces"]
    )
    return StepResult(
        result={"pausedSeconds": taken.paused.ToTimedelta().total_seconds(), "reason": taken.reason},
        apply=lambda session: _record(session, context.args, taken),
    )


def _record(session: Session, args: Args, taken: snapshot_pb2.TakenSnapshot) -> None:
    found = load_snapshot(session, args)
    found.status = SnapshotStatus.AVAILABLE
    found.consistency = CONSISTENCIES.get(taken.consistency, Consistency.CRASH)
    session.add(found)
    allocated = {volume.volume_uuid: volume.allocated_bytes for volume in taken.volumes}
    for item in queries.list_parts(session, found):
        item.part.allocated_bytes = allocated.get(item.volume.uuid, 0)
        session.add(item.part)


async def _remove(context: StepContext) -> StepResult:
    blueprint = await blueprint_of(context)
    uuids = [uuid for place in await places_of(context) for uuid in place.volume_uuids]
    agent = agent_of(context, blueprint)
    return await remove_unless_lost(context, blueprint.instance, agent, context.args["snapshotId"], uuids)


def _check(session: Session, args: Args) -> None:
    instance = load_instance(session, args)
    admitted = (InstanceStatus.RUNNING, InstanceStatus.STOPPED, InstanceStatus.PAUSED)
    require_status(instance, "take a snapshot", *admitted)
    if not queries.list_parts(session, load_snapshot(session, args)):
        raise StatusUnsupported(f"instance {instance.ecs_id} has no volumes", f"实例{instance.ecs_id}没有云盘")


def _fail(session: Session, args: Args, failure: Failure) -> None:
    """Nothing is left of it but the row, which says why."""
    show_snapshot(session, args, SnapshotStatus.ERROR, "canceled" if failure.canceled else failure.message)
    if (found := queries.lock_snapshot(session, args["snapshotId"])) is not None:
        queries.delete_parts(session, found)
    settle_failure(session, args, failure)


CREATE_SNAPSHOT = TaskKind(
    name="create_snapshot",
    # Its own calls have a deadline, which is longer than that of most steps.
    steps=(Step("take", _take, undo=_remove, timeout_seconds=1200.0),),
    check=_check,
    on_success=settle,
    on_failure=_fail,
)
