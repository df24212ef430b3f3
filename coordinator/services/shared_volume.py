"""Volumes that several instances have at once."""

from collections.abc import Sequence

from sqlmodel import Session

from coordinator.domain.caller import Caller
from coordinator.domain.volume import MAXIMUM_SHARERS, MAXIMUM_VOLUMES, VolumeStatus
from coordinator.errors import ParameterInvalid, ResourceNotFound, StatusUnsupported, VolumesTooMany
from coordinator.runtime import Runtime
from coordinator.services.instance import find_own_batch
from coordinator.services.instance_task import require_unlocked
from coordinator.services.volume import find_volume
from coordinator.services.volume_space import take_space
from coordinator.store.queries import instance as instance_query
from coordinator.store.queries.node import share_volume
from coordinator.store.queries.volume import lock_volume
from coordinator.store.queries.volume_attachment import list_shared, list_sharers
from coordinator.store.tables import Instance, Node, Volume, VolumeAttachment
from coordinator.tasks.kinds.attach_shared_volume import ATTACH_SHARED_VOLUME
from coordinator.tasks.kinds.detach_shared_volume import DETACH_SHARED_VOLUME
from coordinator.tasks.model import TaskKind
from coordinator.tasks.submission import submit_task

_USABLE = (VolumeStatus.AVAILABLE, VolumeStatus.IN_USE)


def attach_shared(
    runtime: Runtime, caller: Caller, volume_id: str, ecs_ids: Sequence[str], *, delete_on_termination: bool = False
) -> str:
    """Gives a shared volume to instances, to all of them or to none; answers the operation id.

    StatusUnsupported where their nodes do not all have the storage that it is in, or one has it already; VolumesTooMany
    beyond sixteen instances of a volume, or sixteen volumes of an instance.
    """
    with runtime.database.write() as session:
        instances, volume = _lock(session, caller, volume_id, ecs_ids)
        _check_attachable(session, volume, instances)
        for instance in instances:
            assert instance.id is not None  # noqa: S101 (it is stored)
            session.add(
                VolumeAttachment(
                    volume_id=volume.id or 0,
                    instance_id=instance.id,
                    status=VolumeStatus.ATTACHING,
                    delete_on_termination=delete_on_termination,
                )
            )
        take_space(session, instances[0].node_id, [volume] if volume.node_id is None else [])
        operation_id = _begin(session, runtime, caller, ATTACH_SHARED_VOLUME, volume, instances)
        volume.status = VolumeStatus.IN_USE
        session.add(volume)
    runtime.wake_tasks()
    return operation_id


def detach_shared(runtime: Runtime, caller: Caller, volume_id: str, ecs_ids: Sequence[str]) -> str:
    """Takes a shared volume from instances, from all of them or from none; answers the operation id.

    It fails when one of the guests does not let go in time: then all of them have it as before.
    """
    with runtime.database.write() as session:
        instances, volume = _lock(session, caller, volume_id, ecs_ids)
        found = {attachment.instance_id: attachment for attachment, _ in list_sharers(session, [volume.id])}
        for instance in instances:
            attachment = found.get(instance.id or 0)
            if attachment is None or attachment.status != VolumeStatus.IN_USE:
                raise StatusUnsupported(
                    f"volume {volume.id} is not attached to instance {instance.ecs_id}",
                    f"云盘{volume.id}未挂载到实例{instance.ecs_id}",
                )
            attachment.status = VolumeStatus.DETACHING
            session.add(attachment)
        operation_id = _begin(session, runtime, caller, DETACH_SHARED_VOLUME, volume, instances)
    runtime.wake_tasks()
    return operation_id


