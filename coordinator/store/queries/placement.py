"""What the scheduler looks at, and what consumers hold."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Row, Select, Text, bindparam, cast, func, select, union, update
from sqlalchemy.orm import aliased
from sqlmodel import Session, col

from coordinator.domain.cell import CellShare
from coordinator.domain.device import Device, DeviceShare, DeviceType
from coordinator.domain.instance import IN_FLIGHT_STATUSES
from coordinator.domain.placement import Capacity, HostView, ResourceClass
from coordinator.domain.space import answering_pools, places_of
from coordinator.domain.topology import make_cells
from coordinator.store import tables
from coordinator.store.tables.device import CellAllocation, DeviceAllocation
from coordinator.store.tables.host_group import GroupHost
from coordinator.store.tables.instance import Instance
from coordinator.store.tables.node import Allocation, Inventory, Node
from coordinator.store.tables.resource_pool import PoolHost, ResourcePool


class _Statement:
    """A query on nodes, of all of them or of some. Made once: making one takes longer than executing it."""

    def __init__(self, all_nodes: Any, node: Any) -> None:
        self._all: Select[Any] = all_nodes
        self._some: Select[Any] = all_nodes.where(node.in_(bindparam("node_ids", expanding=True)))

    def read(self, connection: Connection, node_ids: Collection[str] | None) -> Sequence[Row[Any]]:
        """The rows of the nodes; of all without `node_ids`."""
        if node_ids is None:
            return connection.execute(self._all).all()
        return connection.execute(self._some, {"node_ids": list(node_ids)}).all()


_used = (
    select(func.coalesce(func.sum(Allocation.amount), 0))
    .where(
        col(Allocation.node_id) == col(Inventory.node_id),
        col(Allocation.resource_class) == col(Inventory.resource_class),
    )
    .correlate(Inventory)
    .scalar_subquery()
)
# A row for each class that a node offers, its use included: one statement sees one moment.
_HOSTS = _Statement(
    select(
        col(Node.id),
        col(Node.name),
        col(Node.generation),
        col(Node.zone),
        col(Node.storage_id),
        col(Node.storages),
        col(Node.architecture),
        col(Node.cpu_model),
        col(Node.ready),
        col(Node.schedulable),
        col(Node.in_maintenance),
        col(Node.traits),
        col(Inventory.resource_class),
        col(Inventory.total),
        col(Inventory.reserved),
        col(Inventory.allocation_ratio),
        _used.label("used"),
        col(PoolHost.rp_id),
        col(GroupHost.hg_id),
        col(Node.rack),
        col(Node.switch),
        col(Node.net_switch),
    )
    .join(Inventory, col(Inventory.node_id) == col(Node.id), isouter=True)
    .join(PoolHost, col(PoolHost.node_id) == col(Node.id), isouter=True)
    .join(GroupHost, col(GroupHost.node_id) == col(Node.id), isouter=True)
    .order_by(col(Node.id)),
    col(Node.id),
)
_CELLS = _Statement(select(col(Node.id), col(Node.cells)).where(cast(Node.cells, Text) != "[]"), col(Node.id))
_CELL_USE = _Statement(
    select(
        col(CellAllocation.node_id),
        col(CellAllocation.cell),
        col(CellAllocation.vcpus),
        col(CellAllocation.memory_mib),
        col(CellAllocation.page_kib),
        col(CellAllocation.cpus),
    ),
    col(CellAllocation.node_id),
)
_slices = (
    select(func.coalesce(func.sum(DeviceAllocation.milli), 0))
    .where(
        col(DeviceAllocation.node_id) == col(tables.Device.node_id),
        col(DeviceAllocation.device_id) == col(tables.Device.id),
    )
    .correlate(tables.Device)
    .scalar_subquery()
)
_DEVICES = _Statement(
    select(
        col(tables.Device.node_id),
        col(tables.Device.id),
        col(tables.Device.kind),
        col(tables.Device.attributes),
        col(tables.Device.size_bytes),
        col(tables.Device.shareable),
        col(tables.Device.cell),
        _slices.label("used_milli"),
    )
    .where(col(tables.Device.withheld_reason) == "")
    .order_by(col(tables.Device.node_id), col(tables.Device.id)),
    col(tables.Device.node_id),
)
_IN_FLIGHT = _Statement(
    select(col(Instance.node_id), func.count().label("instances"))
    .where(col(Instance.status).in_(IN_FLIGHT_STATUSES), col(Instance.deleted_at).is_(None))
    .group_by(col(Instance.node_id)),
    col(Instance.node_id),
)
_POOL_WEIGHTS = select(col(ResourcePool.id), col(ResourcePool.weights))
_GENERATIONS = select(col(Node.id), col(Node.generation)).where(col(Node.generation) > bindparam("generation"))
_ALLOCATIONS = select(
    col(Allocation.consumer_uuid),
    col(Allocation.node_id),
    col(Allocation.resource_class),
    col(Allocation.amount),
    col(Allocation.external),
).where(col(Allocation.consumer_uuid).in_(bindparam("uuids", expanding=True)))
_HELD_CELLS = (
    select(
        col(CellAllocation.consumer_uuid),
        col(CellAllocation.cell),
        col(CellAllocation.vcpus),
        col(CellAllocation.memory_mib),
        col(CellAllocation.page_kib),
        col(CellAllocation.cpus),
    )
    .where(col(CellAllocation.consumer_uuid).in_(bindparam("uuids", expanding=True)))
    .order_by(col(CellAllocation.cell))
)
_HELD_DEVICES = (
    select(
        col(DeviceAllocation.consumer_uuid),
        col(DeviceAllocation.device_id),
        col(DeviceAllocation.kind),
        col(DeviceAllocation.milli),
        col(DeviceAllocation.slices),
    )
    .where(col(DeviceAllocation.consumer_uuid).in_(bindparam("uuids", expanding=True)))
    .order_by(col(DeviceAllocation.device_id))
)
_others = aliased(Node)
# A generation that no node has: what changed is told by one column of all nodes.
_ADVANCE = (
    update(Node)
    .where(col(Node.id) == bindparam("node_id"))
    .values(generation=select(func.coalesce(func.max(_others.generation), 0) + 1).scalar_subquery())
)


@dataclass(slots=True)
class Held:
    """Everything that a consumer holds on its node."""

    node_id: str
    external: bool
    amounts: dict[str, int] = field(default_factory=dict)
    cells: list[CellShare] = field(default_factory=list)
    devices: list[DeviceShare] = field(default_factory=list)
    # Of each of the devices.
    kinds: list[str] = field(default_factory=list)


class _Details:
    """What nodes have besides their counted capacity."""

    def __init__(self, connection: Connection, node_ids: Collection[str] | None, *, with_hints: bool) -> None:
        self.cells: dict[str, list[dict[str, Any]]] = {row.id: row.cells for row in _CELLS.read(connection, node_ids)}
        self.shares: dict[str, list[CellShare]] = defaultdict(list)
        for row in _CELL_USE.read(connection, node_ids):
            share = CellShare(row.cell, row.vcpus, row.memory_mib, row.page_kib, tuple(row.cpus))
            self.shares[row.node_id].append(share)
        self.devices: dict[str, list[Device]] = defaultdict(list)
        for row in _DEVICES.read(connection, node_ids):
            kind = DeviceType(row.kind, frozenset(row.attributes.items()), row.size_bytes, row.shareable)
            self.devices[row.node_id].append(Device(row.id, kind, row.cell, int(row.used_milli)))
        self.in_flight: dict[str, int] = {}
        self.weights: dict[str, dict[str, float]] = {}
        if with_hints:
            self.in_flight = {row.node_id: row.instances for row in _IN_FLIGHT.read(connection, node_ids)}
            self.weights = {row.id: row.weights for row in connection.execute(_POOL_WEIGHTS)}


def read_hosts(
    connection: Connection, node_ids: Collection[str] | None = None, *, with_hints: bool = True
) -> tuple[HostView, ...]:
    """Nodes with their capacity and use, as the transaction sees them now; all unless some are named.

    Without the hints they cannot be weighed: what is under way there, and weights of their pools. Rows, not entities: a
    session that read a node before would answer what it remembers.
    """
    rows = _HOSTS.read(connection, node_ids)
    details = _Details(connection, node_ids, with_hints=with_hints)
    return tuple(_view(list(group), details) for _node_id, group in groupby(rows, key=lambda row: row.id))


def _view(rows: list[Any], details: _Details) -> HostView:
    node = rows[0]
    reserved = next((row.reserved for row in rows if row.resource_class == ResourceClass.VCPU), 0)
    shares = details.shares.get(node.id, ())
    cells = make_cells(details.cells.get(node.id, ()), reserved, shares)
    # Also in cells that the node does not report any more: whoever has them may still run there.
    pinned = {ResourceClass.VCPU: len({cpu for share in shares for cpu in share.cpus})}
    return HostView(
        node_id=node.id,
        name=node.name,
        generation=node.generation,
        zone=node.zone,
        storage_id=node.storage_id,
        pools=answering_pools(node.storages),
        places=places_of(node.storages),
        architecture=node.architecture,
        cpu_model=node.cpu_model,
        ready=node.ready,
        schedulable=node.schedulable and not node.in_maintenance,
        traits=frozenset(node.traits),
        capacities={
            (name := ResourceClass(row.resource_class)): Capacity(
                row.total, row.reserved, row.allocation_ratio, int(row.used), pinned.get(name, 0)
            )
            for row in rows
            if row.resource_class is not None
        },
        pool_id=node.rp_id or "",
        group_id=node.hg_id or "",
        cells=cells,
        devices=tuple(details.devices.get(node.id, ())),
        in_flight=details.in_flight.get(node.id, 0),
        weights=details.weights.get(node.rp_id, {}),
        rack=node.rack,
        switch=node.switch,
        net_switch=node.net_switch,
    )


def read_generations(connection: Connection, since: int) -> dict[str, int]:
    """Generations of the nodes, by their ids, whose generation is above the given one."""
    return {row.id: row.generation for row in connection.execute(_GENERATIONS, {"generation": since})}


def advance_generations(session: Session, node_ids: Collection[str]) -> None:
    """Nobody else claims from these nodes before the transaction ends, and every snapshot sees that they changed."""
    connection = session.connection()
    # In one order everywhere, so that two transactions cannot wait for each other in a circle.
    for node_id in sorted(node_ids):
        connection.execute(_ADVANCE, {"node_id": node_id})


def read_held(session: Session, consumer_uuids: Collection[str]) -> dict[str, Held]:
    """What each of the consumers holds; those that hold nothing are absent."""
    connection, uuids = session.connection(), {"uuids": list(consumer_uuids)}
    held: dict[str, Held] = {}
    for uuid, node_id, resource_class, amount, external in connection.execute(_ALLOCATIONS, uuids):
        held.setdefault(uuid, Held(node_id, external)).amounts[resource_class] = amount
    if held:
        for uuid, cell, vcpus, memory_mib, page_kib, cpus in connection.execute(_HELD_CELLS, uuids):
            held[uuid].cells.append(CellShare(cell, vcpus, memory_mib, page_kib, tuple(cpus)))
        for uuid, device_id, kind, milli, slices in connection.execute(_HELD_DEVICES, uuids):
            # Devices alone are nobody's share of a node: they wait to be given back.
            if uuid in held:
                held[uuid].devices.extend([DeviceShare(device_id, milli // slices)] * slices)
                held[uuid].kinds.extend([kind] * slices)
    return held


def find_nodes_of(session: Session, consumer_uuids: Collection[str]) -> set[str]:
    """The nodes of which one of the consumers holds anything, be it a device alone."""
    tables_of_holders = (Allocation, CellAllocation, DeviceAllocation)
    statements = [
        select(col(table.node_id)).where(col(table.consumer_uuid).in_(list(consumer_uuids)))
        for table in tables_of_holders
    ]
    return set(session.connection().execute(union(*statements)).scalars())
