"""Puts an instance's volumes back to a snapshot; one that runs is stopped before, and started again afterwards.

What the volumes hold is kept in a snapshot of the task's own until all of them are back, so that nothing is lost when
one cannot be.
"""

from sqlmodel import Session

from coordinator.agents.client import NodeAway
from coordinator.domain.instance import InstanceStatus
from coordinator.domain.snapshot import SnapshotStatus
from coordinator.errors import StatusUnsupported
from coordinator.store.queries import snapshot as queries
from coordinator.tasks.instance_step import (
    GUEST_TIMEOUT_SECONDS,
    Args,
    agent_of,
    blueprint_of,
    define_domain,
    is_being_deleted,
    load_instance,
    record_power_state,
    report_wait,
    require_status,
    settle,
    settle_failure,
    show_status,
)
from coordinator.tasks.kinds.delete_instance import RETRY_SECONDS
from coordinator.tasks.kinds.forget_snapshot import remove_unless_lost
from coordinator.tasks.model import Failure, Step, StepContext, StepDeferred, StepResult, TaskKind
from coordinator.tasks.snapshot_step import load_snapshot, places_of, show_snapshot
from coordinator.tasks.volume_step import is_given_up, start_unless_lost

_CALL_SECONDS = 1200.0
_LOOK_AGAIN_SECONDS = 5.0


async def _stop(context: StepContext) -> StepResult:
    if not context.args["starts"]:
        return StepResult()
    blueprint = await blueprint_of(context)
    grace_seconds = context.runtime.settings.stop_grace.total_seconds()
    domain = await agent_of(context, blueprint).ensure_stopped(
        blueprint.instance.uuid, context.args["force"], grace_seconds, report_wait(context, grace_seconds)
    )
    return StepResult(apply=record_power_state(context.args, domain))


async def _start_here(context: StepContext) -> StepResult:
    if not context.args["starts"]:
        return StepResult()
    await define_domain(context)
    blueprint = await blueprint_of(context)
    domain = await agent_of(context, blueprint).ensure_running(blueprint.instance.uuid)
    return StepResult(apply=record_power_state(context.args, domain))


async def _start_again(context: StepContext) -> StepResult:
    instance = (await blueprint_of(context)).instance
    if is_being_deleted(instance):
        return StepResult()
    return await start_unless_lost(context, instance, _start_here(context), runs=context.args["starts"])


async def _start(context: StepContext) -> StepResult:
    """A guest whose disks are back is started elsewhere when its node is given up."""
    instance = (await blueprint_of(context)).instance
    if not await is_given_up(context, instance):
        return await _start_here(context)
    return await start_unless_lost(context, instance, _start_here(context), runs=context.args["starts"])


async def _keep(context: StepContext) -> StepResult:
    blueprint = await blueprint_of(context)
    await agent_of(context, blueprint).ensure_snapshot_taken(
        _own_id(context), blueprint.instance.uuid, await _uuids(context), quiesces=False
    )
    return StepResult()


async def _forget(context: StepContext) -> StepResult:
    blueprint = await blueprint_of(context)
    agent = agent_of(context, blueprint)
    return await remove_unless_lost(context, blueprint.instance, agent, _own_id(context), await _uuids(context))


async def _roll_back(context: StepContext) -> StepResult:
    blueprint = await blueprint_of(context)
    await agent_of(context, blueprint).ensure_rolled_back(context.args["snapshotId"], await _uuids(context))
    return StepResult()


async def _restore(context: StepContext) -> StepResult:
    """Waits for the node, even a lost one: nobody else knows how far the volumes were, and they must not differ."""
    blueprint = await blueprint_of(context)
    try:
        await agent_of(context, blueprint).ensure_rolled_back(_own_id(context), await _uuids(context))
    except NodeAway as error:
        raise StepDeferred(error.message, _LOOK_AGAIN_SECONDS) from error
    return StepResult()


async def _uuids(context: StepContext) -> list[str]:
    return [uuid for place in await places_of(context) for uuid in place.volume_uuids]


def _own_id(context: StepContext) -> str:
    return f"undo.{context.task_id}"


def _check(session: Session, args: Args) -> None:
    instance, found = load_instance(session, args), load_snapshot(session, args)
    require_status(instance, "roll back", InstanceStatus.RUNNING if args["starts"] else InstanceStatus.STOPPED)
    away = [it.volume.uuid for it in queries.list_parts(session, found) if it.volume.instance_id != instance.id]
    if away:
        raise StatusUnsupported(
            f"snapshot {found.snapshot_id} holds volumes that are not the instance's now: "
            f"attach {', '.join(f'volume-{uuid}' for uuid in away)} first",
            f"快照{found.snapshot_id}包含已不属于该实例的云盘，请先挂载："
            + "、".join(f"volume-{uuid}" for uuid in away),
        )


def _succeed(session: Session, args: Args) -> None:
    show_snapshot(session, args, SnapshotStatus.AVAILABLE)
    settle(session, args)


def _fail(session: Session, args: Args, failure: Failure) -> None:
    """Everything is as it was, or the guest could not be started; the snapshot is whole either way."""
    show_snapshot(session, args, SnapshotStatus.AVAILABLE)
    settle_failure(session, args, failure)


ROLL_BACK_INSTANCE = TaskKind(
    name="roll_back_instance",
    steps=(
        Step(
            "stop",
            _stop,
            undo=_start_again,
            before=show_status(InstanceStatus.STOPPING),
            timeout_seconds=GUEST_TIMEOUT_SECONDS,
        ),
        Step("keep", _keep, undo=_forget, timeout_seconds=_CALL_SECONDS),
        Step("roll_back", _roll_back, undo=_restore, weight=2, timeout_seconds=_CALL_SECONDS),
        # Given up, it would stay on the disks for good.
        Step(
            "forget",
            _forget,
            point_of_no_return=True,
            timeout_seconds=_CALL_SECONDS,
            retry_seconds=RETRY_SECONDS,
        ),
        Step("start", _start, before=show_status(InstanceStatus.STARTING), point_of_no_return=True),
    ),
    check=_check,
    on_success=_succeed,
    on_failure=_fail,
)
