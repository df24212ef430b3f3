"""What tasks do with volumes that several instances share."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass

from sqlmodel import Session

from coordinator.agents.client import NodeAway
from coordinator.domain.instance import InstanceStatus
from coordinator.domain.volume import VolumeStatus
from coordinator.errors import ResourceNotFound
from coordinator.store.queries.instance import list_volumes
from coordinator.store.queries.volume import find_by_uuid, lock_volume
from coordinator.store.queries.volume_attachment import delete_attachments, list_shared, list_sharers
from coordinator.store.tables import Instance, Volume, VolumeAttachment
from coordinator.tasks.instance_step import (
    Args,
    is_being_deleted,
    load_instance,
    require_status,
    settle,
    settle_failure,
)
from coordinator.tasks.kinds.delete_volume import DELETE_VOLUME
from coordinator.tasks.model import Failure, StepContext, StepDeferred
from coordinator.tasks.submission import submit_follow_up
from coordinator.tasks.volume_step import LOOK_AGAIN_SECONDS, is_given_up, set_free


@dataclass(frozen=True, slots=True)
class Sharing:
    """A volume, and those of its instances that a task works on."""

    volume: Volume
    instances: tuple[Instance, ...]


async def sharing_of(context: StepContext) -> Sharing:
    """As the database has it now: `args` name the volume and the instances."""

    def read() -> Sharing:
        with context.runtime.database.read() as session:
            instances = tuple(load_instance(session, {"ecsId": ecs_id}) for ecs_id in context.args["ecsIds"])
            return Sharing(load_volume(session, context.args), instances)

    return await asyncio.to_thread(read)


async def undo_unless_given_up(
    context: StepContext, sharing: Sharing, node_id: str, undoing: Awaitable[object]
) -> bool:
    """Part of an undo on that node, which is waited for, however long; whether it was done.

    It is not when any of the instances is highly available, and its node lost and fenced: that one is started
    elsewhere, and waits neither for its own node nor for those of the others.
    """
    try:
        await undoing
    except NodeAway as error:
        for instance in sharing.instances:
            if await is_given_up(context, instance):
                return False
        raise StepDeferred(f"node {node_id}: {error.message}", LOOK_AGAIN_SECONDS) from error
    return True


def load_volume(session: Session, args: Args) -> Volume:
    """The row of the volume that `args` name."""
    volume = find_by_uuid(session, args["uuid"])
    if volume is None:
        raise ResourceNotFound("volume", f"volume-{args['uuid']}")
    return volume


def list_attachments(session: Session, args: Args) -> Sequence[VolumeAttachment]:
    """What binds the volume to the task's instances."""
    sharers = list_sharers(session, [load_volume(session, args).id])
    return [attachment for attachment, instance in sharers if instance.ecs_id in args["ecsIds"]]


def set_attachments(args: Args, status: VolumeStatus, *, but: Collection[int | None] = ()) -> Callable[[Session], None]:
    """A step's `apply`: the attachments have this status, except those of the instances with these ids."""

    def apply(session: Session) -> None:
        for attachment in list_attachments(session, args):
            if attachment.instance_id not in but:
                attachment.status = status
                session.add(attachment)

    return apply


def check_instances(action: str) -> Callable[[Session, Args], None]:
    """A kind's `check`: each instance runs or is off. A paused guest could not let go of what it has."""

    def check(session: Session, args: Args) -> None:
        for ecs_id in args["ecsIds"]:
            instance = load_instance(session, {"ecsId": ecs_id})
            require_status(instance, action, InstanceStatus.RUNNING, InstanceStatus.STOPPED)

    return check


def settle_instances(session: Session, args: Args) -> None:
    """No task works on the instances any more."""
    for ecs_id in args["ecsIds"]:
        settle(session, {"ecsId": ecs_id})


def settle_failed_instances(session: Session, args: Args, failure: Failure) -> None:
    """The same, and each shows the reason."""
    for ecs_id in args["ecsIds"]:
        settle_failure(session, {"ecsId": ecs_id}, failure)


def let_go(session: Session, args: Args, status: VolumeStatus, *, but_deleted: bool = False) -> None:
    """Those of the task's instances whose attachment has the status do not have the volume.

    `but_deleted`: those that are being deleted keep it, for their deletion to see to it.
    """
    volume = lock_volume(session, load_volume(session, args).id or 0)
    leaving = {
        attachment.instance_id
        for attachment in list_attachments(session, args)
        if attachment.status == status
        and not (but_deleted and is_being_deleted(session.get_one(Instance, attachment.instance_id)))
    }
    delete_attachments(session, volume, leaving)


def keep_what_was_coming(session: Session, instance: Instance) -> None:
    """A deletion overtook what gave the instance volumes, and left it in place: they are quite its own.

    Whatever was wished for them, they do not go with it later. One that no node has made it does not have.
    """
    for volume in list_volumes(session, instance):
        if volume.status == VolumeStatus.ATTACHING and volume.node_id is None:
            set_free(session, volume)
        elif volume.status == VolumeStatus.ATTACHING:
            _keep(session, volume)
    for attachment, volume in list_shared(session, instance.id):
        if attachment.status == VolumeStatus.ATTACHING and volume.node_id is None:
            delete_attachments(session, volume, [instance.id])
        elif attachment.status == VolumeStatus.ATTACHING:
            _keep(session, attachment)


def _keep(session: Session, held: Volume | VolumeAttachment) -> None:
    held.status, held.delete_on_termination = VolumeStatus.IN_USE, False
    session.add(held)


def release_shared(session: Session, instance: Instance) -> None:
    """The instance, which is gone from its node, shares nothing; what goes with the last one is deleted afterwards."""
    # In one order everywhere, so that two deletions cannot wait for each other.
    for attachment, found in sorted(list_shared(session, instance.id), key=lambda row: row[1].id or 0):
        volume = lock_volume(session, found.id or 0)
        # Not before it has quite become the instance's.
        goes_along = attachment.delete_on_termination and attachment.status != VolumeStatus.ATTACHING
        delete_attachments(session, volume, [instance.id])
        if not goes_along or volume.status != VolumeStatus.AVAILABLE:
            continue
        if volume.node_id is None:
            session.delete(volume)
            continue
        volume.status = VolumeStatus.DELETING
        session.add(volume)
        args = {"uuid": volume.uuid, "nodeId": volume.node_id}
        submit_follow_up(session, DELETE_VOLUME, args=args, resource_id=f"volume-{volume.uuid}")
