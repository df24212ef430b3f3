"""Devices of nodes."""

from collections.abc import Collection, Sequence
from typing import Final

from sqlalchemy import and_, exists
from sqlmodel import Session, col, delete, select

from coordinator.domain.device import DeviceKind
from coordinator.store.tables.device import Device, DeviceAllocation
from coordinator.store.tables.node import Node
from coordinator.store.tables.resource_pool import PoolHost

GONE: Final = "the node does not report it any more"


def replace_devices(session: Session, node_id: str, devices: Sequence[Device]) -> None:
    """The node has these devices now. One that is missing but somebody's stays, and is offered to nobody else."""
    reported = {device.id: device for device in devices}
    known = {device.id: device for device in session.exec(select(Device).where(Device.node_id == node_id))}
    held = set(session.exec(select(DeviceAllocation.device_id).where(DeviceAllocation.node_id == node_id)))
    for device_id in known.keys() - reported.keys():
        if device_id in held:
            known[device_id].withheld_reason = GONE
            session.add(known[device_id])
        else:
            session.execute(delete(Device).where(col(Device.node_id) == node_id, col(Device.id) == device_id))
    for device in reported.values():
        session.merge(device)


def list_unused_disks(session: Session, zone: str, pool_ids: Collection[str]) -> Sequence[tuple[Device, Node]]:
    """Whole disks of connected nodes that are offered and nobody has; of one zone and of some pools where named."""
    is_held = exists().where(
        col(DeviceAllocation.node_id) == col(Device.node_id), col(DeviceAllocation.device_id) == col(Device.id)
    )
    statement = (
        select(Device, Node)
        .join(Node, and_(col(Node.id) == col(Device.node_id), col(Node.ready)))
        .where(Device.kind == DeviceKind.DISK, Device.withheld_reason == "", ~is_held)
    )
    if zone:
        statement = statement.where(Node.zone == zone)
    if pool_ids:
        statement = statement.join(PoolHost, col(PoolHost.node_id) == col(Node.id)).where(
            col(PoolHost.rp_id).in_(pool_ids)
        )
    return session.exec(statement).all()
