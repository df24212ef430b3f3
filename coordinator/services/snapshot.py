"""Snapshots of instances: all volumes of one at one moment, kept in the volumes themselves."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlmodel import Session

from coordinator.domain.caller import Caller
from coordinator.domain.identifier import Prefix
from coordinator.domain.instance import InstanceStatus
from coordinator.domain.listing import Listing, ListQuery
from coordinator.domain.snapshot import MAXIMUM_SNAPSHOT_NAME, SnapshotOrder, SnapshotStatus
from coordinator.errors import ParameterInvalid, QuotaExceeded, ResourceNotFound, StatusUnsupported
from coordinator.runtime import Runtime
from coordinator.services.elastic_disk import refuse_elastic
from coordinator.services.instance import find_own
from coordinator.services.instance_task import begin_task, require_unlocked
from coordinator.services.volume_backend import require_snapshots
from coordinator.store.queries import snapshot as queries
from coordinator.store.queries.instance import list_volumes
from coordinator.store.queries.snapshot import SnapshotPart, SnapshotRow
from coordinator.store.tables import Instance, Snapshot, VolumeSnapshot
from coordinator.tasks.kinds.create_snapshot import CREATE_SNAPSHOT
from coordinator.tasks.kinds.delete_snapshot import DELETE_SNAPSHOT
from coordinator.tasks.kinds.roll_back_instance import ROLL_BACK_INSTANCE

_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_DELETABLE: Final = frozenset({SnapshotStatus.AVAILABLE, SnapshotStatus.ERROR})


@dataclass(frozen=True, slots=True)
class SnapshotView:
    """A snapshot with what it holds of each volume."""

    found: SnapshotRow
    parts: Sequence[SnapshotPart]


@dataclass(frozen=True, slots=True)
class NewSnapshot:
    """A snapshot that is being taken, and the operation that does it."""

    row: Snapshot
    operation_id: str


def create_snapshot(runtime: Runtime, caller: Caller, ecs_id: str, order: SnapshotOrder) -> NewSnapshot:
    """Begins to take a snapshot of all volumes that the instance has.

    ParameterInvalid, InstanceLocked, StatusUnsupported, QuotaExceeded.
    """
    with runtime.database.write() as session:
        instance = find_own(session, caller, ecs_id, for_update=True)
        created = begin_snapshot(session, runtime, caller, instance, order)
    runtime.wake_tasks()
    return created


def begin_snapshot(
    session: Session, runtime: Runtime, caller: Caller, instance: Instance, order: SnapshotOrder
) -> NewSnapshot:
    """The same in the caller's transaction, of an instance that it has locked; the caller wakes the engine."""
    check_name(order.name, "snapshotName")
    require_unlocked(instance)
    volumes = list_volumes(session, instance)
    refuse_elastic(volumes, instance, "has no snapshots", "不支持快照")
    require_snapshots(volumes, instance)
    limit = runtime.settings.snapshots_per_instance
    if queries.count_of_instance(session, instance.id) >= limit:
        raise QuotaExceeded(
            f"instance {instance.ecs_id} has {limit} snapshots already, those in the recycle bin included",
            f"实例{instance.ecs_id}的快照数量已达上限{limit}（含回收站）",
        )
    # A caller that goes on after a refusal finds no rows of it.
    with session.begin_nested():
        row = _add_rows(session, runtime, instance, order)
        args = {"snapshotId": row.snapshot_id, "quiesces": order.quiesces}
        return NewSnapshot(row, begin_task(session, runtime, caller, CREATE_SNAPSHOT, instance, args=args))


def _add_rows(session: Session, runtime: Runtime, instance: Instance, order: SnapshotOrder) -> Snapshot:
    assert instance.id is not None  # noqa: S101 - it is stored
    row = Snapshot(
        snapshot_id=runtime.identifiers.new(Prefix.SNAPSHOT),
        name=order.name,
        description=order.description,
        tenant_id=instance.tenant_id,
        department_id=instance.department_id,
        resource_group_id=instance.resource_group_id,
        instance_id=instance.id,
        status=SnapshotStatus.CREATING,
        type=order.type,
        expires_at=order.expires_at,
    )
    session.add(row)
    session.flush()
    assert row.id is not None  # noqa: S101 - flushed before
    for volume in list_volumes(session, instance):
        assert volume.id is not None  # noqa: S101 - it is stored
        session.add(
            VolumeSnapshot(
                snapshot_id=row.id,
                volume_id=volume.id,
                size_gib=volume.size_gib,
                is_os_disk=volume.is_os_disk,
                image_id=volume.image_id,
            )
        )
    session.flush()
    return row


