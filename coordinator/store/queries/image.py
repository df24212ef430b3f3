"""Images that are not deleted."""

from datetime import datetime

from sqlalchemy import ColumnElement, or_, true
from sqlmodel import Session, col, func, select

from coordinator.domain.listing import Listing, ListQuery, Ordering
from coordinator.store.queries.filter import Field, fetch_rows_of, fields
from coordinator.store.tables import Image, Instance, Volume

_FIELDS = fields(
    imageId=Image.id,
    name=Image.name,
    status=Field(Image.status, ignore_case=True),
    format=Image.format,
    cpuArch=Image.cpu_arch,
    osType=Field(Image.os_type, ignore_case=True),
    platform=Image.platform,
    osVersion=Image.os_version,
    visibility=Image.visibility,
    sizeBytes=Field(Image.size_bytes, int),
    sha256=Image.sha256,
    tenantId=Image.tenant_id,
    createdAt=Field(Image.created_at, datetime),
    updatedAt=Field(Image.updated_at, datetime),
)


def find_image(session: Session, image_id: str, tenant_id: str | None, *, for_update: bool = False) -> Image | None:
    """The image, if that tenant may use it (None: may use all)."""
    statement = select(Image).where(Image.id == image_id, col(Image.deleted_at).is_(None), _usable(tenant_id))
    return session.exec(statement.with_for_update() if for_update else statement).first()


def list_images(session: Session, tenant_id: str | None, query: ListQuery) -> Listing[Image]:
    """Images that the tenant may use, the newest first."""
    statement = select(Image).where(col(Image.deleted_at).is_(None), _usable(tenant_id))
    newest_first = (Ordering("createdAt", descending=True),)
    return fetch_rows_of(session, statement, query, _FIELDS, tie_break=col(Image.id), default=newest_first)


def count_instances_of_image(session: Session, image_id: str) -> int:
    """Instances whose system disks were made from it."""
    statement = select(func.count()).where(Instance.image_id == image_id, col(Instance.deleted_at).is_(None))
    return session.exec(statement).one()


def count_volumes_of_image(session: Session, image_id: str) -> int:
    """Volumes that stand on it: another node that is to have one needs it, too."""
    return session.exec(select(func.count()).where(Volume.image_id == image_id)).one()


def _usable(tenant_id: str | None) -> ColumnElement[bool]:
    if tenant_id is None:
        return true()
    return or_(col(Image.visibility) == "public", col(Image.tenant_id) == tenant_id)
