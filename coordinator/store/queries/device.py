"""Devices of nodes."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, and_, case, exists, literal, tuple_
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from coordinator.domain.device import DeviceKind, DeviceState
from coordinator.domain.listing import Listing, ListQuery, Ordering
from coordinator.store.queries.filter import Field, Statement, fetch_page, fields
from coordinator.store.tables.device import Device, DeviceAllocation
from coordinator.store.tables.instance import Instance
from coordinator.store.tables.node import Node
from coordinator.store.tables.resource_pool import PoolHost

GONE: Final = "the node does not report it any more"
_IS_HELD: Final = (
    exists()
    .where(col(DeviceAllocation.node_id) == col(Device.node_id), col(DeviceAllocation.device_id) == col(Device.id))
    .correlate(Device)
)
_STATE: Final = case(
    (
        and_(col(Device.withheld_reason) != GONE, col(Device.report)["fault"].as_string() != ""),
        literal(DeviceState.FAULTY.value),
    ),
    (and_(_IS_HELD, col(Device.withheld_reason) == GONE), literal(DeviceState.MISSING.value)),
    (_IS_HELD, literal(DeviceState.USED.value)),
    (col(Device.withheld_reason) != "", literal(DeviceState.WITHHELD.value)),
    else_=literal(DeviceState.FREE.value),
)
_FIELDS = fields(
    id=Device.id,
    kind=Device.kind,
    state=Field(_STATE),
    nodeId=Device.node_id,
    nodeName=Field(Node.name),
    az=Field(Node.zone),
    numaNode=Field(Device.cell, int),
    size=Field(Device.size_bytes, int),
    shareable=Field(Device.shareable, bool),
    withheldReason=Device.withheld_reason,
)


def list_with_node_names(session: Session, kind: str, node_name: str = "") -> list[tuple[Device, str]]:
    """Devices of this kind, on nodes of this name if one is given, each with that of its node; by node and id."""
    statement = select(Device, Node.name).join(Node, col(Node.id) == col(Device.node_id)).where(Device.kind == kind)
    if node_name:
        statement = statement.where(Node.name == node_name)
    return list(session.exec(statement.order_by(col(Node.name), col(Device.id))))


def replace_devices(session: Session, node_id: str, devices: Sequence[Device]) -> None:
    """The node has these devices now. One that is missing but somebody's stays, and is offered to nobody else."""
    reported = {device.id: device for device in devices}
    known = {device.id: device for device in session.exec(select(Device).where(Device.node_id == node_id))}
    missing = known.keys() - reported.keys()
    held: set[str] = set()
    if missing:
        held.update(session.exec(select(DeviceAllocation.device_id).where(DeviceAllocation.node_id == node_id)))
    for device_id in missing:
        if device_id in held:
            known[device_id].withheld_reason = GONE
        else:
            session.delete(known[device_id])
    for device in reported.values():
        if device.id in known:
            session.merge(device)
        else:
            session.add(device)


class UnusedDisk(NamedTuple):
    """A disk that a consumer could have, and where it is."""

    zone: str
    node_name: str
    attributes: Mapping[str, str]
    size_bytes: int


def list_unused_disks(session: Session, zone: str, pool_ids: Collection[str]) -> Sequence[UnusedDisk]:
    """Whole disks of connected nodes that are offered and nobody has; of one zone and of some pools where named.

    Columns, not entities: with each of its disks a node would come with all its facts.
    """
    statement = (
        select(Node.zone, Node.name, Device.attributes, Device.size_bytes)
        .select_from(Device)
        .join(Node, and_(col(Node.id) == col(Device.node_id), col(Node.ready)))
        .where(Device.kind == DeviceKind.DISK, Device.withheld_reason == "", ~_IS_HELD)
    )
    if zone:
        statement = statement.where(Node.zone == zone)
    if pool_ids:
        statement = statement.join(PoolHost, col(PoolHost.node_id) == col(Node.id)).where(
            col(PoolHost.rp_id).in_(pool_ids)
        )
    return [UnusedDisk(*row) for row in session.exec(statement)]


class DeviceRow(NamedTuple):
    """A device, where it is, and whether it can be had."""

    device: Device
    node_name: str
    zone: str
    node_ready: bool
    state: DeviceState
    # Somebody has it, or a slice of it, in whatever state it is.
    is_held: bool


