"""Puts ISO images into optical drives of an instance, all of them or none; a guest that runs sees them at once."""

from typing import Final

from sqlmodel import Session

from coordinator.agents.client import IMAGE_SECONDS, AgentCallError
from coordinator.domain.instance import InstanceStatus
from coordinator.domain.iso import IsoState
from coordinator.store.queries.iso import IsoRow, delete_isos, list_isos
from coordinator.tasks.blueprint import Blueprint, drive_message, image_ref
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
from coordinator.tasks.model import Failure, Step, StepContext, StepResult, TaskKind
from coordinator.tasks.volume_step import undo_unless_lost
from protos.agent.v1 import storage_pb2

_FAILED: Final = "ECS.OperationFailed.AttachISO"


async def _ensure_images(context: StepContext) -> StepResult:
    blueprint = await blueprint_of(context)

    async def report(progress: storage_pb2.ImageProgress) -> None:
        percent = 100 * progress.done_bytes // max(progress.total_bytes, 1)
        await context.report_progress(percent, f"image: {progress.done_bytes} of {progress.total_bytes} bytes")

    for _, image in choose_isos(blueprint, context.args):
        await agent_of(context, blueprint).ensure_image_cached(image_ref(image), report)
    return StepResult()


async def _insert(context: StepContext) -> StepResult:
    blueprint = await blueprint_of(context)
    instance = blueprint.instance
    for attachment, image in choose_isos(blueprint, context.args):
        drive = drive_message(instance, attachment.number, (attachment, image))
        try:
            await agent_of(context, blueprint).ensure_medium(instance.uuid, drive)
        except AgentCallError as error:
            raise told_as(error, _FAILED) from error

    def apply(session: Session) -> None:
        set_state(session, context.args, IsoState.ATTACHED)

    return StepResult(apply=apply)


async def _eject(context: StepContext) -> StepResult:
    """By force: nobody was told yet that it is there."""
    blueprint = await blueprint_of(context)
    if is_being_deleted(blueprint.instance):
        return StepResult()
    for attachment, _ in choose_isos(blueprint, context.args):
        drive = drive_message(blueprint.instance, attachment.number)
        ejecting = agent_of(context, blueprint).ensure_medium(blueprint.instance.uuid, drive, force=True)
        try:
            await undo_unless_lost(context, blueprint.instance, ejecting)
        except AgentCallError as error:
            # Without the domain, or the drive, there is nothing to take out.
            if error.code not in ("DomainNotFound", "DevicePlugUnsafe"):
                raise
    return StepResult()


def choose_isos(blueprint: Blueprint, args: Args) -> list[IsoRow]:
    """Those of the instance's images that the task is about."""
    return [row for row in blueprint.isos if row[0].image_id in args["imageIds"]]


def set_state(session: Session, args: Args, state: IsoState) -> None:
    """The task's images are in that state."""
    for attachment, _ in list_isos(session, load_instance(session, args).id):
        if attachment.image_id in args["imageIds"]:
            attachment.state = state
            session.add(attachment)


def told_as(error: AgentCallError, code: str) -> AgentCallError:
    """The same failure under the API's code, unless another try may help."""
    return error if error.transient else AgentCallError(code, error.message, transient=False)


def _forget(session: Session, args: Args, failure: Failure) -> None:
    delete_isos(session, load_instance(session, args).id, args["imageIds"])
    settle_failure(session, args, failure)


ATTACH_ISOS = TaskKind(
    name="attach_isos",
    steps=(
        Step("ensure_images", _ensure_images, weight=4, timeout_seconds=IMAGE_SECONDS),
        Step("insert", _insert, undo=_eject),
    ),
    check=admit("attach ISO images", InstanceStatus.RUNNING, InstanceStatus.STOPPED),
    on_success=settle,
    on_failure=_forget,
)
