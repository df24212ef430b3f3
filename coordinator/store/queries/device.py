"""Devices of nodes."""

from collections.abc import Sequence
from typing import Final

from sqlmodel import Session, col, delete, select

from coordinator.store.tables.device import Device, DeviceAllocation

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
