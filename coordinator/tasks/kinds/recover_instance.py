"""Starts an instance on another node after its own was lost and fenced; its disks are in storage that both share."""

from sqlmodel import Session

from coordinator.agents.client import IMAGE_SECONDS
from coordinator.domain.instance import InstanceStatus
from coordinator.store.queries.event import record_event
from coordinator.tasks.blueprint import domain_spec
from coordinator.tasks.instance_move import (
    change_node,
    check_move,
    ensure_image,
    ensure_ports,
    settle_failed_cold_move,
    settle_move,
    target_blueprint,
    target_of,
)
from coordinator.tasks.instance_step import record_power_state, show_status
from coordinator.tasks.model import Step, StepContext, StepResult, TaskKind


async def _define(context: StepContext) -> StepResult:
    blueprint = await target_blueprint(context)
    await target_of(context).ensure_defined(domain_spec(blueprint, context.runtime.secrets))
    return StepResult()


async def _start(context: StepContext) -> StepResult:
    """The instance is the target's once it runs there: only then is it certain what the lost node has to be rid of."""
    domain = await target_of(context).ensure_running(context.args["uuid"])

    def apply(session: Session) -> None:
        instance = change_node(session, context.args)
        record_power_state(context.args, domain)(session)
        record_event(
            session,
            "ha.instance_recovered",
            resource_type="instance",
            resource_id=instance.ecs_id,
            tenant_id=instance.tenant_id,
            node_id=instance.node_id,
            data={"from": context.args["sourceNodeId"], "to": context.args["targetNodeId"]},
        )

    return StepResult(apply=apply)


RECOVER_INSTANCE = TaskKind(
    name="recover_instance",
    steps=(
        Step(
            "ensure_image",
            ensure_image,
            before=show_status(InstanceStatus.STARTING),
            weight=4,
            timeout_seconds=IMAGE_SECONDS,
        ),
        Step("ensure_ports", ensure_ports),
        Step("define", _define),
        Step("start", _start, weight=2),
    ),
    check=check_move,
    on_success=settle_move,
    on_failure=settle_failed_cold_move,
)