def list_device_page(session: Session, query: ListQuery) -> Listing[DeviceRow]:
    """Devices that fulfil the conditions of `query`, by node, kind and id unless it orders otherwise."""
    default = (Ordering("nodeName"), Ordering("nodeId"), Ordering("kind"))
    page = fetch_page(session, _rows(), query, _FIELDS, tie_break=col(Device.id), default=default)
    return Listing(tuple(_row(row) for row in page.items), page.total)


def list_devices(session: Session, *conditions: ColumnElement[bool]) -> list[DeviceRow]:
    """All devices for which the conditions hold, by node, kind and id."""
    ordered = _rows().where(*conditions).order_by(col(Node.name), col(Node.id), col(Device.kind), col(Device.id))
    return [_row(row) for row in session.execute(ordered)]


def list_devices_of(session: Session, numbers: Collection[int]) -> dict[int, list[DeviceRow]]:
    """What the instances with those numeric ids have of their nodes, by kind and id; absent: nothing.

    A device of which one has several slices is there once for each.
    """
    held = DeviceAllocation
    is_it = and_(col(held.node_id) == col(Device.node_id), col(held.device_id) == col(Device.id))
    statement = (
        _rows()
        .add_columns(col(Instance.id), col(held.slices))
        .join(held, is_it)
        .join(Instance, and_(col(Instance.uuid) == col(held.consumer_uuid), col(Instance.node_id) == col(held.node_id)))
        .where(col(Instance.id).in_(numbers))
        .order_by(col(Device.kind), col(Device.id))
    )
    found: dict[int, list[DeviceRow]] = {}
    for *row, number, slices in session.execute(statement):
        found.setdefault(number, []).extend([_row(row)] * slices)
    return found


def list_disks(session: Session, node_ids: Collection[str]) -> Sequence[tuple[str, Mapping[str, str], int]]:
    """Node, attributes and size of every disk of these nodes: columns, for there may be many thousands of rows."""
    is_wanted = (col(Device.node_id).in_(node_ids), Device.kind == DeviceKind.DISK)
    return session.exec(select(Device.node_id, Device.attributes, Device.size_bytes).where(*is_wanted)).all()


def _rows() -> Statement:
    return select_columns(Device, col(Node.name), col(Node.zone), col(Node.ready), _STATE, _IS_HELD).join(
        Node, col(Node.id) == col(Device.node_id)
    )


def _row(row: Sequence[Any]) -> DeviceRow:
    device, node_name, zone, node_ready, state, is_held = row
    return DeviceRow(device, node_name, zone, node_ready, DeviceState(state), bool(is_held))


class DeviceHolder(NamedTuple):
    """Who has a device, or how many thousandths of it."""

    consumer_uuid: str
    # Empty: no instance of ours, but what another scheduler placed.
    ecs_id: str
    milli: int


def read_holders(session: Session, devices: Collection[Device]) -> dict[tuple[str, str], list[DeviceHolder]]:
    """Who has these devices, by the ids of node and device."""
    keys = [(device.node_id, device.id) for device in devices]
    held = DeviceAllocation
    columns: Any = (held.node_id, held.device_id, held.consumer_uuid, Instance.ecs_id, held.milli)
    statement = (
        select_columns(*columns)
        .outerjoin(Instance, col(Instance.uuid) == col(held.consumer_uuid))
        .where(tuple_(col(held.node_id), col(held.device_id)).in_(keys))
        .order_by(col(held.consumer_uuid))
    )
    holders: dict[tuple[str, str], list[DeviceHolder]] = {}
    for node_id, device_id, consumer_uuid, ecs_id, milli in session.execute(statement):
        holders.setdefault((node_id, device_id), []).append(DeviceHolder(consumer_uuid, ecs_id or "", milli))
    return holders


def read_nodes_of(session: Session, tenant_id: str) -> dict[str, str | None]:
    """The nodes of a tenant's instances, by the instances' UUIDs."""
    is_own = (col(Instance.tenant_id) == tenant_id, col(Instance.deleted_at).is_(None))
    return dict(session.exec(select(Instance.uuid, Instance.node_id).where(*is_own)).all())
