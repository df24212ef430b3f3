"""Volumes: disks that exist without an instance, too."""

import re
from collections.abc import Sequence

from sqlmodel import Session

from coordinator.domain.caller import Caller
from coordinator.domain.listing import Listing, ListQuery
from coordinator.domain.volume import VolumeStatus
from coordinator.errors import ParameterInvalid, QuotaExceeded, ResourceInUse, ResourceNotFound, StatusUnsupported
from coordinator.runtime import Runtime
from coordinator.services.elastic_disk import refuse_elastic
from coordinator.services.instance_task import require_unlocked
from coordinator.services.region import check_tenant
from coordinator.services.volume_key import make_key, refuse_encrypted_type
from coordinator.services.volume_space import lock_space, require_growth
from coordinator.store.queries import volume as queries
from coordinator.store.queries.instance import lock_instances
from coordinator.store.queries.snapshot import list_of_volumes
from coordinator.store.queries.volume import VolumeRow
from coordinator.store.queries.volume_attachment import list_sharers
from coordinator.store.tables import Instance, Task, Tenant, Volume
from coordinator.tasks.kinds.delete_volume import DELETE_VOLUME
from coordinator.tasks.kinds.grow_volume import GROW_VOLUME
from coordinator.tasks.submission import submit_task

_PREFIX = "volume-"
_SHARED_BUSES = ("virtio", "scsi")
_NUMBER = re.compile(r"[0-9]{1,18}")
_DELETABLE = frozenset({VolumeStatus.AVAILABLE, VolumeStatus.ERROR})
_GROWABLE = frozenset({VolumeStatus.AVAILABLE, VolumeStatus.IN_USE})


def create_volume(runtime: Runtime, caller: Caller, draft: Volume) -> VolumeRow:
    """Stores `draft`, a row without ids and status; a node makes it real when an instance first uses it."""
    if draft.multi_attach and (draft.disk_bus not in _SHARED_BUSES or draft.volume_mode != "Block"):
        raise ParameterInvalid(
            "multiAttach",
            "a volume that instances share is a block device on virtio or scsi",
            "共享云盘须为virtio或scsi总线的块设备",
        )
    draft.tenant_id = _owner(caller, draft.tenant_id)
    check_tenant(runtime, caller, draft.tenant_id)
    draft.uuid = runtime.identifiers.new_uuid()
    draft.status = VolumeStatus.AVAILABLE
    if draft.multi_attach:
        reason = "instances share none that is"
        refuse_encrypted_type(runtime, draft.volume_type, "multiAttach", reason, "不支持共享")
    draft.encryption_key = make_key(runtime, draft.volume_type)
    with runtime.database.write() as session:
        check_volume_quota(session, draft.tenant_id, count=1, size_gib=draft.size_gib)
        session.add(draft)
    return VolumeRow(draft)


def check_volume_quota(session: Session, tenant_id: str, *, count: int, size_gib: int) -> None:
    """QuotaExceeded if the tenant may not have that many more volumes, or GiB; locks the tenant against others."""
    tenant = session.get_one(Tenant, tenant_id, with_for_update=True, populate_existing=True)
    volumes, stored_gib = queries.sum_volumes(session, tenant_id)
    for used, more, limit, en, zh in (
        (volumes, count, tenant.quota_volumes, "volumes", "云盘数量"),
        (stored_gib, size_gib, tenant.quota_storage_gib, "GiB of volumes", "云盘容量（GiB）"),
    ):
        if limit is not None and used + more > limit:
            raise QuotaExceeded(
                f"the tenant may have {limit} {en}, has {used}, wants {more} more",
                f"{zh}超过配额：上限{limit}，已用{used}，申请{more}",
            )


def list_volumes(runtime: Runtime, caller: Caller, query: ListQuery) -> Listing[VolumeRow]:
    """The caller's volumes, those of its instances included."""
    with runtime.database.read() as session:
        return queries.list_volumes(session, _scope(caller), query)


def get_volume(runtime: Runtime, caller: Caller, volume_id: str) -> VolumeRow:
    """The volume with that number or UUID."""
    with runtime.database.read() as session:
        return find_volume(session, caller, volume_id)


def find_volume(session: Session, caller: Caller, volume_id: str) -> VolumeRow:
    """The volume that `volume_id` addresses: a number, "volume-<uuid>" or the bare UUID."""
    number = int(volume_id) if _NUMBER.fullmatch(volume_id) else None
    uuid = volume_id.removeprefix(_PREFIX).lower()
    found = queries.find_volume(session, number=number, uuid=uuid, tenant_id=_scope(caller))
    if found is None:
        raise ResourceNotFound("volume", volume_id)
    return found


def rename_volume(runtime: Runtime, caller: Caller, volume_id: str, name: str) -> VolumeRow:
    """The volume under its new name."""
    with runtime.database.write() as session:
        row = find_volume(session, caller, volume_id)
        row.volume.name = name
        session.add(row.volume)
    return row


