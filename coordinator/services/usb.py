"""USB devices of nodes."""

from sqlmodel import col

from coordinator.domain.caller import Caller
from coordinator.domain.device import DeviceKind, DeviceState
from coordinator.runtime import Runtime
from coordinator.services.device import DeviceView, view_device
from coordinator.services.instance import find_own
from coordinator.store.queries import device as queries
from coordinator.store.tables import Device, Node


def usb_name(view: DeviceView) -> str:
    """What a USB device is called by those who bind it: node, bus and port."""
    details = view.report.details
    return "-".join((view.node_name, details.get("bus", ""), details.get("port", "")))


def list_usb_devices(runtime: Runtime, caller: Caller, ecs_id: str, node_name: str) -> list[DeviceView]:
    """USB devices of all nodes, or of the one named; with an instance, only those that it has. By node and port.

    A tenant sees what its instances have, and what is free on their nodes. ResourceNotFound: no such instance of the
    caller's.
    """
    conditions = [col(Device.kind) == DeviceKind.USB, *([col(Node.name) == node_name] if node_name else [])]
    sees_all = not ecs_id and not caller.is_tenant
    with runtime.database.read() as session:
        places: dict[str, str | None] = {}
        if ecs_id:
            instance = find_own(session, caller, ecs_id)
            places = {instance.uuid: None}
            conditions.append(col(Device.node_id) == instance.node_id)
        elif not sees_all and caller.tenant_id is not None:
            places = queries.read_nodes_of(session, caller.tenant_id)
            conditions.append(col(Device.node_id).in_({node_id for node_id in places.values() if node_id}))
        rows = queries.list_devices(session, *conditions)
        # Of all nodes together there may be more than one statement can name.
        holders = queries.read_holders(session, [row.device for row in rows if row.is_held])
    views = [view_device(row, tuple(holders.get((row.device.node_id, row.device.id), ()))) for row in rows]
    return [view for view in views if sees_all or _is_visible(view, places)]


def _is_visible(view: DeviceView, places: dict[str, str | None]) -> bool:
    """Whether one of these instances, whose nodes are given, has it or could have it."""
    if any(holder.consumer_uuid in places for holder in view.holders):
        return True
    return view.state is DeviceState.FREE and view.node_ready and view.device.node_id in places.values()
