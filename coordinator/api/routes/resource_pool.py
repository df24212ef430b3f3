"""Resource pools."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from coordinator.api.deps import Operator, RuntimeDep
from coordinator.api.envelope import Envelope, success
from coordinator.api.filtering import Conditions, Orderings, equal_to, like
from coordinator.api.idempotency import IdempotentRoute
from coordinator.api.paging import PageByNumber, WholePage
from coordinator.api.schemas.host import HOST_ARCHITECTURES, HostBody, HostRequest, HostsRequest
from coordinator.api.schemas.node import NodeBody
from coordinator.api.schemas.resource_pool import (
    CreateResourcePoolRequest,
    MoveHostRequest,
    PoolCandidateListBody,
    PoolHostBody,
    PoolHostListBody,
    ResourcePoolBody,
    ResourcePoolListBody,
    SetPoolWeightsRequest,
)
from coordinator.domain.listing import Condition, ListQuery
from coordinator.services import node as node_service
from coordinator.services import resource_pool as service

router = APIRouter(prefix="/api/ecs/v1", tags=["pools"], route_class=IdempotentRoute)

_ARCHITECTURES = {spelling: ours for ours, spelling in HOST_ARCHITECTURES.items()}


@router.post("/resource-pools", operation_id="createResourcePool")
def create_resource_pool(
    body: CreateResourcePoolRequest, caller: Operator, runtime: RuntimeDep
) -> Envelope[ResourcePoolBody]:
    """Creates a resource pool without hosts."""
    use = service.create_resource_pool(
        runtime, caller, name=body.name, zone=body.az, cpu_ratio=body.cpu_allocation_ratio
    )
    return success(ResourcePoolBody.of(use))


@router.get("/resource-pools", operation_id="listResourcePools")
def list_resource_pools(
    page: PageByNumber,
    conditions: Conditions,
    orderings: Orderings,
    caller: Operator,
    runtime: RuntimeDep,
    name: Annotated[str, Query(max_length=127, description="Part of the name.")] = "",
    rp_id: Annotated[str, Query(alias="rpId", description="Id of the pool.")] = "",
) -> Envelope[ResourcePoolListBody]:
    """Lists resource pools, the newest first."""
    query = ListQuery(page, like(name=name) + equal_to(rpId=rp_id) + conditions, orderings)
    listing = service.list_resource_pools(runtime, caller, query)
    pools = [ResourcePoolBody.of(use) for use in listing.items]
    return success(ResourcePoolListBody(resource_pools=pools, total_count=listing.total))


@router.put("/resource-pools/{rp_id}/weights", operation_id="setResourcePoolWeights")
def set_resource_pool_weights(
    rp_id: str, body: SetPoolWeightsRequest, caller: Operator, runtime: RuntimeDep
) -> Envelope[ResourcePoolBody]:
    """Sets how hosts of a pool are chosen: spread over, or packed."""
    return success(ResourcePoolBody.of(service.set_pool_weights(runtime, caller, rp_id, body.weights)))


@router.delete("/resource-pools/{rp_id}", operation_id="deleteResourcePool")
def delete_resource_pool(rp_id: str, caller: Operator, runtime: RuntimeDep) -> Envelope[None]:
    """Deletes a resource pool that has neither hosts nor instances, and that no flavor type is bound to."""
    service.delete_resource_pool(runtime, caller, rp_id)
    return success(None)


@router.post("/resource-pools/{rp_id}/add-hosts", operation_id="addPoolHosts")
def add_pool_hosts(rp_id: str, body: HostsRequest, caller: Operator, runtime: RuntimeDep) -> Envelope[None]:
    """Adds hosts of the pool's zone that belong to no other pool: all or none."""
    service.add_pool_hosts(runtime, caller, rp_id, body.to_references())
    return success(None)


@router.post("/resource-pools/{rp_id}/remove-host", operation_id="removePoolHost")
def remove_pool_host(rp_id: str, body: HostRequest, caller: Operator, runtime: RuntimeDep) -> Envelope[None]:
    """Removes a host from its pool. Refused with their list while it runs instances of the pool."""
    service.remove_pool_host(runtime, caller, rp_id, body.to_reference())
    return success(None)


@router.post("/resource-pools/{rp_id}/host-modify-rp", operation_id="moveHostToPool")
def move_host_to_pool(rp_id: str, body: MoveHostRequest, caller: Operator, runtime: RuntimeDep) -> Envelope[None]:
    """Moves a host to another pool. Refused with their list while it runs instances of its present one."""
    service.move_host_to_pool(runtime, caller, rp_id, body.dest_rp_id, body.host.to_reference())
    return success(None)


@router.get("/resource-pool/host-list", operation_id="listPoolCandidateHosts")
def list_pool_candidate_hosts(
    page: WholePage,
    conditions: Conditions,
    orderings: Orderings,
    caller: Operator,
    runtime: RuntimeDep,
    az: Annotated[str, Query(description="Zone; all unless given.")] = "",
) -> Envelope[PoolCandidateListBody]:
    """Lists hosts that belong to no pool, by name."""
    query = ListQuery(page, equal_to(az=az) + conditions, orderings)
    listing = node_service.list_nodes_without_pool(runtime, caller, query)
    cell, total = runtime.settings.cell, listing.total
    nodes, hosts = ([body.of(view, cell) for view in listing.items] for body in (NodeBody, HostBody))
    return success(
        PoolCandidateListBody(
            size=page.size, current=page.number, total=total, items=nodes, hosts=hosts, total_count=total
        )
    )


async def _conditions(
    rp_id: Annotated[str, Query(alias="rpId", description="Id of the pool.")] = "",
    name: Annotated[str, Query(max_length=255, description="Part of the host's name.")] = "",
    inner_ip: Annotated[str, Query(alias="innerIp", max_length=255, description="Part of its address.")] = "",
    arch_type: Annotated[str, Query(alias="archType", description="x86 or arm, also amd64 or arm64.")] = "",
) -> tuple[Condition, ...]:
    architecture = _ARCHITECTURES.get(arch_type, arch_type)
    return like(name=name, innerIp=inner_ip) + equal_to(rpId=rp_id, archType=architecture)


@router.get("/resource-pool/hosts", operation_id="listPoolHosts")
def list_pool_hosts(
    page: PageByNumber,
    named: Annotated[tuple[Condition, ...], Depends(_conditions)],
    conditions: Conditions,
    orderings: Orderings,
    caller: Operator,
    runtime: RuntimeDep,
) -> Envelope[PoolHostListBody]:
    """Lists the hosts of one pool, or of all, by name."""
    listing = service.list_pool_hosts(runtime, caller, ListQuery(page, named + conditions, orderings))
    hosts = [PoolHostBody.of(member, runtime.settings.cell) for member in listing.items]
    return success(PoolHostListBody(rp_hosts=hosts, total_count=listing.total))


@router.get("/resource-pool/{rp_id}", operation_id="getResourcePool")
def get_resource_pool(rp_id: str, caller: Operator, runtime: RuntimeDep) -> Envelope[ResourcePoolBody]:
    """Shows one resource pool."""
    return success(ResourcePoolBody.of(service.get_resource_pool(runtime, caller, rp_id)))
