"""Resource pools: hosts set apart, in which flavor types that are bound to them are placed.

Whoever changes who belongs to a pool locks the pool's row first, then the hosts': claims wait, and see the change.
"""

from collections.abc import Mapping, Sequence

import structlog
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from coordinator.domain.caller import Caller
from coordinator.domain.identifier import Prefix
from coordinator.domain.listing import Listing, ListQuery
from coordinator.errors import ParameterInvalid, ResourceExists, ResourceInUse, ResourceNotFound
from coordinator.runtime import Runtime
from coordinator.scheduler.pipeline import merge_weights
from coordinator.services.host import HostReference, find_hosts, require_none
from coordinator.services.overcommit import apply_cpu_ratios
from coordinator.services.region import zone_names
from coordinator.store.queries import resource_pool as queries
from coordinator.store.queries.placement import advance_generations
from coordinator.store.queries.resource_pool import PoolMember, PoolUse
from coordinator.store.tables import Node, PoolHost, ResourcePool

log = structlog.get_logger(__name__)


def create_resource_pool(runtime: Runtime, caller: Caller, *, name: str, zone: str, cpu_ratio: int) -> PoolUse:
    """A new pool without hosts."""
    now = runtime.now()
    pool = ResourcePool(
        id=runtime.identifiers.new(Prefix.RESOURCE_POOL),
        name=name,
        zone=zone,
        cpu_allocation_ratio=cpu_ratio,
        created_at=now,
        updated_at=now,
    )
    with runtime.database.write() as session:
        if zone not in zone_names(session, runtime.settings):
            raise ParameterInvalid("az", f"unknown zone {zone!r}", f"可用区{zone!r}不存在")
        session.add(pool)
        try:
            session.flush()
        except IntegrityError:
            raise ResourceExists(f"a resource pool named {name!r} exists", f"资源池{name!r}已存在") from None
    log.info("resource_pool.created", rpId=pool.id, by=caller.token_id)
    return PoolUse(pool, 0, 0)


def set_pool_weights(runtime: Runtime, caller: Caller, rp_id: str, weights: Mapping[str, float]) -> PoolUse:
    """Weights of the scheduler's weighers that count for the pool's hosts, instead of the configured. Idempotent."""
    try:
        merge_weights(weights)
    except ValueError as error:
        raise ParameterInvalid("weights", str(error), "未知的权重名称或数值无效") from None
    with runtime.database.write() as session:
        pool = _lock(session, rp_id)
        pool.weights = dict(weights)
        session.add(pool)
        session.flush()
        advance_generations(session, queries.list_node_ids(session, rp_id))
        use = queries.find_pool_use(session, rp_id)
    log.info("resource_pool.weighted", rpId=rp_id, weights=dict(weights), by=caller.token_id)
    return use or PoolUse(pool, 0, 0)


def get_resource_pool(runtime: Runtime, caller: Caller, rp_id: str) -> PoolUse:
    """One pool."""
    with runtime.database.read() as session:
        use = queries.find_pool_use(session, rp_id)
    if use is None:
        raise ResourceNotFound("resource pool", rp_id)
    return use


def list_resource_pools(runtime: Runtime, caller: Caller, query: ListQuery) -> Listing[PoolUse]:
    """All pools."""
    with runtime.database.read() as session:
        return queries.list_pools(session, query)


def list_pool_hosts(runtime: Runtime, caller: Caller, query: ListQuery) -> Listing[PoolMember]:
    """Hosts that belong to pools."""
    with runtime.database.read() as session:
        return queries.list_pool_members(session, query)


def delete_resource_pool(runtime: Runtime, caller: Caller, rp_id: str) -> None:
    """Deletes a pool; ResourceInUse while it has hosts, flavor types or instances."""
    with runtime.database.write() as session:
        pool = _lock(session, rp_id)
        use = queries.find_pool_use(session, rp_id)
        if use is not None and use.host_count:
            raise ResourceInUse(
                f"resource pool {rp_id} has {use.host_count} hosts", f"资源池{rp_id}中仍有{use.host_count}台物理机"
            )
        bound = queries.list_flavor_types_of_pool(session, rp_id)
        if bound:
            names = ", ".join(bound)
            raise ResourceInUse(f"bound to resource pool {rp_id}: {names}", f"资源池{rp_id}仍绑定规格类型：{names}")
        require_none(f"resource pool {rp_id}", f"资源池{rp_id}", queries.list_instances_of_pool(session, rp_id))
        session.delete(pool)
    log.info("resource_pool.deleted", rpId=rp_id, by=caller.token_id)


