"""Restarts a running guest once: asks it to go down, or resets it when `args["force"]`."""

from coordinator.domain.instance import InstanceStatus
from coordinator.tasks.instance_step import (
    GUEST_TIMEOUT_SECONDS,
    admit,
    agent_of,
    blueprint_of,
    define_domain,
    record_power_state,
    report_wait,
    settle,
    settle_failure,
    show_status,
)
from coordinator.tasks.model import Step, StepContext, StepResult, TaskKind


async def _reboot(context: StepContext) -> StepResult:
    blueprint = await blueprint_of(context)
    grace_seconds = context.runtime.settings.stop_grace.total_seconds()
    # The agent remembers the outcome by operation id: a repeated step does not restart the guest again.
    domain = await agent_of(context, blueprint).reboot(
        blueprint.instance.uuid,
        context.task_id,
        context.args["force"],
        grace_seconds,
        report_wait(context, grace_seconds),
    )
    return StepResult(apply=record_power_state(context.args, domain))


RESTART_INSTANCE = TaskKind(
    name="restart_instance",
    steps=(
        # Also makes a domain persistent again that somebody undefined: its stop would be its end.
        Step("define", define_domain, before=show_status(InstanceStatus.STARTING)),
        Step("reboot", _reboot, weight=4, timeout_seconds=GUEST_TIMEOUT_SECONDS),
    ),
    check=admit("restart", InstanceStatus.RUNNING),
    on_success=settle,
    on_failure=settle_failure,
)
