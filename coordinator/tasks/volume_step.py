"""What tasks that give volumes to instances, and take them away, share."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, TypeVar

from sqlmodel import Session

from coordinator.agents.client import NodeAway
from coordinator.domain.instance import PowerState
from coordinator.domain.volume import VolumeBackend, VolumeStatus
from coordinator.fencing.node import is_certainly_fenced
from coordinator.store.queries import instance as instance_query
from coordinator.store.queries.volume import find_by_uuid
from coordinator.store.tables.instance import Instance
from coordinator.store.tables.volume import Volume
from coordinator.tasks.blueprint import Blueprint
from coordinator.tasks.instance_step import Args, is_being_deleted, load_instance
from coordinator.tasks.model import StepContext, StepDeferred, StepResult
from protos.agent.v1 import storage_pb2

# Pause before a node that is away is asked again.
LOOK_AGAIN_SECONDS: Final = 5.0
_BACKENDS: Final[Mapping[int, VolumeBackend]] = {
    storage_pb2.VOLUME_BACKEND_FILE: VolumeBackend.FILE,
    storage_pb2.VOLUME_BACKEND_LVM: VolumeBackend.LVM,
    storage_pb2.VOLUME_BACKEND_LVM_THIN: VolumeBackend.LVM_THIN,
    storage_pb2.VOLUME_BACKEND_CEPH: VolumeBackend.CEPH,
}

Answer = TypeVar("Answer")


async def undo_unless_lost(
    context: StepContext, instance: Instance | None, undoing: Awaitable[Answer], node_id: str = ""
) -> Answer | None:
    """Part of an undo, for which the instance's node, or that one, is waited for, however long.

    When that is lost and fenced the guest does not run any more: a highly available one is started elsewhere, and
    does not wait for this, which answers None. For others no node is fenced.
    """
    try:
        return await undoing
    except NodeAway as error:
        if not await is_given_up(context, instance, node_id):
            raise StepDeferred(error.message, LOOK_AGAIN_SECONDS) from error
        return None


async def start_unless_lost(
    context: StepContext, instance: Instance, starting: Awaitable[StepResult], *, runs: bool
) -> StepResult:
    """The same for a guest that its task alone has shut down; `runs`: it ran before.

    One that is given up counts as running on its lost node, and so is started elsewhere as all that ran there.
    """
    started = await undo_unless_lost(context, instance, starting)
    if started is not None:
        return started
    return StepResult(apply=_record_wish(context.args)) if runs else StepResult()


def _record_wish(args: Args) -> Callable[[Session], None]:
    def apply(session: Session) -> None:
        instance = load_instance(session, args)
        if not is_being_deleted(instance):
            instance.power_state = PowerState.RUNNING
            session.add(instance)

    return apply


async def is_given_up(context: StepContext, instance: Instance | None, node_id: str = "") -> bool:
    """Whether the instance is highly available, and its node, or that one, lost and fenced."""
    if instance is None or not instance.ha_enabled:
        return False
    node_id = node_id or instance.node_id or ""
    return bool(node_id) and await asyncio.to_thread(is_certainly_fenced, context.runtime, node_id)


def record_backends(session: Session, made: Iterable[storage_pb2.Volume]) -> None:
    """Where the volumes are, as their node has told."""
    for told in made:
        volume = find_by_uuid(session, told.uuid)
        if volume is not None:
            volume.backend = _BACKENDS.get(told.backend, VolumeBackend.UNKNOWN)
            session.add(volume)


def choose(blueprint: Blueprint, uuids: Collection[str]) -> list[Volume]:
    """Those of the instance's volumes."""
    return [volume for volume in blueprint.volumes if volume.uuid in uuids]


def list_chosen(session: Session, args: Args, uuids: Collection[str]) -> Sequence[Volume]:
    """The rows of the same."""
    volumes = instance_query.list_volumes(session, load_instance(session, args))
    return [volume for volume in volumes if volume.uuid in uuids]


def set_free(session: Session, volume: Volume) -> None:
    """No instance has the volume; its data stays where it is."""
    volume.instance_id = None
    volume.status = VolumeStatus.AVAILABLE
    volume.delete_on_termination = False
    volume.boot_index = 0
    # Whoever has it next started from another one.
    volume.is_os_disk = False
    if volume.node_id is None:
        volume.storage_pool_id = None
    session.add(volume)


def rest_volume(session: Session, volume: Volume) -> None:
    """No task works on the volume any more."""
    volume.status = VolumeStatus.AVAILABLE if volume.instance_id is None else VolumeStatus.IN_USE
    session.add(volume)


def goes_with_instance(volume: Volume) -> bool:
    """Whether the volume is deleted together with its instance: not before it has quite become the instance's."""
    return volume.delete_on_termination and volume.status != VolumeStatus.ATTACHING