def add_pool_hosts(runtime: Runtime, caller: Caller, rp_id: str, references: Sequence[HostReference]) -> None:
    """The hosts belong to the pool; those that did stay. ResourceInUse for one of another pool: all join or none."""
    with runtime.database.write() as session:
        pool = _lock(session, rp_id)
        nodes = find_hosts(session, runtime.settings, references)
        advance_generations(session, [node.id for node in nodes])
        present = queries.read_memberships(session, [node.id for node in nodes])
        for node in nodes:
            _check_zone(pool, node)
            membership = present.get(node.id)
            if membership is None:
                session.add(_new_membership(runtime, pool, node))
            elif membership.rp_id != rp_id:
                raise ResourceInUse(
                    f"host {node.name} belongs to resource pool {membership.rp_id}",
                    f"物理机{node.name}已属于资源池{membership.rp_id}",
                )
        session.flush()
        apply_cpu_ratios(session, runtime.settings, [node.id for node in nodes])
    log.info("resource_pool.hosts_added", rpId=rp_id, nodeIds=[node.id for node in nodes], by=caller.token_id)


def remove_pool_host(runtime: Runtime, caller: Caller, rp_id: str, reference: HostReference) -> None:
    """The host leaves the pool; ResourceInUse with their list while it has instances of the pool."""
    with runtime.database.write() as session:
        _lock(session, rp_id)
        node, membership = _lock_member(session, runtime, rp_id, reference)
        session.delete(membership)
        session.flush()
        apply_cpu_ratios(session, runtime.settings, [node.id])
    log.info("resource_pool.host_removed", rpId=rp_id, nodeId=node.id, by=caller.token_id)


def move_host_to_pool(
    runtime: Runtime, caller: Caller, rp_id: str, destination_id: str, reference: HostReference
) -> None:
    """The host leaves one pool for another, in one step; ResourceInUse while it has instances of the first."""
    with runtime.database.write() as session:
        pools = queries.lock_pools(session, {rp_id, destination_id})
        for wanted in (rp_id, destination_id):
            if wanted not in pools:
                raise ResourceNotFound("resource pool", wanted)
        node, membership = _lock_member(session, runtime, rp_id, reference, leaves=rp_id != destination_id)
        _check_zone(pools[destination_id], node)
        if rp_id != destination_id:
            membership.rp_id, membership.joined_at = destination_id, runtime.now()
        session.add(membership)
        session.flush()
        apply_cpu_ratios(session, runtime.settings, [node.id])
    log.info("resource_pool.host_moved", rpId=rp_id, toRpId=destination_id, nodeId=node.id, by=caller.token_id)


def _lock(session: Session, rp_id: str) -> ResourcePool:
    pool = queries.lock_pools(session, {rp_id}).get(rp_id)
    if pool is None:
        raise ResourceNotFound("resource pool", rp_id)
    return pool


def _lock_member(
    session: Session, runtime: Runtime, rp_id: str, reference: HostReference, *, leaves: bool = True
) -> tuple[Node, PoolHost]:
    """A host of the pool, which may leave it."""
    (node,) = find_hosts(session, runtime.settings, [reference])
    advance_generations(session, [node.id])
    membership = queries.read_memberships(session, [node.id]).get(node.id)
    if membership is None or membership.rp_id != rp_id:
        raise ParameterInvalid(
            "name", f"host {node.name} is not in resource pool {rp_id}", f"物理机{node.name}不在资源池{rp_id}中"
        )
    if leaves:
        instances = queries.list_instances_of_pool(session, rp_id, node.id)
        require_none(f"host {node.name} of resource pool {rp_id}", f"资源池{rp_id}的物理机{node.name}", instances)
    return node, membership


def _new_membership(runtime: Runtime, pool: ResourcePool, node: Node) -> PoolHost:
    now = runtime.now()
    return PoolHost(node_id=node.id, rp_id=pool.id, joined_at=now, created_at=now, updated_at=now)


def _check_zone(pool: ResourcePool, node: Node) -> None:
    if node.zone != pool.zone:
        raise ParameterInvalid(
            "hosts",
            f"host {node.name} is in zone {node.zone!r}, resource pool {pool.id} in {pool.zone!r}",
            f"物理机{node.name}位于可用区{node.zone!r}，资源池{pool.id}位于{pool.zone!r}",
        )
