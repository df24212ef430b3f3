"""Nodes as operators see them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import structlog
from sqlmodel import Session

from coordinator.domain.caller import Caller
from coordinator.domain.listing import Listing, ListQuery
from coordinator.domain.space import types_in
from coordinator.errors import ResourceNotFound
from coordinator.runtime import Runtime
from coordinator.services.host import HostReference, find_hosts
from coordinator.services.host_fact import reserve
from coordinator.services.node_device import NodeDevices, read_node_devices
from coordinator.store.queries import node as queries
from coordinator.store.queries.node import NodePlace
from coordinator.store.queries.placement import advance_generations
from coordinator.store.queries.storage import find_pools, read_pools
from coordinator.store.tables import Node

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class NodeStorage:
    """Where a node makes volumes of some types, and the space there."""

    # "*": all that no other one has. Empty: there may be volumes, and none are made any more.
    volume_types: tuple[str, ...]
    pool_id: str
    # Nodes with the same one share the volumes there.
    place_id: str
    # Since when it is silent; empty: it answers.
    silent_since: str
    total_gib: int
    # As it was told last.
    free_gib: int
    # What new volumes may still take.
    available_gib: int


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node, what it belongs to and what it has."""

    node: Node
    place: NodePlace
    devices: NodeDevices
    storages: tuple[NodeStorage, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeLabels:
    """Where nodes stand, by the names of their columns; None leaves a label as it is, an empty text takes it off."""

    label: str | None = None
    rack: str | None = None
    switch: str | None = None
    net_switch: str | None = None


def list_nodes(runtime: Runtime, caller: Caller, query: ListQuery) -> Listing[NodeView]:
    """Nodes, by name unless the query orders otherwise."""
    return _list(runtime, query)


def list_nodes_without_pool(runtime: Runtime, caller: Caller, query: ListQuery) -> Listing[NodeView]:
    """Nodes that belong to no resource pool, by name unless the query orders otherwise."""
    return _list(runtime, query, without_pool=True)


def list_nodes_without_group(runtime: Runtime, caller: Caller, query: ListQuery) -> Listing[NodeView]:
    """Nodes that belong to no host group, by name unless the query orders otherwise."""
    return _list(runtime, query, without_group=True)


def set_labels(runtime: Runtime, caller: Caller, references: Sequence[HostReference], labels: NodeLabels) -> None:
    """Labels all of the nodes, or none when one of them does not exist."""
    with runtime.database.write() as session:
        nodes = find_hosts(session, runtime.settings, references)
        # Locks the rows in one order, so that two callers cannot wait for each other.
        advance_generations(session, [node.id for node in nodes])
        for node in nodes:
            for name, label in asdict(labels).items():
                if label is not None:
                    setattr(node, name, label)
            session.add(node)
    log.info("node.labelled", nodeIds=[node.id for node in nodes], by=caller.token_id)


def set_schedulable(runtime: Runtime, caller: Caller, node_id: str, schedulable: bool) -> NodeView:
    """Closes the node for new instances, or opens it; what runs there stays. Idempotent."""
    with runtime.database.write() as session:
        node = queries.lock_node(session, node_id)
        if node is None:
            raise ResourceNotFound("node", node_id)
        node.schedulable = schedulable
        session.add(node)
        session.flush()
        advance_generations(session, [node_id])
        (view,) = _view_all(session, [node])
    log.info("node.schedulable", nodeId=node_id, schedulable=schedulable, by=caller.token_id)
    return view


def set_reserved(runtime: Runtime, caller: Caller, node_id: str, vcpus: int | None, memory_mib: int | None) -> NodeView:
    """What the node keeps for itself; None: what the configuration says. Takes nothing from instances. Idempotent."""
    with runtime.database.write() as session:
        node = queries.lock_node(session, node_id)
        if node is None:
            raise ResourceNotFound("node", node_id)
        node.reserved_vcpus, node.reserved_memory_mib = vcpus, memory_mib
        session.add(node)
        session.flush()
        reserve(session, node, runtime.settings)
        advance_generations(session, [node_id])
        (view,) = _view_all(session, [node])
    log.info("node.reserved", nodeId=node_id, vcpus=vcpus, memoryMib=memory_mib, by=caller.token_id)
    return view


def _list(runtime: Runtime, query: ListQuery, **without: bool) -> Listing[NodeView]:
    with runtime.database.read() as session:
        page = queries.list_node_page(session, query, **without)
        return Listing(_view_all(session, page.items), page.total)


def _view_all(session: Session, nodes: Sequence[Node]) -> tuple[NodeView, ...]:
    node_ids = [node.id for node in nodes]
    places, devices = queries.read_places(session, node_ids), read_node_devices(session, node_ids)
    storages = _read_storages(session, nodes)
    return tuple(NodeView(node, places[node.id], devices[node.id], storages[node.id]) for node in nodes)


def _read_storages(session: Session, nodes: Sequence[Node]) -> dict[str, tuple[NodeStorage, ...]]:
    pool_ids = {pool_id for node in nodes for pool_id, *_ in node.storages.values()}
    pools, free = find_pools(session, pool_ids), read_pools(session.connection(), pool_ids)
    found: dict[str, tuple[NodeStorage, ...]] = {}
    for node in nodes:
        found[node.id] = tuple(
            NodeStorage(
                types_in(node.storages, place),
                *place,
                pool.total_gib if (pool := pools.get(place[0])) else 0,
                pool.free_gib if pool else 0,
                max(free[place[0]].free_gib, 0) if pool else 0,
            )
            for place in sorted({(it[0], it[1], it[2]) for it in node.storages.values()})
        )
    return found
