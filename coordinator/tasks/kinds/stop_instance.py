"""Shuts an instance down: asks the guest, or ends it at once when `args["force"]`."""

from sqlmodel import Session

from coordinator.domain.instance import InstanceStatus
from coordinator.tasks.instance_step import (
    GUEST_TIMEOUT_SECONDS,
    Args,
    agent_of,
    blueprint_of,
    load_instance,
    record_power_state,
    report_wait,
    require_status,
    settle,
    settle_failure,
    show_status,
)
from coordinator.tasks.model import Step, StepContext, StepResult, TaskKind


async def _stop(context: StepContext) -> StepResult:
    blueprint = await blueprint_of(context)
    grace_seconds = context.runtime.settings.stop_grace.total_seconds()
    domain = await agent_of(context, blueprint).ensure_stopped(
        blueprint.instance.uuid, context.args["force"], grace_seconds, report_wait(context, grace_seconds)
    )
    return StepResult(apply=record_power_state(context.args, domain))


def _check(session: Session, args: Args) -> None:
    instance = load_instance(session, args)
    if args["force"]:
        # One that hibernates loses what was saved of it.
        admitted = (InstanceStatus.RUNNING, InstanceStatus.PAUSED, InstanceStatus.HIBERNATED)
        require_status(instance, "stop", *admitted)
    else:
        # A paused guest cannot hear the request.
        require_status(instance, "stop gracefully", InstanceStatus.RUNNING)


STOP_INSTANCE = TaskKind(
    name="stop_instance",
    steps=(Step("stop", _stop, before=show_status(InstanceStatus.STOPPING), timeout_seconds=GUEST_TIMEOUT_SECONDS),),
    check=_check,
    on_success=settle,
    on_failure=settle_failure,
)
