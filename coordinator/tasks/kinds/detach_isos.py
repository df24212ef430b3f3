"""Takes ISO images out of optical drives of an instance, all of them or none."""

from typing import Final

from sqlmodel import Session

from coordinator.agents.client import AgentCallError
from coordinator.domain.instance import InstanceStatus
from coordinator.domain.iso import IsoState
from coordinator.store.queries.iso import delete_isos
from coordinator.tasks.blueprint import drive_message
from coordinator.tasks.instance_step import (
    Args,
    admit,
    agent_of,
    blueprint_of,
    is_being_deleted,
    load_instance,
    settle,
    settle_failure,
)
from coordinator.tasks.kinds.attach_isos import choose_isos, set_state, told_as
from coordinator.tasks.model import Failure, Step, StepContext, StepResult, TaskKind
from coordinator.tasks.volume_step import undo_unless_lost

_FAILED: Final = "ECS.OperationFailed.DetachISO"


async def _eject(context: StepContext) -> StepResult:
    """A guest that has locked the tray keeps what is in it, unless that was asked for by force."""
    blueprint = await blueprint_of(context)
    for attachment, _ in choose_isos(blueprint, context.args):
        drive = drive_message(blueprint.instance, attachment.number)
        try:
            agent = agent_of(context, blueprint)
            await agent.ensure_medium(blueprint.instance.uuid, drive, force=context.args["force"])
        except AgentCallError as error:
            raise told_as(error, _FAILED) from error

    def apply(session: Session) -> None:
        delete_isos(session, load_instance(session, context.args).id, context.args["imageIds"])

    return StepResult(apply=apply)


async def _insert_again(context: StepContext) -> StepResult:
    """A domain that is gone gets it when it is defined anew."""
    blueprint = await blueprint_of(context)
    if is_being_deleted(blueprint.instance):
        return StepResult()
    for attachment, image in choose_isos(blueprint, context.args):
        drive = drive_message(blueprint.instance, attachment.number, (attachment, image))
        inserting = agent_of(context, blueprint).ensure_medium(blueprint.instance.uuid, drive, force=True)
        try:
            await undo_unless_lost(context, blueprint.instance, inserting)
        except AgentCallError as error:
            if error.code not in ("DomainNotFound", "DevicePlugUnsafe"):
                raise
    return StepResult()


def _keep(session: Session, args: Args, failure: Failure) -> None:
    set_state(session, args, IsoState.ATTACHED)
    settle_failure(session, args, failure)


DETACH_ISOS = TaskKind(
    name="detach_isos",
    steps=(Step("eject", _eject, undo=_insert_again),),
    check=admit("detach ISO images", InstanceStatus.RUNNING, InstanceStatus.STOPPED),
    on_success=settle,
    on_failure=_keep,
)
