"""Host groups."""

from typing import Annotated

from fastapi import APIRouter, Query

from coordinator.api.deps import Operator, RuntimeDep
from coordinator.api.envelope import Envelope, success
from coordinator.api.filtering import Conditions, Orderings, equal_to, like
from coordinator.api.idempotency import IdempotentRoute
from coordinator.api.paging import PageByNumber, WholePage
from coordinator.api.schemas.host import HostBody, HostRequest, HostsRequest
from coordinator.api.schemas.host_group import (
    CreateHostGroupRequest,
    GroupHostBody,
    GroupHostListBody,
    HostGroupBody,
    HostGroupListBody,
    HostListBody,
)
from coordinator.domain.listing import ListQuery
from coordinator.services import host_group as service

router = APIRouter(prefix="/api/ecs/v1", tags=["pools"], route_class=IdempotentRoute)

GroupIdQuery = Annotated[str, Query(alias="hgId", description="Id of the group.")]
NameQuery = Annotated[str, Query(max_length=255, description="Part of the name.")]


@router.get("/hosts", operation_id="listGroupCandidateHosts")
def list_group_candidate_hosts(
    page: WholePage,
    conditions: Conditions,
    orderings: Orderings,
    caller: Operator,
    runtime: RuntimeDep,
    hg_id: GroupIdQuery = "",
) -> Envelope[HostListBody]:
    """Lists hosts that could join the group, which are those that belong to none, by name."""
    listing = service.list_candidate_hosts(runtime, caller, hg_id, ListQuery(page, conditions, orderings))
    hosts = [HostBody.of(view, runtime.settings.cell) for view in listing.items]
    return success(HostListBody(hosts=hosts, total_count=listing.total))


@router.post("/host-groups", operation_id="createHostGroup")
def create_host_group(body: CreateHostGroupRequest, caller: Operator, runtime: RuntimeDep) -> Envelope[HostGroupBody]:
    """Creates a host group without hosts."""
    return success(HostGroupBody.of(service.create_host_group(runtime, caller, body.name)))


@router.get("/host-groups", operation_id="listHostGroups")
def list_host_groups(
    page: PageByNumber,
    conditions: Conditions,
    orderings: Orderings,
    caller: Operator,
    runtime: RuntimeDep,
    name: NameQuery = "",
    hg_id: GroupIdQuery = "",
) -> Envelope[HostGroupListBody]:
    """Lists host groups, the newest first."""
    query = ListQuery(page, like(name=name) + equal_to(hgId=hg_id) + conditions, orderings)
    listing = service.list_host_groups(runtime, caller, query)
    groups = [HostGroupBody.of(use) for use in listing.items]
    return success(HostGroupListBody(host_groups=groups, total_count=listing.total))


# An operation has one id for each of its paths in the document.
@router.delete("/host-group/{hg_id}", operation_id="deleteHostGroupBySingularPath")
@router.delete("/host-groups/{hg_id}", operation_id="deleteHostGroup")
def delete_host_group(hg_id: str, caller: Operator, runtime: RuntimeDep) -> Envelope[None]:
    """Deletes a host group that has neither hosts nor instances."""
    service.delete_host_group(runtime, caller, hg_id)
    return success(None)


@router.post("/host-groups/{hg_id}/add-hosts", operation_id="addGroupHosts")
def add_group_hosts(hg_id: str, body: HostsRequest, caller: Operator, runtime: RuntimeDep) -> Envelope[None]:
    """Adds hosts that belong to no other group: all or none. From then on they take instances of the group only."""
    service.add_group_hosts(runtime, caller, hg_id, body.to_references())
    return success(None)


@router.post("/host-groups/{hg_id}/remove-host", operation_id="removeGroupHost")
def remove_group_host(hg_id: str, body: HostRequest, caller: Operator, runtime: RuntimeDep) -> Envelope[None]:
    """Removes a host from its group. Refused with their list while it runs instances of the group."""
    service.remove_group_host(runtime, caller, hg_id, body.to_reference())
    return success(None)


@router.get("/host-group/hosts", operation_id="listGroupHosts")
def list_group_hosts(
    page: PageByNumber,
    conditions: Conditions,
    orderings: Orderings,
    caller: Operator,
    runtime: RuntimeDep,
    hg_id: GroupIdQuery = "",
    name: NameQuery = "",
) -> Envelope[GroupHostListBody]:
    """Lists the hosts of one group, or of all, by name."""
    query = ListQuery(page, like(name=name) + equal_to(hgId=hg_id) + conditions, orderings)
    listing = service.list_group_hosts(runtime, caller, query)
    hosts = [GroupHostBody.of(member, runtime.settings.cell) for member in listing.items]
    return success(GroupHostListBody(hg_hosts=hosts, total_count=listing.total))


@router.get("/host-group/{hg_id}", operation_id="getHostGroup")
def get_host_group(hg_id: str, caller: Operator, runtime: RuntimeDep) -> Envelope[HostGroupBody]:
    """Shows one host group."""
    return success(HostGroupBody.of(service.get_host_group(runtime, caller, hg_id)))
