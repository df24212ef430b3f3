"""Takes volumes from an instance, all of them or none; a guest that runs is asked to let go, and not forced."""

from sqlmodel import Session

from coordinator.agents.client import AgentCallError
from coordinator.domain.instance import InstanceStatus
from coordinator.domain.volume import VolumeStatus
from coordinator.tasks.blueprint import disk_message
from coordinator.tasks.instance_step import (
    GUEST_TIMEOUT_SECONDS,
    Args,
    admit,
    agent_of,
    blueprint_of,
    is_being_deleted,
    settle,
    settle_failure,
)
from coordinator.tasks.model import Failure, Step, StepCanceled, StepContext, StepResult, TaskKind
from coordinator.tasks.volume_step import choose, list_chosen, rest_volume, set_free, undo_unless_lost


async def _detach(context: StepContext) -> StepResult:
    """Is not interrupted while a guest is asked: what was asked of it cannot be taken back, only waited for."""
    blueprint = await blueprint_of(context)
    grace_seconds = context.runtime.settings.detach_grace.total_seconds()
    for volume in choose(blueprint, context.args["uuids"]):
        if context.is_cancel_requested():
            raise StepCanceled
        await context.report_progress(0, f"waiting for the guest to let go of {volume.name}")
        await agent_of(context, blueprint).ensure_disk_detached(blueprint.instance.uuid, volume.uuid, grace_seconds)

    def apply(session: Session) -> None:
        for volume in list_chosen(session, context.args, context.args["uuids"]):
            set_free(session, volume)

    return StepResult(apply=apply)


async def _attach_again(context: StepContext) -> StepResult:
    """What the guest has let go of is its own again; a domain that is gone gets it when it is defined anew."""
    blueprint = await blueprint_of(context)
    if is_being_deleted(blueprint.instance):
        return StepResult()
    for volume in choose(blueprint, context.args["uuids"]):
        agent = agent_of(context, blueprint)
        attaching = agent.ensure_disk_attached(blueprint.instance.uuid, disk_message(volume))
        try:
            await undo_unless_lost(context, blueprint.instance, attaching)
        except AgentCallError as error:
            if error.code != "DomainNotFound":
                raise
    return StepResult()


def _keep(session: Session, args: Args, failure: Failure) -> None:
    for volume in list_chosen(session, args, args["uuids"]):
        if volume.status == VolumeStatus.DETACHING:
            rest_volume(session, volume)
    settle_failure(session, args, failure)


DETACH_VOLUMES = TaskKind(
    name="detach_volumes",
    steps=(
        Step("detach", _detach, undo=_attach_again, settles_cancellation=True, timeout_seconds=GUEST_TIMEOUT_SECONDS),
    ),
    # A paused guest cannot let go.
    check=admit("detach volumes", InstanceStatus.RUNNING, InstanceStatus.STOPPED),
    on_success=settle,
    on_failure=_keep,
)
