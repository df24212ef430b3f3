"""Volumes, and how much of them a tenant has."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, literal
from sqlalchemy import select as select_columns
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, func, select

from coordinator.domain.listing import Listing, ListQuery, Ordering
from coordinator.store.queries.filter import Field, Links, Statement, fetch_page, fields
from coordinator.store.queries.volume_attachment import SharerRow, list_sharers
from coordinator.store.tables import Instance, Node, Volume, VolumeAttachment


class VolumeRow(NamedTuple):
    """A volume with what is shown beside it."""

    volume: Volume
    # Id of its instance; of a shared one that of the first.
    ecs_id: str | None = None
    zone: str | None = None
    # The instances of a shared one.
    sharers: Sequence[SharerRow] = ()


_Held = aliased(Volume)
# Of a shared volume each instance that has it.
_HOLDERS = Links(
    key=col(Volume.id),
    pairs=(
        (col(_Held.id), col(_Held.instance_id)),
        (col(VolumeAttachment.volume_id), col(VolumeAttachment.instance_id)),
    ),
)
# The instance that is shown as the volume's, which is the first of a shared one.
_FIRST_HOLDER = func.coalesce(
    select(Instance.ecs_id).where(col(Instance.id) == col(Volume.instance_id)).scalar_subquery(),
    select(Instance.ecs_id)
    .join(VolumeAttachment, col(VolumeAttachment.instance_id) == col(Instance.id))
    .where(col(VolumeAttachment.volume_id) == col(Volume.id))
    .order_by(col(VolumeAttachment.id))
    .limit(1)
    .scalar_subquery(),
)
_FIELDS = fields(
    volumeId=Field(Volume.id, int),
    # As it is shown.
    volumeUuid=Field(literal("volume-") + col(Volume.uuid)),
    name=Volume.name,
    status=Field(Volume.status, ignore_case=True),
    volumeType=Field(Volume.volume_type, ignore_case=True),
    volumeSize=Field(Volume.size_gib, int),
    size=Field(Volume.size_gib, int),
    isOsDisk=Field(Volume.is_os_disk, bool),
    diskBus=Volume.disk_bus,
    volumeMode=Volume.volume_mode,
    deleteOnTermination=Volume.delete_on_termination,
    multiAttach=Volume.multi_attach,
    imageId=Volume.image_id,
    az=Field(Node.zone, via=(col(Volume.node_id), col(Node.id))),
    ecsId=Field(Instance.ecs_id, via=(col(Volume.instance_id), col(Instance.id)), links=_HOLDERS, order=_FIRST_HOLDER),
    tenantId=Volume.tenant_id,
    createdAt=Field(Volume.created_at, datetime),
    updatedAt=Field(Volume.updated_at, datetime),
)


def find_volume(session: Session, *, number: int | None, uuid: str, tenant_id: str | None) -> VolumeRow | None:
    """The volume with that number or, without one, that UUID, if it is that tenant's (None: anybody's)."""
    # The number may be wider than the column.
    chosen = col(Volume.uuid) == uuid if number is None else col(Volume.id) == literal(number, BigInteger())
    row = session.execute(_volumes(tenant_id).where(chosen)).first()
    return _complete(session, [VolumeRow(*row)])[0] if row else None


def lock_volume(session: Session, volume_id: int) -> Volume:
    """The volume, as nobody else changes it until the transaction ends."""
    return session.get_one(Volume, volume_id, with_for_update=True, populate_existing=True)


def find_by_uuid(session: Session, uuid: str) -> Volume | None:
    """The volume with that UUID, whoever owns it."""
    return session.exec(select(Volume).where(Volume.uuid == uuid)).first()


def list_volumes(session: Session, tenant_id: str | None, query: ListQuery) -> Listing[VolumeRow]:
    """Volumes of the tenant, the newest first."""
    newest_first = (Ordering("createdAt", descending=True),)
    numbers: Any = select(Volume.id)
    if tenant_id is not None:
        numbers = numbers.where(Volume.tenant_id == tenant_id)
    page = fetch_page(session, numbers, query, _FIELDS, tie_break=col(Volume.id), default=newest_first)
    # Numbers first, which an index has: the rows of what lies before the page are never read.
    wanted = [row.id for row in page.items]
    found = session.execute(_volumes(None).where(col(Volume.id).in_(wanted)))
    rows = {row.volume.id: row for row in _complete(session, [VolumeRow(*row) for row in found])}
    return Listing(tuple(rows[number] for number in wanted if number in rows), page.total)


def _complete(session: Session, rows: Sequence[VolumeRow]) -> list[VolumeRow]:
    sharers: dict[int, list[SharerRow]] = {}
    for sharer in list_sharers(session, [row.volume.id for row in rows if row.volume.multi_attach]):
        sharers.setdefault(sharer[0].volume_id, []).append(sharer)
    return [
        row._replace(ecs_id=found[0][1].ecs_id, sharers=found) if (found := sharers.get(row.volume.id or 0)) else row
        for row in rows
    ]


def sum_volumes(session: Session, tenant_id: str) -> tuple[int, int]:
    """How many volumes the tenant has, and their GiB together."""
    statement = select(func.count(), func.coalesce(func.sum(Volume.size_gib), 0)).where(Volume.tenant_id == tenant_id)
    count, size_gib = session.exec(statement).one()
    return count, int(size_gib)


def _volumes(tenant_id: str | None) -> Statement:
    statement: Any = (
        select_columns(Volume, col(Instance.ecs_id), col(Node.zone))
        .join(Instance, col(Instance.id) == col(Volume.instance_id), isouter=True)
        .join(Node, col(Node.id) == col(Volume.node_id), isouter=True)
    )
    return statement if tenant_id is None else statement.where(col(Volume.tenant_id) == tenant_id)  # type: ignore[no-any-return]


def find_instances_with_type(session: Session, instance_ids: Collection[int | None], volume_type: str) -> set[int]:
    """Those of the instances that have a volume of that type."""
    statement = select(Volume.instance_id).where(
        col(Volume.instance_id).in_(instance_ids), Volume.volume_type == volume_type
    )
    return {instance_id for instance_id in session.exec(statement) if instance_id is not None}


def list_outermost_keys(session: Session) -> list[str]:
    """Of the oldest and the newest encrypted volume; those of others are encrypted like them."""
    is_encrypted = col(Volume.encryption_key) != ""
    some = select(Volume.encryption_key).where(is_encrypted).limit(1)
    ends = (some.order_by(order) for order in (col(Volume.id).asc(), col(Volume.id).desc()))
    return [key for statement in ends if (key := session.exec(statement).first())]
