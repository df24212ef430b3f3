"""Snapshots that are not in the recycle bin, and what they hold."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import BigInteger, delete, func, literal
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from coordinator.domain.listing import Listing, ListQuery, Ordering
from coordinator.domain.snapshot import Consistency, SnapshotStatus, SnapshotType
from coordinator.domain.volume import VolumeBackend
from coordinator.store.queries.filter import Field, Statement, fetch_page, fields
from coordinator.store.tables import Instance, Snapshot, Tenant, Volume, VolumeSnapshot


@dataclass(frozen=True, slots=True)
class SnapshotPart:
    """What a snapshot holds of one volume, and the volume as it is now."""

    part: VolumeSnapshot
    volume: Volume


@dataclass(frozen=True, slots=True)
class SnapshotRow:
    """A snapshot, and whose it is."""

    row: Snapshot
    ecs_id: str
    tenant_name: str


_FIELDS: Final = fields(
    id=Field(Snapshot.id, int),
    ecsSnapshotId=Snapshot.snapshot_id,
    snapshotId=Snapshot.snapshot_id,
    ecsSnapshotName=Snapshot.name,
    ecsId=Instance.ecs_id,
    status=Field(Snapshot.status, SnapshotStatus),
    type=Field(Snapshot.type, SnapshotType),
    consistency=Field(Snapshot.consistency, Consistency),
    description=Snapshot.description,
    tenantId=Snapshot.tenant_id,
    tenantName=Tenant.name,
    departmentId=Snapshot.department_id,
    resourceGroupId=Snapshot.resource_group_id,
    expiredAt=Field(Snapshot.expires_at, datetime),
    createdAt=Field(Snapshot.created_at, datetime),
    updatedAt=Field(Snapshot.updated_at, datetime),
)


def find_snapshot(
    session: Session, tenant_id: str | None, *, number: int | None = None, snapshot_id: str = "", deleted: bool = False
) -> SnapshotRow | None:
    """The snapshot with that number or, without one, that id, if it is that tenant's (None: anybody's).

    `deleted`: one in the recycle bin instead.
    """
    by_number = col(Snapshot.id) == literal(number, BigInteger())
    chosen = col(Snapshot.snapshot_id) == snapshot_id if number is None else by_number
    row = session.execute(_snapshots(tenant_id, deleted=deleted).where(chosen)).one_or_none()
    return SnapshotRow(*row) if row else None


def list_snapshots(
    session: Session, tenant_id: str | None, query: ListQuery, *, deleted: bool = False
) -> Listing[SnapshotRow]:
    """Snapshots of the tenant (None: everybody's), the newest first; `deleted`: those in the recycle bin instead."""
    newest_first = (Ordering("createdAt", descending=True),)
    statement = _snapshots(tenant_id, deleted=deleted)
    page = fetch_page(session, statement, query, _FIELDS, tie_break=col(Snapshot.id), default=newest_first)
    return Listing(tuple(SnapshotRow(*row) for row in page.items), page.total)


def lock_snapshot(session: Session, snapshot_id: str) -> Snapshot | None:
    """The snapshot, in the recycle bin too, kept from others until the transaction ends."""
    statement = select(Snapshot).where(Snapshot.snapshot_id == snapshot_id).with_for_update()
    return session.exec(statement.execution_options(populate_existing=True)).first()


def find_by_id(session: Session, snapshot_id: str) -> Snapshot | None:
    """The snapshot, in the recycle bin too, whoever owns it."""
    return session.exec(select(Snapshot).where(Snapshot.snapshot_id == snapshot_id)).first()


def list_parts(session: Session, snapshot: Snapshot) -> Sequence[SnapshotPart]:
    """What it holds of each volume, the system disk first."""
    statement = (
        select(VolumeSnapshot, Volume)
        .join(Volume, col(Volume.id) == col(VolumeSnapshot.volume_id))
        .where(VolumeSnapshot.snapshot_id == snapshot.id)
        .order_by(col(VolumeSnapshot.is_os_disk).desc(), col(Volume.id))
    )
    return [SnapshotPart(part, volume) for part, volume in session.exec(statement)]


def list_of_instance(session: Session, instance_id: int | None) -> Sequence[Snapshot]:
    """All snapshots of an instance, those in the recycle bin included, the oldest first."""
    statement = select(Snapshot).where(Snapshot.instance_id == instance_id).order_by(col(Snapshot.id))
    return session.exec(statement).all()


def count_of_instance(session: Session, instance_id: int | None) -> int:
    """How many snapshots hold space in the instance's volumes."""
    return session.exec(select(func.count()).where(Snapshot.instance_id == instance_id)).one()


def list_of_volumes(session: Session, volume_ids: Collection[int | None]) -> Sequence[Snapshot]:
    """Snapshots, of whatever instance, that hold something of one of the volumes."""
    holding = select(VolumeSnapshot.snapshot_id).where(col(VolumeSnapshot.volume_id).in_(volume_ids))
    return session.exec(select(Snapshot).where(col(Snapshot.id).in_(holding)).order_by(col(Snapshot.id))).all()


def find_instances_with_snapshots(
    session: Session, instance_ids: Collection[int | None], backends: Collection[VolumeBackend] | None = None
) -> set[int]:
    """Those of the instances whose volumes (None: wherever they are) hold snapshots, of whatever instance."""
    statement = (
        select(Volume.instance_id)
        .join(VolumeSnapshot, col(VolumeSnapshot.volume_id) == col(Volume.id))
        .where(col(Volume.instance_id).in_(instance_ids))
        .distinct()
    )
    if backends is not None:
        statement = statement.where(col(Volume.backend).in_(backends))
    return {found for found in session.exec(statement) if found is not None}


def find_volumes_of_others(session: Session, instance_id: int | None, volume_ids: Collection[int | None]) -> set[int]:
    """Those of the volumes that snapshots of other instances hold something of."""
    statement = (
        select(VolumeSnapshot.volume_id)
        .join(Snapshot, col(Snapshot.id) == col(VolumeSnapshot.snapshot_id))
        .where(col(VolumeSnapshot.volume_id).in_(volume_ids), col(Snapshot.instance_id) != instance_id)
    )
    return set(session.exec(statement))


def node_of(session: Session, volume: Volume) -> str | None:
    """The node where the volume's data is to be changed: that of its instance, else the one that holds it."""
    instance = session.get(Instance, volume.instance_id) if volume.instance_id else None
    return (instance and instance.node_id) or volume.node_id


def delete_parts(session: Session, snapshot: Snapshot) -> None:
    """The snapshot holds nothing any more."""
    session.execute(delete(VolumeSnapshot).where(col(VolumeSnapshot.snapshot_id) == snapshot.id))


def delete_snapshot(session: Session, snapshot: Snapshot) -> None:
    """Deletes the row, and what it holds."""
    delete_parts(session, snapshot)
    session.delete(snapshot)


def _snapshots(tenant_id: str | None, *, deleted: bool) -> Statement:
    statement: Any = (
        select_columns(Snapshot, col(Instance.ecs_id), col(Tenant.name))
        .join(Instance, col(Instance.id) == col(Snapshot.instance_id))
        .join(Tenant, col(Tenant.id) == col(Snapshot.tenant_id))
        .where(col(Snapshot.deleted_at).is_not(None) if deleted else col(Snapshot.deleted_at).is_(None))
    )
    return statement if tenant_id is None else statement.where(col(Snapshot.tenant_id) == tenant_id)  # type: ignore[no-any-return]
