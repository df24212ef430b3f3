"""Starts an instance that is shut off."""

from coordinator.domain.instance import InstanceStatus
from coordinator.tasks.blueprint import domain_spec, port_message
from coordinator.tasks.instance_step import (
    admit,
    agent_of,
    blueprint_of,
    record_power_state,
    settle,
    settle_failure,
    show_status,
)
from coordinator.tasks.model import Step, StepContext, StepResult, TaskKind


async def _define(context: StepContext) -> StepResult:
    """Brings the node's definition up to date: what changed while the guest ran counts from this start on."""
    blueprint = await blueprint_of(context)
    agent = agent_of(context, blueprint)
    for port, subnet in blueprint.ports:
        await agent.ensure_port(port_message(blueprint, port, subnet))
    await agent.ensure_defined(domain_spec(blueprint, context.runtime.secrets))
    return StepResult()


async def _start(context: StepContext) -> StepResult:
    blueprint = await blueprint_of(context)
    domain = await agent_of(context, blueprint).ensure_running(blueprint.instance.uuid)
    return StepResult(apply=record_power_state(context.args, domain))


START_INSTANCE = TaskKind(
    name="start_instance",
    steps=(
        Step("define", _define, before=show_status(InstanceStatus.STARTING)),
        Step("start", _start, weight=2),
    ),
    check=admit("start", InstanceStatus.STOPPED),
    on_success=settle,
    on_failure=settle_failure,
)
