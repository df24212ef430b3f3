"""Makes an instance whose disks are copies of another one's, all as they were at one moment.

The source goes on, or stays off, meanwhile: what is copied is a snapshot of our own, which is gone as soon as the
copies are there. Until then no other operation may work on the source: it shows this one as its own. Where a volume
knows no snapshots, the source must be off, and is copied as it is.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from sqlmodel import Session

from coordinator.agents.client import AgentCallError, AgentClient
from coordinator.agents.power_state import power_state_of
from coordinator.agents.snapshot import COPY_SECONDS
from coordinator.domain.instance import PowerState, status_of
from coordinator.domain.snapshot import Consistency
from coordinator.errors import ResourceNotFound
from coordinator.store.queries import instance as instance_query
from coordinator.store.tables.instance import Instance
from coordinator.store.tables.task import Task
from coordinator.tasks.blueprint import volume_size_bytes
from coordinator.tasks.instance_step import Args, blueprint_of, load_instance, rest, settle
from coordinator.tasks.kinds.create_instance import ENSURE_IMAGE, REALIZE_STEPS, let_go, record_volumes
from coordinator.tasks.kinds.forget_snapshot import remove_unless_lost
from coordinator.tasks.model import Failure, Step, StepContext, StepResult, TaskKind
from coordinator.tasks.snapshot_step import CONSISTENCIES
from coordinator.tasks.volume_step import undo_unless_lost
from protos.agent.v1 import storage_pb2

NAME = "clone_instance"


@dataclass(frozen=True, slots=True)
class _Source:
    """The instance that is cloned, None once it is gone, and the agent of the node that copies."""

    instance: Instance | None
    agent: AgentClient


async def _take(context: StepContext) -> StepResult:
    source = await _source_of(context)
    if source.instance is None:
        raise ResourceNotFound("instance", context.args["sourceEcsId"])
    uuids = list(context.args["copies"].values())
    try:
        taken = await source.agent.ensure_snapshot_taken(
            _snapshot_id(context.args), source.instance.uuid, uuids, quiesces=True
        )
    except AgentCallError as error:
        if error.code != "SnapshotUnsupported":
            raise
        return await _take_none(source.instance, source.agent, error)
    consistency = CONSISTENCIES.get(taken.consistency)
    paused_seconds = taken.paused.ToTimedelta().total_seconds()
    return StepResult({"consistency": consistency, "reason": taken.reason, "pausedSeconds": paused_seconds})


async def _take_none(instance: Instance, agent: AgentClient, error: AgentCallError) -> StepResult:
    """Nobody writes to the disks of a guest that is off: they are of one moment as they are."""
    if power_state_of(await agent.get_domain(instance.uuid)) is not PowerState.SHUTOFF:
        raise AgentCallError(error.code, f"{error.message}: stop the instance first", transient=False) from error
    return StepResult({"consistency": Consistency.FILE_SYSTEM, "isWhole": True})


async def _remove_snapshot(context: StepContext) -> StepResult:
    source, uuids = await _source_of(context), list(context.args["copies"].values())
    return await remove_unless_lost(context, source.instance, source.agent, _snapshot_id(context.args), uuids)


async def _copy(context: StepContext) -> StepResult:
    """By the source's node, also where the clone's is another one that shares the directory: it sees all writes."""
    source, blueprint = await _source_of(context), await blueprint_of(context)
    count, made = len(blueprint.volumes), []
    for number, volume in enumerate(blueprint.volumes):

        async def report(progress: storage_pb2.VolumeCopyProgress, done: int = number) -> None:
            percent = min(99, (100 * done + progress.percent) // count)
            await context.report_progress(percent, f"disk {done + 1} of {count}: {progress.percent} %")

        copy = await source.agent.ensure_volume_copied(
            volume.uuid,
            volume_size_bytes(volume),
            volume.volume_type,
            origin_uuid=context.args["copies"][volume.uuid],
            snapshot_id="" if context.results["take_snapshot"].get("isWhole") else _snapshot_id(context.args),
            on_progress=report,
        )
        made.append(copy)
    return StepResult(apply=record_volumes(context.args, made))


async def _remove_copies(context: StepContext) -> StepResult:
    source = await _source_of(context)

    async def remove() -> None:
        for uuid in context.args["copies"]:
            await source.agent.ensure_volume_removed(uuid)

    await undo_unless_lost(context, source.instance, remove())
    return StepResult()


async def _release(context: StepContext) -> StepResult:
    source = await _source_of(context)
    await source.agent.ensure_snapshot_removed(_snapshot_id(context.args), list(context.args["copies"].values()))
    return StepResult(apply=lambda session: _release_source(session, context.args))


async def _source_of(context: StepContext) -> _Source:
    """Where it was when the clone was ordered: once its disks are copied it may be moved, or deleted."""

    def read() -> Instance | None:
        with context.runtime.database.read() as session:
            return instance_query.find_instance(session, context.args["sourceEcsId"])

    return _Source(await asyncio.to_thread(read), context.runtime.agents.of(context.args["sourceNodeId"]))


def _snapshot_id(args: Args) -> str:
    return f"clone-{args['ecsId']}"


def _release_source(session: Session, args: Args) -> None:
    """Other operations may work on the source again, unless one that overtook this does already."""
    source = instance_query.find_instance(session, args["sourceEcsId"], for_update=True)
    task = session.get(Task, source.task_id) if source and source.task_id else None
    if source and task and task.kind == NAME and task.args["ecsId"] == args["ecsId"]:
        rest(session, source, status_of(PowerState(source.power_state)), source.error_message)


def _check(session: Session, args: Args) -> None:
    # The order was checked in full by the service, in this same transaction.
    load_instance(session, args)


def _fail(session: Session, args: Args, failure: Failure) -> None:
    _release_source(session, args)
    let_go(session, args, failure)


CLONE_INSTANCE = TaskKind(
    name=NAME,
    steps=(
        # The copies stand on the images that their origins stand on.
        ENSURE_IMAGE,
        Step("take_snapshot", _take, undo=_remove_snapshot, timeout_seconds=1200.0),
        Step("copy_volumes", _copy, undo=_remove_copies, weight=20, timeout_seconds=COPY_SECONDS),
        Step("remove_snapshot", _release, timeout_seconds=1200.0),
        *REALIZE_STEPS,
    ),
    check=_check,
    on_success=settle,
    on_failure=_fail,
)
