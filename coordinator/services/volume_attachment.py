"""Volumes and the instances that have them."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel import Session

from coordinator.domain.caller import Caller
from coordinator.domain.instance import InstanceStatus
from coordinator.domain.volume import MAXIMUM_VOLUMES, VolumeStatus
from coordinator.errors import ParameterInvalid, ResourceNotFound, StatusUnsupported, VolumesTooMany
from coordinator.runtime import Runtime
from coordinator.services.elastic_disk import refuse_elastic
from coordinator.services.instance import find_own
from coordinator.services.instance_task import begin_task, require_unlocked
from coordinator.services.shared_volume import attach_shared, detach_shared
from coordinator.services.volume import find_volume
from coordinator.services.volume_space import lock_space, take_space
from coordinator.store.queries.instance import list_volumes
from coordinator.store.queries.node import share_volume
from coordinator.store.queries.volume import lock_volume
from coordinator.store.queries.volume_attachment import find_attachment, list_shared
from coordinator.store.queries.volume_attachment import list_attached as list_shared_as_attached
from coordinator.store.tables import Instance, Node, Volume
from coordinator.tasks.kinds.attach_volumes import ATTACH_VOLUMES
from coordinator.tasks.kinds.detach_volumes import DETACH_VOLUMES

_BUSES = ("virtio", "scsi", "sata")
_HOT_BUSES = ("virtio", "scsi")


@dataclass(frozen=True, slots=True)
class AttachOrder:
    """A volume that an instance shall have."""

    # Number or UUID.
    volume_id: str
    delete_on_termination: bool = False
    # The guest may be started from it, after those that it is started from now.
    bootable: bool = False


def list_attached(runtime: Runtime, caller: Caller, ecs_id: str) -> Sequence[Volume]:
    """The volumes of an instance, the system disk first, those that it shares with others last."""
    with runtime.database.read() as session:
        instance = find_own(session, caller, ecs_id)
        return [*list_volumes(session, instance), *list_shared_as_attached(session, instance.id)]


def attach_volumes(runtime: Runtime, caller: Caller, ecs_id: str, orders: Sequence[AttachOrder]) -> str:
    """Gives volumes to an instance, all or none; answers the operation id.

    StatusUnsupported for a volume that is not available, or whose data is on a node that shares nothing with the
    instance's; StorageInsufficient for a new one that does not fit there; VolumesTooMany beyond sixteen.
    """
    if _find_lone_shared(runtime, caller, [order.volume_id for order in orders]):
        [order] = orders
        if order.bootable:
            raise ParameterInvalid("bootable", "no guest is started from a shared volume", "不能从共享云盘启动")
        flag = order.delete_on_termination
        return attach_shared(runtime, caller, order.volume_id, [ecs_id], delete_on_termination=flag)
    with runtime.database.write() as session:
        _lock_space(session, caller, ecs_id, orders)
        instance = find_own(session, caller, ecs_id, for_update=True)
        require_unlocked(instance)
        ATTACH_VOLUMES.check(session, {"ecsId": ecs_id})
        volumes = _lock_volumes(session, caller, [order.volume_id for order in orders])
        present = list_volumes(session, instance)
        _check_count(len(present) + len(list_shared(session, instance.id)), len(volumes))
        for volume in volumes:
            _check_attachable(session, volume, instance)
        uuids = [volume.uuid for volume in volumes]
        args = {"uuids": uuids, "newUuids": [volume.uuid for volume in volumes if volume.node_id is None]}
        take_space(session, instance.node_id, [volume for volume in volumes if volume.node_id is None])
        operation_id = begin_task(session, runtime, caller, ATTACH_VOLUMES, instance, args=args)
        _assign(session, instance, present, list(zip(volumes, orders, strict=True)))
    runtime.wake_tasks()
    return operation_id


def detach_volumes(runtime: Runtime, caller: Caller, ecs_id: str, volume_ids: Sequence[str]) -> str:
    """Takes volumes from an instance, all or none; answers the operation id.

    It fails when the guest does not let go in time: then the instance has them all as before.
    """
    if _find_lone_shared(runtime, caller, volume_ids):
        return detach_shared(runtime, caller, volume_ids[0], [ecs_id])
    with runtime.database.write() as session:
        instance = find_own(session, caller, ecs_id, for_update=True)
        require_unlocked(instance)
        DETACH_VOLUMES.check(session, {"ecsId": ecs_id})
        volumes = _lock_volumes(session, caller, volume_ids)
        for volume in volumes:
            _check_detachable(volume, instance)
            volume.status = VolumeStatus.DETACHING
            session.add(volume)
        args = {"uuids": [volume.uuid for volume in volumes]}
        operation_id = begin_task(session, runtime, caller, DETACH_VOLUMES, instance, args=args)
    runtime.wake_tasks()
    return operation_id


def set_delete_flag(runtime: Runtime, caller: Caller, ecs_id: str, volume_id: str, delete_on_termination: bool) -> None:
    """Whether the volume, which the instance has, is deleted together with it; idempotent."""
    with runtime.database.write() as session:
        instance = find_own(session, caller, ecs_id, for_update=True)
        require_unlocked(instance)
        (volume,) = _lock_volumes(session, caller, [volume_id])
        attachment = find_attachment(session, volume.id, instance.id)
        if volume.instance_id != instance.id and attachment is None:
            raise _not_attached(volume, instance)
        if not delete_on_termination:
            refuse_elastic([volume], instance, "goes with its instance", "随实例删除")
        held = attachment or volume
        held.delete_on_termination = delete_on_termination
        session.add(held)


def _lock_space(session: Session, caller: Caller, ecs_id: str, orders: Sequence[AttachOrder]) -> None:
    """What volumes will take that no node has made yet."""
    instance = find_own(session, caller, ecs_id)
    wanted = [find_volume(session, caller, order.volume_id).volume for order in orders]
    lock_space(session, instance.node_id, [volume for volume in wanted if volume.node_id is None])
    # It may change until it is locked itself.
    session.expire(instance)


def _find_lone_shared(runtime: Runtime, caller: Caller, volume_ids: Sequence[str]) -> bool:
    """Whether the one volume that is named is shared. ParameterInvalid for one among others, or too many names."""
    if not 1 <= len(volume_ids) <= MAXIMUM_VOLUMES:
        raise ParameterInvalid("volumes", f"1 to {MAXIMUM_VOLUMES}", f"须为1到{MAXIMUM_VOLUMES}块云盘")
    with runtime.database.read() as session:
        volumes = [find_volume(session, caller, volume_id).volume for volume_id in volume_ids]
    is_shared = any(volume.multi_attach for volume in volumes)
    if is_shared and len(volumes) > 1:
        raise ParameterInvalid(
            "volumes", "a shared volume comes and goes in a request of its own", "共享云盘须单独挂载或卸载"
        )
    return is_shared


def _lock_volumes(session: Session, caller: Caller, volume_ids: Sequence[str]) -> list[Volume]:
    """The volumes in the order of the request, kept from others until the transaction ends."""
    numbers = [find_volume(session, caller, volume_id).volume.id or 0 for volume_id in volume_ids]
    if len(set(numbers)) < len(numbers):
        raise ParameterInvalid("volumes", "names a volume twice", "同一云盘重复出现")
    # In one order everywhere, so that two callers cannot wait for each other.
    locked = {number: lock_volume(session, number) for number in sorted(numbers)}
    return [locked[number] for number in numbers]


def _check_count(present: int, more: int) -> None:
    if present + more > MAXIMUM_VOLUMES:
        raise VolumesTooMany(
            "volumes",
            f"the instance may have {MAXIMUM_VOLUMES}, has {present}, would get {more} more",
            f"实例最多挂载{MAXIMUM_VOLUMES}块云盘，已有{present}块，本次挂载{more}块",
        )


def _check_attachable(session: Session, volume: Volume, instance: Instance) -> None:
    if volume.tenant_id != instance.tenant_id:
        raise ResourceNotFound("volume", f"volume-{volume.uuid}")
    if volume.instance_id is not None or volume.status != VolumeStatus.AVAILABLE:
        raise StatusUnsupported(
            f"volume {volume.id} ({volume.name}) is {volume.status}: only an available volume can be attached",
            f"云盘{volume.id}（{volume.name}）状态为{volume.status}，仅可用状态允许挂载",
        )
    if volume.disk_bus not in _BUSES or (
        volume.disk_bus not in _HOT_BUSES and instance.status != InstanceStatus.STOPPED
    ):
        raise StatusUnsupported(
            f"volume {volume.id}: a {volume.disk_bus} disk comes and goes only while the instance is stopped",
            f"云盘{volume.id}：{volume.disk_bus}磁盘仅允许在实例关机时挂载或卸载",
        )
    if volume.node_id and instance.node_id and not share_volume(session, volume, volume.node_id, instance.node_id):
        places = [session.get_one(Node, node_id).name for node_id in (volume.node_id, instance.node_id)]
        raise StatusUnsupported(
            f"volume {volume.id}: its data is on node {places[0]}, and the instance on {places[1]}, which share no "
            f"storage: migrate the instance to {places[0]} first",
            f"云盘{volume.id}的数据位于节点{places[0]}，实例位于节点{places[1]}，两者不共享存储，请先迁移实例",
        )


def _check_detachable(volume: Volume, instance: Instance) -> None:
    if volume.instance_id != instance.id:
        raise _not_attached(volume, instance)
    if volume.is_os_disk:
        raise StatusUnsupported(
            f"volume {volume.id} is the system disk of instance {instance.ecs_id}, and stays with it",
            f"云盘{volume.id}是实例{instance.ecs_id}的系统盘，不能卸载",
        )
    refuse_elastic([volume], instance, "stays with its instance", "不能卸载")
    if volume.status != VolumeStatus.IN_USE:
        raise StatusUnsupported(
            f"volume {volume.id} is {volume.status}: it cannot be detached",
            f"云盘{volume.id}状态为{volume.status}，不能卸载",
        )
    if volume.disk_bus not in _HOT_BUSES and instance.status != InstanceStatus.STOPPED:
        raise StatusUnsupported(
            f"volume {volume.id}: a {volume.disk_bus} disk comes and goes only while the instance is stopped",
            f"云盘{volume.id}：{volume.disk_bus}磁盘仅允许在实例关机时挂载或卸载",
        )


def _not_attached(volume: Volume, instance: Instance) -> StatusUnsupported:
    return StatusUnsupported(
        f"volume {volume.id} is not attached to instance {instance.ecs_id}",
        f"云盘{volume.id}未挂载到实例{instance.ecs_id}",
    )


def _assign(
    session: Session, instance: Instance, present: Sequence[Volume], wanted: Sequence[tuple[Volume, AttachOrder]]
) -> None:
    """The volumes are the instance's from here on, and on their way to it."""
    last = max((volume.boot_index for volume in present), default=0)
    for volume, order in wanted:
        volume.instance_id = instance.id
        volume.status = VolumeStatus.ATTACHING
        volume.delete_on_termination = order.delete_on_termination
        if order.bootable:
            last += 1
            volume.boot_index = last
        session.add(volume)
