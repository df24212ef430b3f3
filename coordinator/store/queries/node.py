"""Questions about nodes, what they offer and what they reported."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import and_, bindparam, delete, func, update
from sqlalchemy.orm import defer
from sqlmodel import Session, col, select

from coordinator.domain.lease import Heartbeat, NodeSession
from coordinator.domain.listing import Listing, ListQuery, Ordering
from coordinator.domain.placement import ResourceClass
from coordinator.domain.space import find_pool, places_of, pools_by_type
from coordinator.store.queries.filter import Field, fetch_rows_of, fields
from coordinator.store.tables import (
    Allocation,
    GroupHost,
    HostGroup,
    Instance,
    Inventory,
    Node,
    PoolHost,
    ReportedDomain,
    ResourcePool,
    Volume,
)

# The column has "host:port", with brackets around an IPv6 host.
HOST_IP: Final = func.replace(
    func.replace(func.rtrim(func.rtrim(col(Node.address), "0123456789"), ":"), "[", ""), "]", ""
)

_FIELDS = fields(
    hostId=Node.id,
    nodeId=Node.id,
    name=Node.name,
    hostIp=Field(HOST_IP),
    az=Node.zone,
    rpId=PoolHost.rp_id,
    hgId=GroupHost.hg_id,
    arch=Node.architecture,
    cpuModel=Node.cpu_model,
    hostLabel=Node.label,
    hostRack=Node.rack,
    hostSwitch=Node.switch,
    hostNetSwitch=Node.net_switch,
    ready=Field(Node.ready, bool),
    schedulable=Field(Node.schedulable, bool),
    createdAt=Field(Node.created_at, datetime),
    updatedAt=Field(Node.updated_at, datetime),
)


def lock_node(session: Session, node_id: str) -> Node | None:
    """The node; nobody else changes it until the transaction ends."""
    return session.exec(select(Node).where(Node.id == node_id).with_for_update()).first()


def lock_node_without_facts(session: Session, node_id: str) -> Node | None:
    """The same for who does not need what describes its hardware, which is thousands of characters of JSON."""
    deferred = (defer(Node.facts), defer(Node.cells))  # type: ignore[arg-type]  # SQLModel's types
    return session.exec(select(Node).where(Node.id == node_id).with_for_update().options(*deferred)).first()


def find_node_by_machine(session: Session, machine_uuid: str) -> Node | None:
    """The node that this machine was enrolled as."""
    return session.exec(select(Node).where(Node.machine_uuid == machine_uuid)).first()


def list_nodes(session: Session) -> Sequence[Node]:
    """All nodes by name."""
    return session.exec(select(Node).order_by(col(Node.name), col(Node.id))).all()


def find_nodes_by_name(session: Session, names: Collection[str]) -> Sequence[Node]:
    """Nodes that have one of these names, which several may share."""
    return session.exec(select(Node).where(col(Node.name).in_(names)).order_by(col(Node.id))).all()


def list_node_page(
    session: Session, query: ListQuery, *, without_pool: bool = False, without_group: bool = False
) -> Listing[Node]:
    """Nodes that fulfil the conditions of `query`, by name unless it orders otherwise.

    Where asked for, only those that belong to no pool, or to no group.
    """
    statement = (
        select(Node)
        .outerjoin(PoolHost, col(PoolHost.node_id) == col(Node.id))
        .outerjoin(GroupHost, col(GroupHost.node_id) == col(Node.id))
    )
    if without_pool:
        statement = statement.where(col(PoolHost.node_id).is_(None))
    if without_group:
        statement = statement.where(col(GroupHost.node_id).is_(None))
    return fetch_rows_of(session, statement, query, _FIELDS, tie_break=col(Node.id), default=(Ordering("name"),))


@dataclass(frozen=True, slots=True)
class NodePlace:
    """What a node belongs to, and its vCPUs for each CPU; None before its first registration."""

    pool: ResourcePool | None
    group: HostGroup | None
    cpu_ratio: float | None


def read_places(session: Session, node_ids: Collection[str]) -> dict[str, NodePlace]:
    """What these nodes belong to."""
    has_vcpus = and_(col(Inventory.node_id) == col(Node.id), col(Inventory.resource_class) == ResourceClass.VCPU)
    statement = (
        select(Node.id, ResourcePool, HostGroup, Inventory.allocation_ratio)
        .outerjoin(PoolHost, col(PoolHost.node_id) == col(Node.id))
        .outerjoin(ResourcePool, col(ResourcePool.id) == col(PoolHost.rp_id))
        .outerjoin(GroupHost, col(GroupHost.node_id) == col(Node.id))
        .outerjoin(HostGroup, col(HostGroup.id) == col(GroupHost.hg_id))
        .outerjoin(Inventory, has_vcpus)
        .where(col(Node.id).in_(node_ids))
    )
    return {row[0]: NodePlace(*row[1:]) for row in session.execute(statement)}


def read_cpu_models(session: Session, node_ids: Collection[str]) -> dict[str, str]:
    """The processors of these nodes, by their ids."""
    return dict(session.exec(select(Node.id, Node.cpu_model).where(col(Node.id).in_(node_ids))).all())


def list_zones(session: Session) -> Sequence[str]:
    """Zones that nodes are in."""
    return session.exec(select(Node.zone).where(Node.zone != "").distinct()).all()


def find_inventories(session: Session, node_id: str) -> Mapping[ResourceClass, Inventory]:
    """What the node offers, by resource class."""
    rows = session.exec(select(Inventory).where(Inventory.node_id == node_id))
    return {ResourceClass(row.resource_class): row for row in rows}


def lock_resident_instances(session: Session, node_id: str) -> Mapping[str, Instance]:
    """Instances that are placed on the node, by UUID; nobody else changes them until the transaction ends."""
    statement = select(Instance).where(Instance.node_id == node_id, col(Instance.deleted_at).is_(None))
    return {instance.uuid: instance for instance in session.exec(statement.with_for_update())}


def list_resident_instances(session: Session, node_id: str) -> Sequence[Instance]:
    """Instances that are placed on the node, the oldest first."""
    statement = select(Instance).where(Instance.node_id == node_id, col(Instance.deleted_at).is_(None))
    return session.exec(statement.order_by(col(Instance.id))).all()


def lock_resident_instance(session: Session, node_id: str, uuid: str) -> Instance | None:
    """The instance with that UUID, if it is placed on the node; nobody else changes it until the transaction ends."""
    statement = select(Instance).where(
        Instance.uuid == uuid, Instance.node_id == node_id, col(Instance.deleted_at).is_(None)
    )
    return session.exec(statement.with_for_update()).first()


def find_external_consumers(session: Session, node_id: str) -> set[str]:
    """UUIDs of guests that another scheduler placed on the node."""
    statement = select(Allocation.consumer_uuid).where(Allocation.node_id == node_id, col(Allocation.external))
    return set(session.exec(statement))


def find_reported_domains(session: Session, node_id: str) -> Mapping[str, ReportedDomain]:
    """Domains that the node reported, by UUID."""
    rows = session.exec(select(ReportedDomain).where(ReportedDomain.node_id == node_id))
    return {row.uuid: row for row in rows}


def delete_reported_domains(session: Session, node_id: str, uuids: Collection[str]) -> None:
    """The node has these domains no more."""
    if uuids:
        session.execute(
            delete(ReportedDomain).where(col(ReportedDomain.node_id) == node_id, col(ReportedDomain.uuid).in_(uuids))
        )


@dataclass(frozen=True, slots=True)
class SignOfLife:
    """A heartbeat as it is stored."""

    node: NodeSession
    heartbeat: Heartbeat
    lease_expires_at: datetime
    ha_tolerance_seconds: int


# Made once, and executed for all nodes at once: of thousands each on its own would take a second.
_EXTEND: Final = (
    update(Node)
    .where(col(Node.id) == bindparam("node"), col(Node.session_id) == bindparam("session"), col(Node.ready))
    # Not a change that people would want to see in `updated_at`.
    .values(
        lease_expires_at=bindparam("expires_at"),
        heard_at=bindparam("at"),
        self_fence=bindparam("armed"),
        ha_tolerance_seconds=bindparam("tolerance_seconds"),
        updated_at=Node.updated_at,
    )
)


def extend_leases(session: Session, signs: Collection[SignOfLife]) -> set[NodeSession]:
    """Stores signs of life of nodes that are ready; answers the sessions that are their nodes' still."""
    sessions = {sign.node for sign in signs}
    rows = [
        {
            "node": sign.node.node_id,
            "session": sign.node.session_id,
            "expires_at": sign.lease_expires_at,
            "at": sign.heartbeat.at,
            "armed": sign.heartbeat.self_fence,
            "tolerance_seconds": sign.ha_tolerance_seconds,
        }
        # In one order everywhere, so that two coordinators cannot wait for each other in a circle.
        for sign in sorted(signs, key=lambda sign: sign.node.node_id)
    ]
    if session.connection().execute(_EXTEND, rows).rowcount == len(rows):
        return sessions
    present = session.execute(select(Node.id, Node.session_id).where(col(Node.ready)))
    return sessions & {NodeSession(*row) for row in present}


