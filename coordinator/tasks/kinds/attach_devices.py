"""Plugs devices of the node, which were claimed before, into an instance that runs or is off."""

from typing import Final

import structlog
from sqlmodel import Session

from coordinator.agents.client import AgentCallError
from coordinator.agents.device import RELEASE_SECONDS
from coordinator.domain.instance import InstanceStatus
from coordinator.store.queries.device_claim import drop_claims
from coordinator.store.queries.placement import advance_generations
from coordinator.store.tables import Task
from coordinator.tasks.blueprint import host_devices
from coordinator.tasks.device_return import is_lost, leave_behind
from coordinator.tasks.host_device import device_uuid, release_devices
from coordinator.tasks.instance_step import Args, admit, agent_of, blueprint_of, load_instance, settle, settle_failure
from coordinator.tasks.model import Failure, Step, StepContext, StepResult, TaskKind

# A node that is away ends what was asked for, but not what has to be put right there once it is back.
PATIENCE_SECONDS: Final = 600.0
NODE_AWAY_SECONDS: Final = 7 * 24 * 3600.0

log = structlog.get_logger(__name__)


async def attach(context: StepContext) -> StepResult:
    """A step: the guest has the devices that the task names."""
    blueprint = await blueprint_of(context)
    agent = agent_of(context, blueprint)
    wanted = set(context.args["deviceIds"])
    for device in host_devices(blueprint, context.runtime):
        if device.device_id in wanted:
            await agent.ensure_device_attached(blueprint.instance.uuid, device)
    return StepResult()


async def _detach_again(context: StepContext) -> StepResult:
    """What the instance did not have before is the node's again; what it had stays, and so does what is not let go.

    A node that is lost gives them back when it returns: the instance may be needed elsewhere before.
    """
    blueprint = await blueprint_of(context)
    agent, uuid = agent_of(context, blueprint), blueprint.instance.uuid
    returned: list[str] = []
    left = list(context.args["claimedIds"])
    for device_id in context.args["claimedIds"]:
        device = device_uuid(uuid, device_id)
        try:
            await agent.ensure_device_detached(uuid, device)
            await release_devices(context, agent, uuid, [device])
        except AgentCallError as error:
            if await is_lost(context, error, blueprint.instance.node_id):
                break
            if error.transient:
                raise
            log.warning("device.not_back", deviceId=device_id, code=error.code, reason=error.message)
            left.remove(device_id)
            continue
        returned.append(device_id)
        left.remove(device_id)
    leave = leave_behind(context, left)

    def apply(session: Session) -> None:
        leave(session)
        # The end of the task lets go of these alone: the others are detached by whoever asks for it.
        task = session.get_one(Task, context.task_id)
        task.args = {**task.args, "claimedIds": returned}

    return StepResult(apply=apply)


def drop(session: Session, args: Args, name: str) -> None:
    """The instance holds no more what the task names under `name`."""
    instance = load_instance(session, args)
    advance_generations(session, drop_claims(session, instance.uuid, args[name]))


def _let_go(session: Session, args: Args, failure: Failure) -> None:
    drop(session, args, "claimedIds")
    settle_failure(session, args, failure)


ATTACH_DEVICES = TaskKind(
    name="attach_devices",
    # Its undoing may wipe disks; the calls of attaching have deadlines of their own.
    steps=(
        Step(
            "attach",
            attach,
            undo=_detach_again,
            timeout_seconds=RELEASE_SECONDS,
            retry_seconds=PATIENCE_SECONDS,
        ),
    ),
    check=admit("attach devices", InstanceStatus.RUNNING, InstanceStatus.STOPPED),
    on_success=settle,
    on_failure=_let_go,
    retry_seconds=NODE_AWAY_SECONDS,
)
