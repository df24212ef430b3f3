"""Devices of nodes."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from sqlalchemy import and_, exists
from sqlmodel import Session, col, select

from coordinator.domain.device import DeviceKind
from coordinator.store.tables.device import Device, DeviceAllocation
from coordinator.store.tables.node import Node
from coordinator.store.tables.resource_pool import PoolHost

GONE: Final = "the node does not report it any more"


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
    is_held = exists().where(
        col(DeviceAllocation.node_id) == col(Device.node_id), col(DeviceAllocation.device_id) == col(Device.id)
    )
    statement = (
        select(Node.zone, Node.name, Device.attributes, Device.size_bytes)
        .select_from(Device)
        .join(Node, and_(col(Node.id) == col(Device.node_id), col(Node.ready)))
        .where(Device.kind == DeviceKind.DISK, Device.withheld_reason == "", ~is_held)
    )
    if zone:
        statement = statement.where(Node.zone == zone)
    if pool_ids:
        statement = statement.join(PoolHost, col(PoolHost.node_id) == col(Node.id)).where(
            col(PoolHost.rp_id).in_(pool_ids)
        )
    return [UnusedDisk(*row) for row in session.exec(statement)]
