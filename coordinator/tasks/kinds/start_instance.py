"""Starts an instance that is shut off or hibernated, or whose domain somebody removed from its node."""

from sqlmodel import Session

from coordinator.domain.instance import InstanceStatus
from coordinator.tasks.instance_step import (
    Args,
    agent_of,
    blueprint_of,
    define_domain,
    is_removed_by_hand,
    load_instance,
    record_power_state,
    require_status,
    settle,
    settle_failure,
    show_status,
)
from coordinator.tasks.model import Step, StepContext, StepResult, TaskKind


async def _start(context: StepContext) -> StepResult:
    blueprint = await blueprint_of(context)
    domain = await agent_of(context, blueprint).ensure_running(blueprint.instance.uuid)
    return StepResult(apply=record_power_state(context.args, domain))


def _check(session: Session, args: Args) -> None:
    instance = load_instance(session, args)
    # Its disks are there, and the first step puts the definition back.
    if instance.task_id or not is_removed_by_hand(instance):
        require_status(instance, "start", InstanceStatus.STOPPED, InstanceStatus.HIBERNATED)


START_INSTANCE = TaskKind(
    name="start_instance",
    steps=(
        Step("define", define_domain, before=show_status(InstanceStatus.STARTING)),
        Step("start", _start, weight=2),
    ),
    check=_check,
    on_success=settle,
    on_failure=settle_failure,
)
