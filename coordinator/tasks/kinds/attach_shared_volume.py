"""Gives a shared volume to instances, to all of them or to none; those that run have it at once."""

import asyncio
from collections.abc import Callable
from typing import Final

from sqlmodel import Session

from coordinator.agents.client import AgentCallError
from coordinator.domain.volume import VolumeStatus
from coordinator.store.queries.volume import lock_volume
from coordinator.store.queries.volume_attachment import list_sharers
from coordinator.tasks.blueprint import disk_message, volume_size_bytes
from coordinator.tasks.instance_step import Args, is_being_deleted
from coordinator.tasks.model import Failure, Step, StepContext, StepResult, TaskKind
from coordinator.tasks.shared_volume_step import (
    check_instances,
    let_go,
    list_attachments,
    load_volume,
    set_attachments,
    settle_failed_instances,
    settle_instances,
    sharing_of,
    undo_unless_given_up,
)
from coordinator.tasks.volume_step import is_given_up

# A guest has not let go, or never does while it runs.
_KEEPING: Final = ("DeviceStillAttached", "DevicePlugUnsafe")


async def _ensure_volume(context: StepContext) -> StepResult:
    """What no node has made yet is made on the first instance's, whose storage the others have as well."""
    sharing = await sharing_of(context)
    volume, node_id = sharing.volume, sharing.volume.node_id or sharing.instances[0].node_id
    if node_id is None:
        return StepResult()
    agent = context.runtime.agents.of(node_id)
    await agent.ensure_volume(volume.uuid, volume_size_bytes(volume), volume.volume_type, shared=True)
    return StepResult(apply=_place(context.args, node_id))


async def _remove_new(context: StepContext) -> StepResult:
    """Nobody has written to it: it may be made elsewhere. Where anybody still has it, it stays."""
    sharing = await sharing_of(context)
    node_id = sharing.volume.node_id or sharing.instances[0].node_id
    if not context.args["isNew"] or node_id is None or not await asyncio.to_thread(_begin_removal, context):
        return StepResult()
    removal = context.runtime.agents.of(node_id).ensure_volume_removed(sharing.volume.uuid)
    if not await undo_unless_given_up(context, sharing, node_id, removal):
        return StepResult()
    return StepResult(apply=_place(context.args, None))


def _begin_removal(context: StepContext) -> bool:
    """False: other instances have it meanwhile, or one of these has not let go.

    Else nobody else gets it before the task ends, which rests it.
    """
    with context.runtime.database.write() as session:
        volume = lock_volume(session, load_volume(session, context.args).id or 0)
        own = list_attachments(session, context.args)
        everybody = list_sharers(session, [volume.id])
        if len(everybody) > len(own) or any(it.status == VolumeStatus.IN_USE for it in own):
            return False
        volume.status = VolumeStatus.DETACHING
        session.add(volume)
        return True


def _place(args: Args, node_id: str | None) -> Callable[[Session], None]:
    def apply(session: Session) -> None:
        row = load_volume(session, args)
        row.node_id = node_id
        if node_id is None:
            row.storage_pool_id = None
        session.add(row)

    return apply


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
            is_done = await undo_unless_given_up(context, sharing, instance.node_id, detaching)
        except AgentCallError as error:
            if error.code not in _KEEPING:
                raise
            is_done = False
        # One that is started elsewhere is defined anew there, without it.
        if not is_done and not await is_given_up(context, instance):
            kept.add(instance.id)

    def apply(session: Session) -> None:
        set_attachments(context.args, VolumeStatus.IN_USE)(session)
        set_attachments(context.args, VolumeStatus.ATTACHING, but=kept)(session)

    return StepResult(apply=apply)


def _let_go(session: Session, args: Args, failure: Failure) -> None:
    """After the undoing. A volume that a guest may still have is kept when that guest is deleted."""
    let_go(session, args, VolumeStatus.ATTACHING, but_deleted=True)
    settle_failed_instances(session, args, failure)


ATTACH_SHARED_VOLUME = TaskKind(
    name="attach_shared_volume",
    steps=(
        Step("ensure_volume", _ensure_volume, undo=_remove_new),
        Step("attach", _attach, undo=_detach, weight=2, timeout_seconds=3600),
    ),
    check=check_instances("attach a shared volume"),
    on_success=settle_instances,
    on_failure=_let_go,
)