def grow_volume(runtime: Runtime, caller: Caller, volume_id: str, size_gib: int) -> Task | None:
    """Makes a volume larger, also while an instance uses it; the task that does it where a node holds its data.

    ParameterInvalid when it would become smaller, QuotaExceeded, StorageInsufficient; the space counts at once.
    The same size is success.
    """
    with runtime.database.write() as session:
        row = find_volume(session, caller, volume_id)
        lock_space(session, None, [row.volume])
        # Instances are locked before volumes, everywhere; they may be others by then.
        names = [instance.ecs_id for _, instance in row.sharers] or [name for name in [row.ecs_id] if name]
        instances = list(lock_instances(session, names).values())
        assert row.volume.id is not None  # noqa: S101 (it is stored)
        volume = queries.lock_volume(session, row.volume.id)
        _check_growth(session, volume, instances, volume_id, size_gib)
        if size_gib == volume.size_gib:
            return None
        check_volume_quota(session, volume.tenant_id, count=0, size_gib=size_gib - volume.size_gib)
        require_growth(session, volume, size_gib)
        task = _submit_growth(session, runtime, caller, volume, instances, size_gib) if volume.node_id else None
        volume.size_gib = size_gib
        session.add(volume)
    runtime.wake_tasks()
    return task


def _check_growth(
    session: Session, volume: Volume, instances: Sequence[Instance], volume_id: str, size_gib: int
) -> None:
    for instance in instances:
        require_unlocked(instance)
    holders = {sharer.id for _, sharer in list_sharers(session, [volume.id])} | {volume.instance_id} - {None}
    if volume.status not in _GROWABLE or holders != {instance.id for instance in instances}:
        raise StatusUnsupported(
            f"volume {volume_id} is {volume.status}: it cannot grow", f"云盘{volume_id}状态为{volume.status}，不能扩容"
        )
    refuse_elastic([volume], instances[0] if instances else None, "has the size that its flavor says", "大小由规格决定")
    if size_gib < volume.size_gib:
        raise ParameterInvalid(
            "volumeSize",
            f"at least the {volume.size_gib} GiB that it has: volumes do not shrink",
            f"不能小于当前容量{volume.size_gib}GiB",
        )


def _submit_growth(
    session: Session, runtime: Runtime, caller: Caller, volume: Volume, instances: Sequence[Instance], size_gib: int
) -> Task:
    args = {
        "uuid": volume.uuid,
        "nodeId": volume.node_id,
        "sizeGib": size_gib,
        "oldSizeGib": volume.size_gib,
        "guests": [
            {"ecsId": instance.ecs_id, "nodeId": instance.node_id, "domainUuid": instance.uuid}
            for instance in instances
        ],
    }
    task = submit_task(
        session,
        runtime,
        GROW_VOLUME,
        args=args,
        tenant_id=volume.tenant_id,
        resource_id=f"{_PREFIX}{volume.uuid}",
        request_id=caller.request_id,
    )
    volume.status = VolumeStatus.GROWING
    for instance in instances:
        # Nothing else changes it, nor moves it, meanwhile.
        instance.task_id, instance.task_at = task.id, runtime.now()
        session.add(instance)
    return task


def delete_volume(runtime: Runtime, caller: Caller, volume_id: str) -> Task | None:
    """Deletes a volume that no instance uses; the task that does it where a node holds its data."""
    with runtime.database.write() as session:
        found = find_volume(session, caller, volume_id).volume
        assert found.id is not None  # noqa: S101 (it is stored)
        volume = queries.lock_volume(session, found.id)
        if volume.instance_id is not None or volume.status not in _DELETABLE:
            raise StatusUnsupported(
                f"volume {volume_id} is {volume.status}: it cannot be deleted",
                f"云盘{volume_id}状态为{volume.status}，不能删除",
            )
        _require_no_snapshots(session, volume)
        if volume.node_id is None:
            session.delete(volume)
            return None
        volume.status = VolumeStatus.DELETING
        session.add(volume)
        task = _submit_deletion(session, runtime, caller, volume)
    runtime.wake_tasks()
    return task


def _require_no_snapshots(session: Session, volume: Volume) -> None:
    if found := list_of_volumes(session, [volume.id]):
        ids = [snapshot.snapshot_id for snapshot in found]
        raise ResourceInUse(
            f"volume-{volume.uuid} is part of snapshots: delete {', '.join(ids)} first",
            f"云盘volume-{volume.uuid}存在快照，请先删除：{'、'.join(ids)}",
        )


def _submit_deletion(session: Session, runtime: Runtime, caller: Caller, volume: Volume) -> Task:
    return submit_task(
        session,
        runtime,
        DELETE_VOLUME,
        args={"uuid": volume.uuid, "nodeId": volume.node_id},
        tenant_id=volume.tenant_id,
        resource_id=f"{_PREFIX}{volume.uuid}",
        request_id=caller.request_id,
    )


def _owner(caller: Caller, tenant_id: str) -> str:
    if caller.is_tenant and caller.tenant_id:
        if tenant_id not in ("", caller.tenant_id):
            raise ResourceNotFound("tenant", tenant_id)
        return caller.tenant_id
    if not tenant_id:
        raise ParameterInvalid("tenantId", "is required for operators", "运营人员必须指定租户")
    return tenant_id


def _scope(caller: Caller) -> str | None:
    return caller.tenant_id if caller.is_tenant else None
