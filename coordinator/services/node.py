"""Nodes as operators see them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import structlog
from google.protobuf.json_format import ParseDict
from sqlmodel import Session

from coordinator.domain.caller import Caller
from coordinator.domain.listing import Listing, ListQuery
from coordinator.errors import ResourceNotFound
from coordinator.runtime import Runtime
from coordinator.services.host import HostReference, find_hosts
from coordinator.services.host_fact import reserve
from coordinator.services.node_gpu import NodeGpu, read_gpus
from coordinator.store.queries import node as queries
from coordinator.store.queries.node import NodePlace
from coordinator.store.queries.placement import advance_generations
from coordinator.store.tables import Node
from protos.agent.v1.host_pb2 import BlockDevice, HostFacts

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DiskGroup:
    """Disks of one node that are alike."""

    # "HDD" or "SSD".
    disk_type: str
    # "NVME", "SAS" or "SATA".
    interface: str
    size_bytes: int
    count: int


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node, what it belongs to and what follows from its facts."""

    node: Node
    place: NodePlace
    disk_groups: tuple[DiskGroup, ...]
    gpus: tuple[NodeGpu, ...]


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
        view = _view_one(session, node)
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
        view = _view_one(session, node)
    log.info("node.reserved", nodeId=node_id, vcpus=vcpus, memoryMib=memory_mib, by=caller.token_id)
    return view


def _list(runtime: Runtime, query: ListQuery, **without: bool) -> Listing[NodeView]:
    with runtime.database.read() as session:
        page = queries.list_node_page(session, query, **without)
        node_ids = [node.id for node in page.items]
        places, gpus = queries.read_places(session, node_ids), read_gpus(session, node_ids)
    views = (_view(node, places[node.id], gpus.get(node.id, ())) for node in page.items)
    return Listing(tuple(views), page.total)


def _view_one(session: Session, node: Node) -> NodeView:
    return _view(node, queries.read_places(session, [node.id])[node.id], read_gpus(session, [node.id]).get(node.id, ()))


def _view(node: Node, place: NodePlace, gpus: Iterable[NodeGpu]) -> NodeView:
    # Of thousands of CPUs and their cells nothing is shown.
    facts = ParseDict({"disks": node.facts.get("disks", [])}, HostFacts(), ignore_unknown_fields=True)
    groups = Counter((_type_of(disk), _interface_of(disk), disk.size_bytes) for disk in facts.disks)
    return NodeView(
        node=node,
        place=place,
        disk_groups=tuple(DiskGroup(*kind, count) for kind, count in sorted(groups.items())),
        gpus=tuple(gpus),
    )


def _type_of(disk: BlockDevice) -> str:
    return "HDD" if disk.rotational else "SSD"


def _interface_of(disk: BlockDevice) -> str:
    """From the kernel's name: disks behind a SCSI layer are SATA as far as the facts tell."""
    if disk.name.startswith("nvme"):
        return "NVME"
    return "SATA" if disk.name.startswith("sd") else "VIRTIO" if disk.name.startswith("vd") else "OTHER"