def list_snapshots(runtime: Runtime, caller: Caller, query: ListQuery) -> Listing[SnapshotRow]:
    """The caller's snapshots, for an operator everybody's; those in the recycle bin are left out."""
    with runtime.database.read() as session:
        return queries.list_snapshots(session, _scope(caller), query)


def get_snapshot(runtime: Runtime, caller: Caller, snapshot_id: str) -> SnapshotView:
    """One snapshot that is not in the recycle bin, by id or number."""
    with runtime.database.read() as session:
        found = find_own_snapshot(session, caller, snapshot_id)
        return SnapshotView(found, queries.list_parts(session, found.row))


def begin_deletion(session: Session, runtime: Runtime, caller: Caller, instance: Instance, snapshot_id: str) -> str:
    """Begins to delete a snapshot for good, in the bin or not, of an instance that the caller has locked.

    Answers the operation id. Guests go on meanwhile.
    """
    require_unlocked(instance)
    row = queries.lock_snapshot(session, snapshot_id)
    if row is None:
        raise ResourceNotFound("snapshot", snapshot_id)
    if row.status not in _DELETABLE:
        raise StatusUnsupported(
            f"snapshot {snapshot_id} is {row.status}: it cannot be deleted",
            f"快照{snapshot_id}状态为{row.status}，不能删除",
        )
    args = {"snapshotId": snapshot_id, "statusBefore": row.status}
    operation_id = begin_task(session, runtime, caller, DELETE_SNAPSHOT, instance, args=args)
    row.status = SnapshotStatus.DELETING
    session.add(row)
    return operation_id


def roll_back(runtime: Runtime, caller: Caller, snapshot_id: str, *, force: bool = False) -> str:
    """Begins to put the instance's volumes back to the snapshot; answers the operation id.

    An instance that runs is stopped before, by force if that is asked for, and started again afterwards.
    """
    with runtime.database.write() as session:
        found = find_own_snapshot(session, caller, snapshot_id)
        instance = find_own(session, caller, found.ecs_id, for_update=True)
        require_unlocked(instance)
        row = queries.lock_snapshot(session, found.row.snapshot_id)
        if row is None or row.status != SnapshotStatus.AVAILABLE:
            status = row.status if row else SnapshotStatus.DELETING
            raise StatusUnsupported(
                f"snapshot {snapshot_id} is {status}: nothing can be rolled back to it",
                f"快照{snapshot_id}状态为{status}，不能回滚",
            )
        starts = instance.status == InstanceStatus.RUNNING
        args = {"snapshotId": row.snapshot_id, "starts": starts, "force": force}
        operation_id = begin_task(session, runtime, caller, ROLL_BACK_INSTANCE, instance, args=args)
        row.status = SnapshotStatus.ROLLING_BACK
        session.add(row)
    runtime.wake_tasks()
    return operation_id


def find_own_snapshot(session: Session, caller: Caller, snapshot_id: str, *, deleted: bool = False) -> SnapshotRow:
    """The snapshot with that id or number, if it is the caller's; `deleted`: one in the recycle bin."""
    number = int(snapshot_id) if _NUMBER.fullmatch(snapshot_id) else None
    found = queries.find_snapshot(session, _scope(caller), number=number, snapshot_id=snapshot_id, deleted=deleted)
    if found is None:
        raise ResourceNotFound("snapshot", snapshot_id)
    return found


def check_name(name: str, field: str) -> None:
    """ParameterInvalid unless it is a name for a snapshot."""
    if not 1 <= len(name) <= MAXIMUM_SNAPSHOT_NAME or not name.isprintable() or name != name.strip():
        raise ParameterInvalid(
            field,
            f"1 to {MAXIMUM_SNAPSHOT_NAME} characters, no control characters, no space at either end",
            f"长度为1到{MAXIMUM_SNAPSHOT_NAME}个字符，不能包含控制字符，首尾不能有空格",
        )


def _scope(caller: Caller) -> str | None:
    return caller.tenant_id if caller.is_tenant else None
