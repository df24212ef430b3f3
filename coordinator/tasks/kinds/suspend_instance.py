"""Pauses the vCPUs of a running instance; its memory stays where it is."""

from coordinator.domain.instance import InstanceStatus
from coordinator.tasks.instance_step import (
    admit,
    agent_of,
    blueprint_of,
    record_power_state,
    settle,
    settle_failure,
)
from coordinator.tasks.model import Step, StepContext, StepResult, TaskKind


async def _suspend(context: StepContext) -> StepResult:
    blueprint = await blueprint_of(context)
    domain = await agent_of(context, blueprint).ensure_paused(blueprint.instance.uuid)
    return StepResult(apply=record_power_state(context.args, domain))


SUSPEND_INSTANCE = TaskKind(
    name="suspend_instance",
    steps=(Step("suspend", _suspend),),
    check=admit("suspend", InstanceStatus.RUNNING),
    on_success=settle,
    on_failure=settle_failure,
)
