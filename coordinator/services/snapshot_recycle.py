"""Snapshots in the recycle bin, and all snapshots whose time is over: these the coordinator deletes by itself."""

from datetime import timedelta
from typing import Final

import structlog
from sqlmodel import Session

from coordinator.domain.caller import Caller, Role
from coordinator.domain.event import Severity
from coordinator.domain.listing import Listing, ListQuery
from coordinator.domain.snapshot import SnapshotStatus
from coordinator.errors import CoordinatorError, ResourceNotFound, StatusUnsupported
from coordinator.runtime import Runtime
from coordinator.services.instance import find_own, find_own_batch
from coordinator.services.instance_task import require_unlocked
from coordinator.services.setback import Setbacks
from coordinator.services.slots import choose
from coordinator.services.snapshot import begin_deletion, find_own_snapshot
from coordinator.store.queries import snapshot_recycle as queries
from coordinator.store.queries.event import record_event
from coordinator.store.queries.instance import lock_tasks_of
from coordinator.store.queries.recycle_setting import read_recycle_config
from coordinator.store.queries.snapshot import lock_snapshot
from coordinator.store.queries.snapshot_policy import count_in_status
from coordinator.store.queries.snapshot_recycle import RecycledSnapshot
from coordinator.store.tables import Instance, Snapshot

# Merging the data of a snapshot reads and writes disks that guests use.
MOST_AT_ONCE: Final = 16
MOST_OF_NODE: Final = 1
_SELF: Final = Caller("recycle-bin", Role.OPERATOR)

log = structlog.get_logger(__name__)


def recycle_snapshot(runtime: Runtime, caller: Caller, snapshot_id: str) -> str | None:
    """Deletes a snapshot: while the recycle bin is on it goes there at once; else the operation is answered.

    One that was never taken is not kept.
    """
    with runtime.database.write() as session:
        found = find_own_snapshot(session, caller, snapshot_id)
        instance = find_own(session, caller, found.ecs_id, for_update=True)
        require_unlocked(instance)
        config = read_recycle_config(session)
        row = lock_snapshot(session, found.row.snapshot_id)
        if row is not None and config.enabled and row.status == SnapshotStatus.AVAILABLE:
            row.deleted_at = runtime.now()
            row.purge_at = row.deleted_at + timedelta(days=config.freeze_days)
            session.add(row)
            _tell(session, row, "snapshot.recycled", purgeAt=row.purge_at.isoformat())
            log.info("snapshot.recycled", snapshotId=row.snapshot_id, by=caller.token_id)
            return None
        operation_id = begin_deletion(session, runtime, caller, instance, found.row.snapshot_id)
    runtime.wake_tasks()
    return operation_id


def list_recycled(runtime: Runtime, caller: Caller, query: ListQuery) -> Listing[RecycledSnapshot]:
    """The caller's snapshots in the bin, for an operator everybody's."""
    with runtime.database.read() as session:
        return queries.list_recycled(session, caller.tenant_id if caller.is_tenant else None, query)


def restore_snapshot(runtime: Runtime, caller: Caller, snapshot_id: str) -> None:
    """The snapshot can be used as before; StatusUnsupported once it is being deleted for good."""
    with runtime.database.write() as session:
        row, instance = _lock(session, caller, snapshot_id)
        require_unlocked(instance)
        if row.status != SnapshotStatus.AVAILABLE:
            raise StatusUnsupported(
                f"snapshot {snapshot_id} is {row.status}: there is no way back",
                f"快照{snapshot_id}状态为{row.status}，无法还原",
            )
        row.deleted_at = row.purge_at = None
        session.add(row)
        _tell(session, row, "snapshot.restored")
    log.info("snapshot.restored", snapshotId=snapshot_id, by=caller.token_id)


def purge_snapshot(runtime: Runtime, caller: Caller, snapshot_id: str) -> str:
    """Begins to delete a snapshot in the bin for good; answers the operation."""
    with runtime.database.write() as session:
        row, instance = _lock(session, caller, snapshot_id)
        operation_id = begin_deletion(session, runtime, caller, instance, row.snapshot_id)
    runtime.wake_tasks()
    return operation_id


class SnapshotPurgeSweep:
    """The repeated look at snapshots that are kept no longer: by the bin, or by the policy that they were taken for."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._setbacks = Setbacks(runtime)

    def __call__(self) -> list[str]:
        """Begins the deletions whose turn it is; answers the ids of the snapshots."""
        database = self._runtime.database
        if not database.lead():
            return []
        with database.read() as session:
            expired = queries.find_expired(session, self._runtime.now())
            running = count_in_status(session, SnapshotStatus.DELETING) if expired else {}
        chosen = choose(self._setbacks.pass_over(expired), running, most=MOST_AT_ONCE, most_of_node=MOST_OF_NODE)
        begun = [snapshot_id for snapshot_id in chosen if self._begin_safely(snapshot_id)]
        if begun:
            self._runtime.wake_tasks()
        return begun

    def _begin_safely(self, snapshot_id: str) -> bool:
        with self._setbacks.noting(snapshot_id, "snapshot.purge_failed"):
            return self._begin(snapshot_id)
        return False

    def _begin(self, snapshot_id: str) -> bool:
        try:
            with self._runtime.database.write() as session:
                row, instance = _lock_any(session, snapshot_id)
                # Somebody may have restored it meanwhile.
                if not queries.is_over(row, self._runtime.now()):
                    return False
                begin_deletion(session, self._runtime, _SELF, instance, snapshot_id)
        except CoordinatorError:
            # Somebody has begun something with it, or its instance, meanwhile.
            log.info("snapshot.not_purged", snapshotId=snapshot_id, exc_info=True)
            return False
        return True


def _tell(session: Session, row: Snapshot, kind: str, **data: str) -> None:
    record_event(
        session,
        kind,
        severity=Severity.INFO,
        resource_type="snapshot",
        resource_id=row.snapshot_id,
        tenant_id=row.tenant_id,
        data={"name": row.name, **data},
    )


def _lock_any(session: Session, snapshot_id: str) -> tuple[Snapshot, Instance]:
    """A snapshot, in the bin or not, and its instance; instances are locked before snapshots, everywhere."""
    ecs_id = queries.find_instance_of(session, snapshot_id)
    lock_tasks_of(session, [ecs_id])
    [instance] = find_own_batch(session, _SELF, [ecs_id], recycled=True)
    row = lock_snapshot(session, snapshot_id)
    if row is None:
        raise ResourceNotFound("snapshot", snapshot_id)
    return row, instance


def _lock(session: Session, caller: Caller, snapshot_id: str) -> tuple[Snapshot, Instance]:
    """A snapshot of the caller's in the bin, and its instance."""
    found = find_own_snapshot(session, caller, snapshot_id, deleted=True)
    row, instance = _lock_any(session, found.row.snapshot_id)
    if row.deleted_at is None:
        raise ResourceNotFound("snapshot", snapshot_id)
    return row, instance
