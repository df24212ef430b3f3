"""Snapshots in the recycle bin, and those that are to be deleted because their time is over."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, false, func, or_
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from coordinator.domain.instance import InstanceStatus
from coordinator.domain.listing import Listing, ListQuery, Ordering
from coordinator.domain.snapshot import SnapshotStatus, SnapshotType
from coordinator.store.queries.filter import Field, fetch_page, fields
from coordinator.store.tables import Department, Instance, Node, ResourceGroup, Snapshot, Tenant, VolumeSnapshot


@dataclass(frozen=True, slots=True)
class RecycledSnapshot:
    """A snapshot in the bin, what it is of, and whose it is."""

    row: Snapshot
    ecs_id: str
    ecs_name: str
    zone: str
    tenant_name: str
    department_name: str | None
    resource_group_name: str | None
    volume_count: int


_FIELDS: Final = fields(
    id=Field(Snapshot.id, int),
    instanceId=Snapshot.snapshot_id,
    instanceName=Snapshot.name,
    ecsId=Instance.ecs_id,
    tenantId=Snapshot.tenant_id,
    zone=Instance.zone,
    createdAt=Field(Snapshot.deleted_at, datetime),
    cleanAt=Field(Snapshot.purge_at, datetime),
)
_VOLUMES: Final = (
    select_columns(func.count()).where(col(VolumeSnapshot.snapshot_id) == col(Snapshot.id)).correlate(Snapshot)
).scalar_subquery()
# One that failed is tried again after so long, and one that was never taken forgotten.
RETRY_PAUSE: Final = timedelta(minutes=10)
FAILED_KEEPING: Final = timedelta(days=1)


def list_recycled(session: Session, tenant_id: str | None, query: ListQuery) -> Listing[RecycledSnapshot]:
    """Snapshots in the bin of the tenant (None: everybody's), the one that was deleted last first."""
    columns = (
        Snapshot,
        Instance.ecs_id,
        Instance.display_name,
        Instance.zone,
        Tenant.name,
        Department.name,
        ResourceGroup.name,
        _VOLUMES,
    )
    statement: Any = (
        select_columns(*columns)  # type: ignore[call-overload]
        .join(Instance, col(Instance.id) == col(Snapshot.instance_id))
        .join(Tenant, col(Tenant.id) == col(Snapshot.tenant_id))
        .outerjoin(Department, col(Department.id) == col(Snapshot.department_id))
        .outerjoin(ResourceGroup, col(ResourceGroup.id) == col(Snapshot.resource_group_id))
        .where(col(Snapshot.deleted_at).is_not(None))
    )
    if tenant_id is not None:
        statement = statement.where(col(Snapshot.tenant_id) == tenant_id)
    newest_first = (Ordering("createdAt", descending=True),)
    page = fetch_page(session, statement, query, _FIELDS, tie_break=col(Snapshot.id), default=newest_first)
    return Listing(tuple(RecycledSnapshot(*row) for row in page.items), page.total)


def find_expired(session: Session, now: datetime) -> Sequence[tuple[str, str | None]]:
    """Ids of snapshots whose time is over, and their nodes, who is overdue longest first.

    Left out are those of instances that somebody works on, that are locked or in the recycle bin themselves, and those
    of nodes that are away.
    """
    statement = (
        select_columns(col(Snapshot.snapshot_id), col(Instance.node_id))
        .join(Instance, col(Instance.id) == col(Snapshot.instance_id))
        .outerjoin(Node, col(Node.id) == col(Instance.node_id))
        .where(
            _is_over(now),
            or_(
                col(Snapshot.status) == SnapshotStatus.AVAILABLE,
                and_(col(Snapshot.status) == SnapshotStatus.ERROR, col(Snapshot.updated_at) <= now - RETRY_PAUSE),
            ),
            or_(col(Instance.node_id).is_(None), col(Node.ready)),
            col(Instance.deleted_at).is_(None),
            col(Instance.task_id).is_(None),
            col(Instance.is_locked) == false(),
            col(Instance.status) != InstanceStatus.SOFT_DELETED,
        )
        .order_by(func.coalesce(col(Snapshot.purge_at), col(Snapshot.expires_at)), col(Snapshot.id))
    )
    return [(snapshot_id, node_id) for snapshot_id, node_id in session.execute(statement)]


def find_instance_of(session: Session, snapshot_id: str) -> str:
    """The id of the snapshot's instance; empty when there is no such snapshot."""
    statement = select(Instance.ecs_id).join(Snapshot, col(Snapshot.instance_id) == col(Instance.id))
    return session.exec(statement.where(Snapshot.snapshot_id == snapshot_id)).first() or ""


def is_over(row: Snapshot, now: datetime) -> bool:
    """What `find_expired` says of one: it is in the bin, or of a policy, and its time is over."""
    if row.purge_at is not None and row.purge_at <= now:
        return True
    failed = row.status == SnapshotStatus.ERROR and row.created_at <= now - FAILED_KEEPING
    return row.type == SnapshotType.AUTO and (failed or (row.expires_at is not None and row.expires_at <= now))


def _is_over(now: datetime) -> ColumnElement[bool]:
    """In the bin, of a policy that keeps it no longer, or of one for which it could not be taken.

    Each of the three has an index of its own: this is asked every few seconds.
    """
    is_auto = col(Snapshot.type) == SnapshotType.AUTO
    failed = and_(col(Snapshot.status) == SnapshotStatus.ERROR, col(Snapshot.created_at) <= now - FAILED_KEEPING)
    return or_(col(Snapshot.purge_at) <= now, and_(is_auto, col(Snapshot.expires_at) <= now), and_(is_auto, failed))
