"""Backups of volumes: files of what they held at one moment, whole or what has changed since the backup before."""

from collections.abc import Sequence

from sqlmodel import Session, col, select

from coordinator.domain.backup import BackupMode, BackupOrder, BackupStatus
from coordinator.domain.caller import Caller
from coordinator.domain.identifier import Prefix
from coordinator.domain.listing import Listing, ListQuery
from coordinator.errors import ParameterInvalid, ResourceNotFound, StatusUnsupported
from coordinator.runtime import Runtime
from coordinator.services.elastic_disk import refuse_elastic
from coordinator.services.instance import find_own, find_own_batch
from coordinator.services.instance_task import begin_task, changed_meanwhile, require_unlocked
from coordinator.services.volume import find_volume
from coordinator.services.volume_backend import require_backups
from coordinator.services.volume_key import require_plain
from coordinator.store.queries import backup as queries
from coordinator.store.queries.instance import list_volumes
from coordinator.store.tables import Instance, Volume, VolumeBackup
from coordinator.tasks.kinds.back_up_volumes import BACK_UP_VOLUMES
from coordinator.tasks.kinds.delete_backup import DELETE_BACKUP
from coordinator.tasks.submission import submit_task

_DELETABLE = frozenset({BackupStatus.AVAILABLE, BackupStatus.ERROR})


def create_backups(runtime: Runtime, caller: Caller, order: BackupOrder) -> tuple[Sequence[VolumeBackup], str]:
    """Begins to back up volumes of an instance at one moment; the rows, one a volume, and the operation id.

    ParameterInvalid unless the order names an instance or a volume, ResourceNotFound, InstanceLocked,
    StatusUnsupported, also of a volume that no instance has.
    """
    if bool(order.ecs_id) == bool(order.volume_id):
        raise ParameterInvalid("ecsId", "either this or volumeId", "须指定ecsId或volumeId之一")
    with runtime.database.write() as session:
        instance, volumes = _find_volumes(session, caller, order)
        require_unlocked(instance)
        refuse_elastic(volumes, instance, "has no snapshots, and so no backups", "不支持快照，因而不支持备份")
        require_backups(volumes, instance)
        require_plain(volumes, "is not backed up", "不支持备份")
        point_id = runtime.identifiers.new(Prefix.BACKUP)
        rows = [_add_row(session, runtime, instance, volume, point_id, order.mode) for volume in volumes]
        session.flush()
        args = {"pointId": point_id, "backupIds": [row.backup_id for row in rows], "quiesces": order.quiesces}
        operation_id = begin_task(session, runtime, caller, BACK_UP_VOLUMES, instance, args=args)
    runtime.wake_tasks()
    return rows, operation_id


def list_backups(runtime: Runtime, caller: Caller, query: ListQuery) -> Listing[VolumeBackup]:
    """The caller's backups, for an operator everybody's."""
    with runtime.database.read() as session:
        return queries.list_backups(session, _scope(caller), query)


def get_backup(runtime: Runtime, caller: Caller, backup_id: str) -> VolumeBackup:
    """One backup."""
    with runtime.database.read() as session:
        return _find(session, caller, backup_id)


def delete_backup(runtime: Runtime, caller: Caller, backup_id: str) -> str:
    """Begins to delete a backup; answers the operation id.

    The one that the volume keeps the state of is no parent any more: the next backup of the volume is whole.
    """
    with runtime.database.write() as session:
        found = _find(session, caller, backup_id)
        instance = _find_user(session, found)
        if instance is not None:
            # Also of one in the recycle bin: what it keeps takes up space there.
            [instance] = find_own_batch(session, caller, [instance.ecs_id], recycled=True)
            require_unlocked(instance)
        row = _find(session, caller, backup_id, for_update=True)
        if row.status not in _DELETABLE:
            raise StatusUnsupported(
                f"backup {backup_id} is {row.status}: it cannot be deleted",
                f"备份{backup_id}状态为{row.status}，不能删除",
            )
        operation_id = _submit_deletion(session, runtime, caller, row, instance)
        row.status = BackupStatus.DELETING
        session.add(row)
    runtime.wake_tasks()
    return operation_id


def _find_volumes(session: Session, caller: Caller, order: BackupOrder) -> tuple[Instance, Sequence[Volume]]:
    if order.ecs_id:
        instance = find_own(session, caller, order.ecs_id, for_update=True)
        volumes = list_volumes(session, instance)
        if not volumes:
            raise StatusUnsupported(f"instance {order.ecs_id} has no volumes", f"实例{order.ecs_id}没有云盘")
        return instance, volumes
    volume, ecs_id, *_ = find_volume(session, caller, order.volume_id)
    if volume.multi_attach:
        raise StatusUnsupported(
            f"volume {order.volume_id} is shared: it is not backed up", f"云盘{order.volume_id}为共享盘，不支持备份"
        )
    if not ecs_id:
        raise StatusUnsupported(
            f"no instance has volume {order.volume_id}: attach it before",
            f"云盘{order.volume_id}未挂载到实例，请先挂载",
        )
    # Instances are locked before volumes are relied on; it may be another one's by then.
    instance = find_own(session, caller, ecs_id, for_update=True)
    session.refresh(volume)
    if volume.instance_id != instance.id:
        raise changed_meanwhile(instance)
    return instance, [volume]


def _add_row(
    session: Session, runtime: Runtime, instance: Instance, volume: Volume, point_id: str, mode: BackupMode
) -> VolumeBackup:
    former = queries.list_with_state(session, [volume.uuid]) if mode is BackupMode.INCREMENTAL else ()
    parents = [row.backup_id for row in former if row.status == BackupStatus.AVAILABLE]
    row = VolumeBackup(
        backup_id=runtime.identifiers.new(Prefix.BACKUP),
        point_id=point_id,
        tenant_id=volume.tenant_id,
        ecs_id=instance.ecs_id,
        volume_uuid=volume.uuid,
        volume_name=volume.name,
        is_os_disk=volume.is_os_disk,
        node_id=instance.node_id or "",
        status=BackupStatus.CREATING,
        parent_id=parents[0] if parents else "",
        size_gib=volume.size_gib,
    )
    session.add(row)
    return row


def _find_user(session: Session, row: VolumeBackup) -> Instance | None:
    """The instance that has the volume now, if its state is to be removed from there."""
    if not row.holds_state:
        return None
    statement = (
        select(Instance)
        .join(Volume, col(Volume.instance_id) == col(Instance.id))
        .where(col(Volume.uuid) == row.volume_uuid)
    )
    return session.exec(statement).first()


def _submit_deletion(
    session: Session, runtime: Runtime, caller: Caller, row: VolumeBackup, instance: Instance | None
) -> str:
    args = {"backupIds": [row.backup_id], "statusBefore": row.status}
    if instance is not None:
        return begin_task(session, runtime, caller, DELETE_BACKUP, instance, args=args)
    return submit_task(
        session,
        runtime,
        DELETE_BACKUP,
        args={"ecsId": "", **args},
        tenant_id=row.tenant_id,
        resource_id=row.backup_id,
        request_id=caller.request_id,
    ).id


def _find(session: Session, caller: Caller, backup_id: str, *, for_update: bool = False) -> VolumeBackup:
    found = queries.find_backup(session, backup_id, _scope(caller), for_update=for_update)
    if found is None:
        raise ResourceNotFound("backup", backup_id)
    return found


def _scope(caller: Caller) -> str | None:
    return caller.tenant_id if caller.is_tenant else None
