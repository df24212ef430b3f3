"""Gives a shared volume to instances, to all of them or to none; those that run have it at once."""

from typing import Final

from sqlmodel import Session

from coordinator.agents.client import AgentCallError
from coordinator.domain.volume import VolumeStatus
from coordinator.tasks.blueprint import disk_message, volume_size_bytes
from coordinator.tasks.instance_step import Args, is_being_deleted
from coordinator.tasks.model import Failure, Step, StepContext, StepResult, TaskKind
from coordinator.tasks.shared_volume_step import (
    check_instances,
    let_go,
    load_volume,
    set_attachments,
    settle_failed_instances,
    settle_instances,
    sharing_of,
)
from coordinator.tasks.volume_step import undo_unless_lost

# A guest has not let go, or never does while it runs.
_KEEPING: Final = ("DeviceStillAttached", "DevicePlugUnsafe")


async def _ensure_volume(context: StepContext) -> StepResult:
    """What no node has made yet is made on the first instance's, whose storage the others have as well."""
    sharing = await sharing_of(context)
    volume, node_id = sharing.volume, sharing.instances[0].node_id
    if not context.args["isNew"] or node_id is None:
        return StepResult()
    agent = context.runtime.agents.of(node_id)
    await agent.ensure_volume(volume.uuid, volume_size_bytes(volume), volume.volume_type, shared=True)

    def apply(session: Session) -> None:
        row = load_volume(session, context.args)
        row.node_id = node_id
        session.add(row)

    return StepResult(apply=apply)


async def _attach(context: StepContext) -> StepResult:
    sharing = await sharing_of(context)
    for instance in sharing.instances:
        if instance.node_id:
            agent = context.runtime.agents.of(instance.node_id)
            await agent.ensure_disk_attached(instance.uuid, disk_message(sharing.volume))
    return StepResult(apply=set_attachments(context.args, VolumeStatus.IN_USE))


async def _detach(context: StepContext) -> StepResult:
    """What a guest does not let go of it keeps, and that is shown; one that is deleted goes with all that it has."""
    sharing, kept = await sharing_of(context), set()
    grace_seconds = context.runtime.settings.detach_grace.total_seconds()
    for instance in reversed(sharing.instances):
        if is_being_deleted(instance) or instance.node_id is None:
            kept.add(instance.id)
            continue
        agent = context.runtime.agents.of(instance.node_id)
        detaching = agent.ensure_disk_detached(instance.uuid, sharing.volume.uuid, grace_seconds)
        try:
            await undo_unless_lost(context, instance, detaching)
        except AgentCallError as error:
            if error.code not in _KEEPING:
                raise
            kept.add(instance.id)

    def apply(session: Session) -> None:
        set_attachments(context.args, VolumeStatus.IN_USE)(session)
        set_attachments(context.args, VolumeStatus.ATTACHING, but=kept)(session)

    return StepResult(apply=apply)


def _let_go(session: Session, args: Args, failure: Failure) -> None:
    """After the undoing. The volume, if it was made, stays: it is empty, and the next instances find it there."""
    let_go(session, args, VolumeStatus.ATTACHING)
    settle_failed_instances(session, args, failure)


ATTACH_SHARED_VOLUME = TaskKind(
    name="attach_shared_volume",
    steps=(
        Step("ensure_volume", _ensure_volume),
        Step("attach", _attach, undo=_detach, weight=2, timeout_seconds=3600),
    ),
    check=check_instances("attach a shared volume"),
    on_success=settle_instances,
    on_failure=_let_go,
)
