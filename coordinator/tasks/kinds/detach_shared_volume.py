"""Takes a shared volume from instances, from all of them or from none; others that have it go on with it."""

from sqlmodel import Session

from coordinator.agents.client import AgentCallError
from coordinator.domain.volume import VolumeStatus
from coordinator.tasks.blueprint import disk_message
from coordinator.tasks.instance_step import GUEST_TIMEOUT_SECONDS, Args, is_being_deleted
from coordinator.tasks.model import Failure, Step, StepCanceled, StepContext, StepResult, TaskKind
from coordinator.tasks.shared_volume_step import (
    check_instances,
    let_go,
    set_attachments,
    settle_failed_instances,
    settle_instances,
    sharing_of,
    undo_unless_given_up,
)


async def _detach(context: StepContext) -> StepResult:
    """Is not interrupted while a guest is asked: what was asked of it cannot be taken back, only waited for."""
    sharing = await sharing_of(context)
    grace_seconds = context.runtime.settings.detach_grace.total_seconds()
    for instance in sharing.instances:
        if context.is_cancel_requested():
            raise StepCanceled
        if instance.node_id:
            await context.report_progress(0, f"waiting for {instance.ecs_id} to let go of {sharing.volume.name}")
            agent = context.runtime.agents.of(instance.node_id)
            await agent.ensure_disk_detached(instance.uuid, sharing.volume.uuid, grace_seconds)
    return StepResult(apply=lambda session: let_go(session, context.args, VolumeStatus.DETACHING))


async def _attach_again(context: StepContext) -> StepResult:
    """What guests have let go of is theirs again; those that are not reached get it when they are defined anew."""
    sharing = await sharing_of(context)
    for instance in sharing.instances:
        if is_being_deleted(instance) or instance.node_id is None:
            continue
        agent = context.runtime.agents.of(instance.node_id)
        attaching = agent.ensure_disk_attached(instance.uuid, disk_message(sharing.volume))
        try:
            await undo_unless_given_up(context, sharing, instance.node_id, attaching)
        except AgentCallError as error:
            if error.code != "DomainNotFound":
                raise
    return StepResult()


def _keep(session: Session, args: Args, failure: Failure) -> None:
    set_attachments(args, VolumeStatus.IN_USE)(session)
    settle_failed_instances(session, args, failure)


DETACH_SHARED_VOLUME = TaskKind(
    name="detach_shared_volume",
    steps=(
        Step("detach", _detach, undo=_attach_again, settles_cancellation=True, timeout_seconds=GUEST_TIMEOUT_SECONDS),
    ),
    check=check_instances("detach a shared volume"),
    on_success=settle_instances,
    on_failure=_keep,
)
