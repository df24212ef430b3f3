"""Gives volumes to an instance, all of them or none; one that runs has them at once."""

from collections.abc import Iterable
from typing import Final

from sqlmodel import Session

from coordinator.agents.client import AgentCallError
from coordinator.domain.instance import InstanceStatus
from coordinator.domain.volume import VolumeStatus
from coordinator.store.tables.volume import Volume
from coordinator.tasks.blueprint import disk_message, volume_size_bytes
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
from coordinator.tasks.volume_step import choose, list_chosen, record_backends, set_free, undo_unless_lost

# A guest has not let go, or never does while it runs.
_KEEPING: Final = ("DeviceStillAttached", "DevicePlugUnsafe")


async def _ensure_volumes(context: StepContext) -> StepResult:
    """What no node has made yet is made on the instance's."""
    blueprint, new = await blueprint_of(context), context.args["newUuids"]
    agent = agent_of(context, blueprint)
    made = [
        await agent.ensure_volume(
            volume.uuid, volume_size_bytes(volume), volume.volume_type, encrypted=volume.is_encrypted
        )
        for volume in choose(blueprint, new)
    ]

    def apply(session: Session) -> None:
        _place(session, context.args, new)
        record_backends(session, made)

    return StepResult(apply=apply)


async def _remove_new(context: StepContext) -> StepResult:
    """Nobody has written to them: they may be made elsewhere. Where the guest still has them they stay."""
    blueprint = await blueprint_of(context)
    if is_being_deleted(blueprint.instance):
        return StepResult()
    new = [volume.uuid for volume in choose(blueprint, context.args["newUuids"]) if not _is_kept(volume)]
    for volume in choose(blueprint, new):
        removal = agent_of(context, blueprint).ensure_volume_removed(volume.uuid)
        await undo_unless_lost(context, blueprint.instance, removal)

    def apply(session: Session) -> None:
        for volume in list_chosen(session, context.args, new):
            volume.node_id, volume.storage_pool_id = None, None
            session.add(volume)

    return StepResult(apply=apply)


async def _attach(context: StepContext) -> StepResult:
    blueprint, uuids = await blueprint_of(context), context.args["uuids"]
    for volume in choose(blueprint, uuids):
        await agent_of(context, blueprint).ensure_disk_attached(blueprint.instance.uuid, disk_message(volume))

    def apply(session: Session) -> None:
        _place(session, context.args, uuids)
        for volume in list_chosen(session, context.args, uuids):
            volume.status = VolumeStatus.IN_USE
            session.add(volume)

    return StepResult(apply=apply)


async def _detach(context: StepContext) -> StepResult:
    """A guest that is to be deleted is not asked: it goes with all that it has plugged in.

    What a guest does not let go of, perhaps because it is still booting, it keeps, and that is shown: to wait for it
    would keep the instance from everything else.
    """
    blueprint = await blueprint_of(context)
    if is_being_deleted(blueprint.instance):
        return StepResult()
    grace_seconds = context.runtime.settings.detach_grace.total_seconds()
    kept = []
    for volume in reversed(choose(blueprint, context.args["uuids"])):
        agent = agent_of(context, blueprint)
        detaching = agent.ensure_disk_detached(blueprint.instance.uuid, volume.uuid, grace_seconds)
        try:
            await undo_unless_lost(context, blueprint.instance, detaching)
        except AgentCallError as error:
            if error.code not in _KEEPING:
                raise
            kept.append(volume.uuid)

    def apply(session: Session) -> None:
        for volume in list_chosen(session, context.args, context.args["uuids"]):
            volume.status = VolumeStatus.IN_USE if volume.uuid in kept else VolumeStatus.ATTACHING
            # Nobody may take what was not quite attached for something to be deleted.
            volume.delete_on_termination = False
            session.add(volume)

    return StepResult(apply=apply)


def _is_kept(volume: Volume) -> bool:
    return volume.status == VolumeStatus.IN_USE


def _place(session: Session, args: Args, uuids: Iterable[str]) -> None:
    node_id = load_instance(session, args).node_id
    for volume in list_chosen(session, args, list(uuids)):
        volume.node_id = node_id
        session.add(volume)


def _let_go(session: Session, args: Args, failure: Failure) -> None:
    """After the undoing. A volume that a guest may still have is kept when that guest is deleted."""
    is_leaving = is_being_deleted(load_instance(session, args))
    for volume in list_chosen(session, args, args["uuids"]):
        if not is_leaving and not _is_kept(volume):
            set_free(session, volume)
    settle_failure(session, args, failure)


ATTACH_VOLUMES = TaskKind(
    name="attach_volumes",
    steps=(
        Step("ensure_volumes", _ensure_volumes, undo=_remove_new),
        Step("attach", _attach, undo=_detach, weight=2, timeout_seconds=3600),
    ),
    # A paused guest could not let go again of what one that fails leaves with it.
    check=admit("attach volumes", InstanceStatus.RUNNING, InstanceStatus.STOPPED),
    on_success=settle,
    on_failure=_let_go,
)