def extend_all_leases(session: Session, lease_expires_at: datetime) -> None:
    """Gives every node that is ready a fresh lease."""
    session.execute(update(Node).where(col(Node.ready)).values(lease_expires_at=lease_expires_at))


def find_lapsed(session: Session, now: datetime) -> Sequence[str]:
    """Ids of nodes that count as ready, but whose lease is over."""
    return session.exec(select(Node.id).where(col(Node.ready), col(Node.lease_expires_at) < now)).all()


def count_nodes(session: Session) -> dict[str, int]:
    """How many nodes are ready, and how many are away."""
    rows = session.execute(select(Node.ready, func.count()).group_by(col(Node.ready)))
    counts = {bool(is_ready): count for is_ready, count in rows}
    return {"ready": counts.get(True, 0), "away": counts.get(False, 0)}


def count_instances(session: Session) -> dict[str, int]:
    """How many instances have which status."""
    statement = (
        select(Instance.status, func.count()).where(col(Instance.deleted_at).is_(None)).group_by(col(Instance.status))
    )
    return {str(status): count for status, count in session.execute(statement)}


def share_volume(session: Session, volume: Volume, *node_ids: str) -> bool:
    """Whether all these nodes find the volume, or will when it is made, in one place."""
    nodes = [session.get_one(Node, node_id) for node_id in dict.fromkeys(node_ids)]
    if len(nodes) == 1:
        return True
    if all(node.storages for node in nodes):
        places = [_places_for(node, volume) for node in nodes]
        return bool(frozenset.intersection(*places))
    # One of them does not tell of its places: what is known is where it keeps most.
    return len({node.storage_id or node.id for node in nodes}) == 1


def _places_for(node: Node, volume: Volume) -> frozenset[str]:
    pool_id = volume.storage_pool_id or find_pool(pools_by_type(node.storages), volume.volume_type)
    return places_of(node.storages, pool_id)


def is_storage_shared(session: Session, node_id: str) -> bool:
    """Whether any other node keeps volumes in the same place as this one."""
    node = session.get_one(Node, node_id)
    mine = {node.storage_id, *places_of(node.storages)} - {""}
    others = session.execute(select(Node.storage_id, Node.storages).where(Node.id != node_id))
    return any(mine.intersection({storage_id, *places_of(storages)}) for storage_id, storages in others)
