"""Starts an instance on another node after its own was lost and fenced; its disks are in storage that both share.

A start that fails may have begun all the same. Nobody gets the instance back before it is certain that it does not run
on the target: it was removed there, or the target is lost as well, and fenced.
"""

import asyncio
from typing import Final

from sqlmodel import Session

from coordinator.agents.client import IMAGE_SECONDS, AgentCallError
from coordinator.domain.instance import InstanceStatus
from coordinator.fencing.node import is_certainly_fenced
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
from coordinator.tasks.model import Step, StepContext, StepDeferred, StepResult, TaskKind

# Another node may be the better one when this one is away for longer.
_RETRY_SECONDS: Final = 60.0
_LOOK_AGAIN_SECONDS: Final = 5.0


async def _define(context: StepContext) -> StepResult:
    spec, target = domain_spec(await target_blueprint(context), context.runtime), target_of(context)
    try:
        await target.ensure_defined(spec)
    except AgentCallError as error:
        if error.code != "CapabilityMissing" or not spec.machine:
            raise
        # With another machine the guest may need a hand; without any it is down for certain.
        spec.machine = ""
        await target.ensure_defined(spec)
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


async def _ensure_not_running(context: StepContext) -> StepResult:
    """Undoes the start, for as long as it takes."""
    try:
        await target_of(context).ensure_removed(context.args["uuid"])
    except AgentCallError as error:
        if not await asyncio.to_thread(is_certainly_fenced, context.runtime, context.args["targetNodeId"]):
            reason = f"it is not certain that the instance does not run on the target: {error.message}"
            raise StepDeferred(reason, _LOOK_AGAIN_SECONDS) from error
    return StepResult()


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
        Step("start", _start, undo=_ensure_not_running, weight=2),
    ),
    check=check_move,
    on_success=settle_move,
    on_failure=settle_failed_cold_move,
    retry_seconds=_RETRY_SECONDS,
)
