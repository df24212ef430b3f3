"""Takes devices out of an instance and gives them back to the node; only then others can have them."""

import structlog
from sqlmodel import Session

from coordinator.agents.client import AgentCallError
from coordinator.agents.device import RELEASE_SECONDS
from coordinator.domain.instance import InstanceStatus
from coordinator.tasks.blueprint import host_devices
from coordinator.tasks.device_return import is_lost, leave_behind
from coordinator.tasks.host_device import device_uuid, release_devices
from coordinator.tasks.instance_step import admit, agent_of, blueprint_of, settle, settle_failure
from coordinator.tasks.kinds.attach_devices import NODE_AWAY_SECONDS, PATIENCE_SECONDS, drop
from coordinator.tasks.model import Step, StepContext, StepResult, TaskKind

log = structlog.get_logger(__name__)


async def _detach(context: StepContext) -> StepResult:
    blueprint = await blueprint_of(context)
    agent, uuid = agent_of(context, blueprint), blueprint.instance.uuid
    for device_id in context.args["deviceIds"]:
        await agent.ensure_device_detached(uuid, device_uuid(uuid, device_id))
    return StepResult()


async def _attach_again(context: StepContext) -> StepResult:
    """All of them stay the instance's when the guest keeps one. What cannot be put back comes with its next start."""
    blueprint = await blueprint_of(context)
    agent, uuid = agent_of(context, blueprint), blueprint.instance.uuid
    for device in host_devices(blueprint, context.runtime):
        if device.device_id not in context.args["deviceIds"]:
            continue
        try:
            await agent.ensure_device_attached(uuid, device)
        except AgentCallError as error:
            if await is_lost(context, error, blueprint.instance.node_id):
                break
            if error.transient:
                raise
            log.warning("device.not_back", deviceId=device.device_id, code=error.code, reason=error.message)
    return StepResult()


async def _release(context: StepContext) -> StepResult:
    blueprint = await blueprint_of(context)
    agent, uuid = agent_of(context, blueprint), blueprint.instance.uuid
    uuids = [device_uuid(uuid, device_id) for device_id in context.args["deviceIds"]]
    try:
        await release_devices(context, agent, uuid, uuids)
    except AgentCallError as error:
        if not await is_lost(context, error, blueprint.instance.node_id):
            raise
        return StepResult(apply=leave_behind(context, context.args["deviceIds"]))

    def apply(session: Session) -> None:
        drop(session, context.args, "deviceIds")

    return StepResult(apply=apply)


DETACH_DEVICES = TaskKind(
    name="detach_devices",
    steps=(
        Step("detach", _detach, undo=_attach_again, retry_seconds=PATIENCE_SECONDS),
        # It may wipe disks, and half a disk helps nobody.
        Step("release", _release, weight=3, timeout_seconds=RELEASE_SECONDS, point_of_no_return=True),
    ),
    check=admit("detach devices", InstanceStatus.RUNNING, InstanceStatus.STOPPED),
    on_success=settle,
    on_failure=settle_failure,
    retry_seconds=NODE_AWAY_SECONDS,
)
