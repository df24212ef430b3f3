"""Lets the vCPUs of a paused instance run again."""

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


async def _resume(context: StepContext) -> StepResult:
    blueprint = await blueprint_of(context)
    domain = await agent_of(context, blueprint).ensure_resumed(blueprint.instance.uuid)
    return StepResult(apply=record_power_state(context.args, domain))


RESUME_INSTANCE = TaskKind(
    name="resume_instance",
    steps=(Step("resume", _resume),),
    check=admit("resume", InstanceStatus.PAUSED),
    on_success=settle,
    on_failure=settle_failure,
)
