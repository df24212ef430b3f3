"""Gives an instance another size on another node, for its own has no room: it is shut down, moved and started there.

Until it runs there it is the source's, which has its definition and disks as they were.
"""

from sqlmodel import Session

from coordinator.agents.client import IMAGE_SECONDS
from coordinator.agents.transfer import TRANSFER_SECONDS
from coordinator.domain.instance import InstanceStatus
from coordinator.tasks.blueprint import domain_spec
from coordinator.tasks.instance_move import (
    await_turn,
    change_node,
    ensure_image,
    ensure_ports,
    settle_failed_cold_move,
    settle_move,
    source_of,
    target_of,
)
from coordinator.tasks.instance_step import (
    GUEST_TIMEOUT_SECONDS,
    Args,
    admit,
    blueprint_of,
    is_being_deleted,
    record_power_state,
    report_wait,
    show_status,
)
from coordinator.tasks.kinds.cold_migrate_instance import copy_volumes, stop_copying
from coordinator.tasks.model import Step, StepContext, StepResult, TaskKind
from coordinator.tasks.resize import apply_size, resized_blueprint
from coordinator.tasks.volume_step import start_unless_lost, undo_unless_lost
from protos.agent.v1 import domain_pb2


async def _stop(context: StepContext) -> StepResult:
    if not context.args["runs"]:
        return StepResult()
    grace_seconds = context.runtime.settings.stop_grace.total_seconds()
    domain = await source_of(context).ensure_stopped(
        context.args["uuid"], False, grace_seconds, report_wait(context, grace_seconds)
    )
    return StepResult(apply=record_power_state(context.args, domain))


async def _start_there_again(context: StepContext) -> StepResult:
    """On the source, which has everything as it was."""
    instance = (await blueprint_of(context)).instance
    if not context.args["runs"] or is_being_deleted(instance):
        return StepResult()

    async def start() -> StepResult:
        domain = await source_of(context).ensure_running(context.args["uuid"])
        return StepResult(apply=record_power_state(context.args, domain))

    return await start_unless_lost(context, instance, start(), runs=True)


async def _start(context: StepContext) -> StepResult:
    """The instance is the target's once it runs there, or is defined there if it did not run before."""
    blueprint, target = await resized_blueprint(context, context.args["migrationId"]), target_of(context)
    domain = await target.ensure_defined(domain_spec(blueprint, context.runtime))
    if context.args["runs"]:
        domain = await target.ensure_running(context.args["uuid"])
    return StepResult(apply=lambda session: _arrive(session, context.args, domain))


def _arrive(session: Session, args: Args, domain: domain_pb2.Domain) -> None:
    instance = change_node(session, args)
    apply_size(instance, args)
    session.add(instance)
    record_power_state(args, domain)(session)


async def _remove(context: StepContext) -> StepResult:
    """It certainly does not run on the target: only then may it be started on the source."""
    instance, args = (await blueprint_of(context)).instance, context.args
    await undo_unless_lost(context, instance, target_of(context).ensure_removed(args["uuid"]), args["targetNodeId"])
    return StepResult()


MOVE_RESIZED_INSTANCE = TaskKind(
    name="move_resized_instance",
    steps=(
        Step("await_turn", await_turn),
        Step("ensure_image", ensure_image, weight=4, timeout_seconds=IMAGE_SECONDS),
        Step(
            "stop",
            _stop,
            undo=_start_there_again,
            before=show_status(InstanceStatus.MIGRATING),
            timeout_seconds=GUEST_TIMEOUT_SECONDS,
        ),
        Step("copy_volumes", copy_volumes, undo=stop_copying, weight=12, timeout_seconds=TRANSFER_SECONDS),
        Step("ensure_ports", ensure_ports),
        Step("start", _start, undo=_remove, weight=2),
    ),
    check=admit("resize", InstanceStatus.RUNNING, InstanceStatus.STOPPED),
    on_success=settle_move,
    on_failure=settle_failed_cold_move,
)
