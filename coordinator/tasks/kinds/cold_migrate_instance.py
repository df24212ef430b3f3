"""Moves an instance that is off to another node: its disks where the nodes share none, and what it hibernates with."""

from sqlmodel import Session

from coordinator.agents.client import IMAGE_SECONDS
from coordinator.agents.transfer import TRANSFER_SECONDS
from coordinator.domain.instance import InstanceStatus
from coordinator.tasks.blueprint import domain_spec
from coordinator.tasks.content_move import (
    cancel_memory,
    cancel_volumes,
    check_memory,
    copy_memory,
    copy_volume,
)
from coordinator.tasks.instance_move import (
    await_turn,
    change_node,
    check_move,
    ensure_image,
    ensure_ports,
    settle_failed_cold_move,
    settle_move,
    target_blueprint,
    target_of,
    transfer_id,
)
from coordinator.tasks.instance_step import record_power_state, show_status
from coordinator.tasks.model import Step, StepContext, StepResult, TaskKind
from coordinator.tasks.volume_place import read_copied


async def copy_volumes(context: StepContext) -> StepResult:
    """A step: unless it shares them, the target has the volumes of the instance, which is off."""
    blueprint = await target_blueprint(context)
    for place, volume in enumerate(await read_copied(context, blueprint.volumes)):
        await copy_volume(context, volume, transfer_id(context.args, place))
    return StepResult()


async def stop_copying(context: StepContext) -> StepResult:
    """Its undoing."""
    await cancel_volumes(context, await read_copied(context, (await target_blueprint(context)).volumes))
    return StepResult()


async def _define(context: StepContext) -> StepResult:
    await target_of(context).ensure_defined(domain_spec(await target_blueprint(context), context.runtime))
    return StepResult()


async def _arrive(context: StepContext) -> StepResult:
    """With its memory there the guest can go on on the target; until this is stored, it does so on the source alone."""
    await copy_memory(context)
    domain = await target_of(context).get_domain(context.args["uuid"])

    def apply(session: Session) -> None:
        change_node(session, context.args)
        record_power_state(context.args, domain)(session)

    return StepResult(apply=apply)


COLD_MIGRATE_INSTANCE = TaskKind(
    name="cold_migrate_instance",
    steps=(
        Step("await_turn", await_turn),
        Step("check_memory", check_memory, before=show_status(InstanceStatus.MIGRATING)),
        Step("ensure_image", ensure_image, weight=4, timeout_seconds=IMAGE_SECONDS),
        Step("copy_volumes", copy_volumes, undo=stop_copying, weight=12, timeout_seconds=TRANSFER_SECONDS),
        Step("ensure_ports", ensure_ports),
        Step("define", _define),
        Step("arrive", _arrive, undo=cancel_memory, weight=6, timeout_seconds=TRANSFER_SECONDS),
    ),
    check=check_move,
    on_success=settle_move,
    on_failure=settle_failed_cold_move,
)
