"""VPCs, subnets, security groups and ports."""

from typing import Annotated

from fastapi import APIRouter, Query

from coordinator.api.deps import RuntimeDep, TenantUser
from coordinator.api.envelope import Envelope, success
from coordinator.api.filtering import Conditions, Orderings, equal_to
from coordinator.api.paging import PageByNumber
from coordinator.api.query import LenientRoute
from coordinator.api.schemas.network import (
    PortBody,
    PortListBody,
    SecurityGroupBody,
    SecurityGroupListBody,
    SubnetBody,
    SubnetListBody,
    VpcBody,
    VpcListBody,
)
from coordinator.domain.listing import ListQuery
from coordinator.services import network as service

router = APIRouter(prefix="/api/vpc/v1", tags=["network"], route_class=LenientRoute)

OfVpc = Annotated[str, Query(alias="vpcId", max_length=32, description="Only those of this VPC.")]
OfSubnet = Annotated[str, Query(alias="subnetId", max_length=32, description="Only those of this subnet.")]
OfInstance = Annotated[str, Query(alias="ecsId", max_length=32, description="Only those of this instance.")]


@router.get("/vpcs", operation_id="listVpcs")
def list_vpcs(
    page: PageByNumber, conditions: Conditions, orderings: Orderings, caller: TenantUser, runtime: RuntimeDep
) -> Envelope[VpcListBody]:
    """Lists the VPCs that the caller may use."""
    listing = service.list_vpcs(runtime, caller, ListQuery(page, conditions, orderings))
    return success(VpcListBody(items=[VpcBody.of(row) for row in listing.items], total_count=listing.total))


@router.get("/vpcs/{vpc_id}", operation_id="getVpc")
def get_vpc(vpc_id: str, caller: TenantUser, runtime: RuntimeDep) -> Envelope[VpcBody]:
    """Shows one VPC."""
    return success(VpcBody.of(service.get_vpc(runtime, caller, vpc_id)))


@router.get("/subnets", operation_id="listSubnets")
def list_subnets(
    page: PageByNumber,
    conditions: Conditions,
    orderings: Orderings,
    caller: TenantUser,
    runtime: RuntimeDep,
    vpc_id: OfVpc = "",
) -> Envelope[SubnetListBody]:
    """Lists the subnets that the caller may use."""
    query = ListQuery(page, equal_to(vpcId=vpc_id) + conditions, orderings)
    listing = service.list_subnets(runtime, caller, query)
    return success(SubnetListBody(items=[SubnetBody.of(row) for row in listing.items], total_count=listing.total))


@router.get("/subnets/{subnet_id}", operation_id="getSubnet")
def get_subnet(subnet_id: str, caller: TenantUser, runtime: RuntimeDep) -> Envelope[SubnetBody]:
    """Shows one subnet."""
    return success(SubnetBody.of(service.get_subnet(runtime, caller, subnet_id)))


@router.get("/security-groups", operation_id="listSecurityGroups")
def list_security_groups(
    page: PageByNumber, conditions: Conditions, orderings: Orderings, caller: TenantUser, runtime: RuntimeDep
) -> Envelope[SecurityGroupListBody]:
    """Lists the security groups that the caller may use."""
    listing = service.list_security_groups(runtime, caller, ListQuery(page, conditions, orderings))
    groups = [SecurityGroupBody.of(row) for row in listing.items]
    return success(SecurityGroupListBody(items=groups, total_count=listing.total))


@router.get("/security-groups/{security_group_id}", operation_id="getSecurityGroup")
def get_security_group(security_group_id: str, caller: TenantUser, runtime: RuntimeDep) -> Envelope[SecurityGroupBody]:
    """Shows one security group."""
    return success(SecurityGroupBody.of(service.get_security_group(runtime, caller, security_group_id)))


@router.get("/ports", operation_id="listPorts")
def list_ports(
    page: PageByNumber,
    conditions: Conditions,
    orderings: Orderings,
    caller: TenantUser,
    runtime: RuntimeDep,
    subnet_id: OfSubnet = "",
    ecs_id: OfInstance = "",
) -> Envelope[PortListBody]:
    """Lists the ports of the caller's instances."""
    query = ListQuery(page, equal_to(subnetId=subnet_id, ecsId=ecs_id) + conditions, orderings)
    listing = service.list_ports(runtime, caller, query)
    return success(PortListBody(items=[PortBody.of(row) for row in listing.items], total_count=listing.total))


@router.get("/ports/{port_id}", operation_id="getPort")
def get_port(port_id: str, caller: TenantUser, runtime: RuntimeDep) -> Envelope[PortBody]:
    """Shows one port."""
    return success(PortBody.of(service.get_port(runtime, caller, port_id)))
