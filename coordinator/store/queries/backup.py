"""Backups of volumes."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import delete, or_
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from coordinator.domain.backup import BackupStatus
from coordinator.domain.listing import Listing, ListQuery, Ordering
from coordinator.domain.snapshot import Consistency
from coordinator.store.queries.filter import Field, Statement, fetch_page, fields
from coordinator.store.tables import Volume, VolumeBackup

_FIELDS: Final = fields(
    backupId=VolumeBackup.backup_id,
    pointId=VolumeBackup.point_id,
    parentId=VolumeBackup.parent_id,
    ecsId=VolumeBackup.ecs_id,
    volumeName=VolumeBackup.volume_name,
    tenantId=VolumeBackup.tenant_id,
    status=Field(VolumeBackup.status, BackupStatus),
    consistency=Field(VolumeBackup.consistency, Consistency),
    takenAt=Field(VolumeBackup.taken_at, datetime),
    createdAt=Field(VolumeBackup.created_at, datetime),
)


def find_backup(
    session: Session, backup_id: str, tenant_id: str | None = None, *, for_update: bool = False
) -> VolumeBackup | None:
    """The backup, if it is that tenant's (None: anybody's); `for_update` keeps it from others."""
    statement = select(VolumeBackup).where(VolumeBackup.backup_id == backup_id)
    if tenant_id is not None:
        statement = statement.where(VolumeBackup.tenant_id == tenant_id)
    if for_update:
        statement = statement.with_for_update().execution_options(populate_existing=True)
    return session.exec(statement).first()


def list_backups(session: Session, tenant_id: str | None, query: ListQuery) -> Listing[VolumeBackup]:
    """Backups of the tenant (None: everybody's), the newest first."""
    statement: Statement = select_columns(VolumeBackup)
    if tenant_id is not None:
        statement = statement.where(col(VolumeBackup.tenant_id) == tenant_id)
    newest_first = (Ordering("createdAt", descending=True),)
    page = fetch_page(session, statement, query, _FIELDS, tie_break=col(VolumeBackup.id), default=newest_first)
    return Listing(tuple(row[0] for row in page.items), page.total)


def list_by_ids(session: Session, backup_ids: Collection[str]) -> Sequence[VolumeBackup]:
    """Those backups, in the order in which they were made."""
    statement = select(VolumeBackup).where(col(VolumeBackup.backup_id).in_(backup_ids))
    return session.exec(statement.order_by(col(VolumeBackup.id))).all()


def list_with_state(session: Session, volume_uuids: Collection[str]) -> Sequence[VolumeBackup]:
    """Backups whose states the volumes still keep, the newest first."""
    statement = select(VolumeBackup).where(
        col(VolumeBackup.volume_uuid).in_(volume_uuids), col(VolumeBackup.holds_state)
    )
    return session.exec(statement.order_by(col(VolumeBackup.id).desc())).all()


def delete_backups(session: Session, before: datetime, limit: int) -> int:
    """Deletes a batch of those made before that moment whose states no volume keeps."""
    keeping = select(Volume.uuid)
    expired = (
        select(VolumeBackup.id)
        .where(
            col(VolumeBackup.created_at) < before,
            col(VolumeBackup.status).in_((BackupStatus.AVAILABLE, BackupStatus.ERROR)),
            or_(~col(VolumeBackup.holds_state), col(VolumeBackup.volume_uuid).not_in(keeping)),
        )
        .limit(limit)
    )
    found = session.execute(delete(VolumeBackup).where(col(VolumeBackup.id).in_(expired)))
    return int(found.rowcount)  # type: ignore[attr-defined]