def _lock(
    session: Session, caller: Caller, volume_id: str, ecs_ids: Sequence[str]
) -> tuple[Sequence[Instance], Volume]:
    if not 1 <= len(ecs_ids) <= MAXIMUM_SHARERS:
        raise ParameterInvalid("ecsIds", f"1 to {MAXIMUM_SHARERS}", f"须为1到{MAXIMUM_SHARERS}个实例ID")
    if len(set(ecs_ids)) < len(ecs_ids):
        raise ParameterInvalid("ecsIds", "names an instance twice", "同一实例重复出现")
    found = find_volume(session, caller, volume_id).volume
    # Instances are locked before volumes, everywhere.
    instances = find_own_batch(session, caller, ecs_ids)
    for instance in instances:
        require_unlocked(instance)
    volume = lock_volume(session, found.id or 0)
    if not volume.multi_attach:
        raise StatusUnsupported(
            f"volume {volume.id} ({volume.name}) is not shared: only one that was created with multiAttach is",
            f"云盘{volume.id}（{volume.name}）不是共享云盘，须在创建时设置multiAttach",
        )
    if volume.status not in _USABLE:
        raise StatusUnsupported(
            f"volume {volume.id} ({volume.name}) is {volume.status}: try again later",
            f"云盘{volume.id}（{volume.name}）状态为{volume.status}，请稍后重试",
        )
    return instances, volume


def _check_attachable(session: Session, volume: Volume, instances: Sequence[Instance]) -> None:
    sharers = [instance for _, instance in list_sharers(session, [volume.id])]
    if len(sharers) + len(instances) > MAXIMUM_SHARERS:
        raise VolumesTooMany(
            "ecsIds",
            f"{MAXIMUM_SHARERS} instances may share a volume, {len(sharers)} do, {len(instances)} more would",
            f"一块共享云盘最多挂载{MAXIMUM_SHARERS}个实例，已挂载{len(sharers)}个，本次{len(instances)}个",
        )
    for instance in instances:
        if volume.tenant_id != instance.tenant_id:
            raise ResourceNotFound("volume", f"volume-{volume.uuid}")
        if any(sharer.id == instance.id for sharer in sharers):
            raise StatusUnsupported(
                f"instance {instance.ecs_id} has volume {volume.id} already",
                f"实例{instance.ecs_id}已挂载云盘{volume.id}",
            )
        present = len(instance_query.list_volumes(session, instance)) + len(list_shared(session, instance.id))
        if present >= MAXIMUM_VOLUMES:
            raise VolumesTooMany(
                "ecsIds",
                f"instance {instance.ecs_id} has {present} volumes, as many as it may",
                f"实例{instance.ecs_id}已挂载{present}块云盘，达到上限",
            )
    _check_storage(session, volume, [*sharers, *instances])


def _check_storage(session: Session, volume: Volume, instances: Sequence[Instance]) -> None:
    """All of them are where the data is, or will be."""
    for instance in instances:
        if instance.node_id is None:
            raise StatusUnsupported(f"instance {instance.ecs_id} is on no node", f"实例{instance.ecs_id}不在任何节点上")
    node_ids = dict.fromkeys([*filter(None, [volume.node_id]), *(it.node_id for it in instances if it.node_id)])
    if share_volume(session, volume, *node_ids):
        return
    names = ", ".join(session.get_one(Node, node_id).name for node_id in node_ids)
    raise StatusUnsupported(
        f"volume {volume.id}: nodes {names} do not share their storage, and a volume that instances share has to be "
        "where all of them see it: migrate them to one node first, or to nodes with shared storage",
        f"云盘{volume.id}：节点{names}不共享存储，共享云盘须位于所有实例均可访问的存储上，请先迁移实例",
    )


def _begin(
    session: Session, runtime: Runtime, caller: Caller, kind: TaskKind, volume: Volume, instances: Sequence[Instance]
) -> str:
    """All of the instances show the operation: nothing else changes them, nor moves them, meanwhile."""
    args = {
        "uuid": volume.uuid,
        "ecsIds": [instance.ecs_id for instance in instances],
        "isNew": volume.node_id is None,
    }
    task = submit_task(
        session,
        runtime,
        kind,
        args=args,
        tenant_id=volume.tenant_id,
        resource_id=f"volume-{volume.uuid}",
        request_id=caller.request_id,
    )
    for instance in instances:
        instance.task_id, instance.task_at = task.id, runtime.now()
        session.add(instance)
    return task.id
