"""Resource pools on the wire."""

from typing import Annotated

from pydantic import Field

from coordinator.api.schemas.base import AnswerModel, LenientModel, Moment
from coordinator.api.schemas.host import HostBody, HostRequest, host_architecture
from coordinator.api.schemas.node import NodeListBody
from coordinator.api.schemas.overcommit import CpuRatio
from coordinator.store.queries.resource_pool import PoolMember, PoolUse
from coordinator.store.tables import ResourcePool

PoolId = Annotated[str, Field(description="Id of the pool.", examples=["rp-4k8s1m6x0q2z7v"])]


class CreateResourcePoolRequest(LenientModel):
    """A pool to be made."""

    az: str = Field(min_length=1, max_length=63, description="Zone of its hosts.", examples=["AZ0"])
    name: str = Field(min_length=1, max_length=127, description="1 to 127 characters.", examples=["fast"])
    cpu_allocation_ratio: CpuRatio = Field(examples=[2])


class SetPoolWeightsRequest(LenientModel):
    """How hosts of a pool are chosen."""

    weights: dict[str, float] = Field(
        description="By weigher; those that are absent are as configured. A negative one for room packs hosts.",
        examples=[{"room": -1.0}],
    )


class MoveHostRequest(LenientModel):
    """A host, and the pool that it shall belong to."""

    dest_rp_id: str = Field(min_length=1, max_length=32, description="Id of the pool.", examples=["rp-4k8s1m6x0q2z7v"])
    host: HostRequest = Field(description="The host.")


class ResourcePoolBody(AnswerModel):
    """A resource pool and what belongs to it."""

    rp_id: PoolId
    name: str
    az: str = Field(description="Zone of its hosts.")
    host_cnt: int = Field(description="How many hosts it has.")
    ft_cnt: int = Field(description="How many flavor types are bound to it.")
    cpu_allocation_ratio: int = Field(description="vCPUs for each CPU of its hosts.")
    weights: dict[str, float] = Field(description="Weights of weighers that count otherwise than configured.")
    create_time: Moment
    update_time: Moment

    @classmethod
    def of(cls, use: PoolUse) -> "ResourcePoolBody":
        return cls(
            rp_id=use.pool.id,
            name=use.pool.name,
            az=use.pool.zone,
            host_cnt=use.host_count,
            ft_cnt=use.flavor_type_count,
            cpu_allocation_ratio=use.pool.cpu_allocation_ratio,
            weights=use.pool.weights,
            create_time=use.pool.created_at,
            update_time=use.pool.updated_at,
        )


class ResourcePoolListBody(AnswerModel):
    """One page of pools."""

    resource_pools: list[ResourcePoolBody]
    total_count: int = Field(description="On all pages together.")


class PoolHostBody(AnswerModel):
    """A host of a pool."""

    name: str
    inner_ip: str = Field(description="Address under which its agent is reached.")
    arch_type: str = Field(description="amd64 or arm64.")
    cell: str = Field(description="Cluster of nodes that it belongs to.")
    host_id: str = Field(description="Id of the node.")
    rp_id: PoolId
    rp_name: str
    add_rp_time: Moment = Field(description="Since when it belongs to this pool.")
    create_time: Moment = Field(description="Since when it belongs to any pool.")
    update_time: Moment

    @classmethod
    def of(cls, member: PoolMember, cell: str) -> "PoolHostBody":
        return cls(
            name=member.node.name,
            inner_ip=member.node.host_ip,
            arch_type=host_architecture(member.node),
            cell=cell,
            host_id=member.node.id,
            rp_id=member.pool.id,
            rp_name=member.pool.name,
            add_rp_time=member.membership.joined_at,
            create_time=member.membership.created_at,
            update_time=member.membership.updated_at,
        )


class PoolHostListBody(AnswerModel):
    """One page of hosts of pools."""

    rp_hosts: list[PoolHostBody]
    total_count: int = Field(description="On all pages together.")


class PoolCandidateListBody(NodeListBody):
    """Hosts that belong to no pool, in short and in full."""

    hosts: list[HostBody]
    total_count: int = Field(description="The same as total.")


class PoolReferenceBody(AnswerModel):
    """A pool that something is bound to."""

    rp_id: PoolId
    rp_name: str
    name: str = Field(description="The same as rpName.")
    az: str

    @classmethod
    def of(cls, pool: ResourcePool) -> "PoolReferenceBody":
        return cls(rp_id=pool.id, rp_name=pool.name, name=pool.name, az=pool.zone)
