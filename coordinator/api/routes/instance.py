"""Instances."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from coordinator.api.deps import RuntimeDep, TenantUser
from coordinator.api.envelope import Envelope, success
from coordinator.api.filtering import Conditions, Orderings
from coordinator.api.idempotency import IdempotentRoute
from coordinator.api.operation_header import OperationHeader
from coordinator.api.order_body import BatchOrderBody, OrderBody
from coordinator.api.paging import PageByNumber
from coordinator.api.schemas.instance import InstanceBody, InstanceListBody
from coordinator.api.schemas.instance_request import (
    DescriptionRequest,
    InstanceIdsRequest,
    LockRequest,
    RenameRequest,
    ReplacedLabelRequest,
)
from coordinator.domain.listing import ListQuery
from coordinator.errors import ParameterInvalid
from coordinator.services import instance as service
from coordinator.services.instance_creation import create_instances
from coordinator.services.instance_deletion import delete_instances
from coordinator.store.queries.instance import Narrowing

router = APIRouter(prefix="/api/ecs/v1/instances", tags=["instances"], route_class=IdempotentRoute)


@router.post("", operation_id="createInstance")
def create_instance(
    body: OrderBody, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[InstanceBody]:
    """Creates one instance; it is answered as it begins. With `launchTemplateId` all else may be left out."""
    created = create_instances(runtime, caller, body.to_order())
    header.name(*created.operation_ids)
    return success(InstanceBody.of(created.views[0]))


@router.post("/batch-create", operation_id="batchCreateInstances")
def batch_create_instances(
    body: BatchOrderBody, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[list[InstanceBody]]:
    """Creates up to 50 alike instances: all of them find a node, or none does."""
    created = create_instances(runtime, caller, body.to_order(1 if body.ecs_count is None else body.ecs_count))
    header.name(*created.operation_ids)
    return success(InstanceBody.list_of(created.views))


@router.delete("/batch-delete", operation_id="batchDeleteInstances")
@router.post("/batch-delete", operation_id="batchDeleteInstancesByPost")
def batch_delete_instances(
    body: InstanceIdsRequest, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[None]:
    """Deletes instances; none when one of them does not exist or is locked."""
    header.name(*delete_instances(runtime, caller, body.ecs_ids))
    return success(None)


async def _narrowing(
    vpc_id: Annotated[str, Query(alias="vpcId", description="Has an interface in that network.")] = "",
    subnet_id: Annotated[str, Query(alias="subnetId", description="Has an interface in that subnet.")] = "",
    private_ip: Annotated[str, Query(alias="privateIp", description="Has that address.")] = "",
    sec_group: Annotated[str, Query(alias="secGroup", description="Has an interface in that security group.")] = "",
    eip: Annotated[str, Query(description="Has that elastic address; none is there yet.")] = "",
    flavor_type: Annotated[str, Query(alias="flavorType", description="Id or name of its flavor type.")] = "",
    flavor: Annotated[str, Query(description="Id or name of its flavor.")] = "",
    rp_name: Annotated[str, Query(alias="rpName", description="Name of its resource pool.")] = "",
    rp_id: Annotated[str, Query(alias="rpId", description="Id of its resource pool.")] = "",
    node_name: Annotated[str, Query(alias="nodeName", description="Name of its node.")] = "",
    vm_labels: Annotated[str, Query(alias="vmLabels", description="Has that label.", examples=["team=storage"])] = "",
    is_lock: Annotated[bool | None, Query(alias="isLock", description="Is locked, or is not.")] = None,
) -> Narrowing:
    key, separator, value = vm_labels.partition("=")
    if vm_labels and not (key and separator):
        raise ParameterInvalid("vmLabels", "must be key=value", "格式应为key=value")
    return Narrowing(
        vpc_id=vpc_id,
        subnet_id=subnet_id,
        private_ip=private_ip,
        security_group_id=sec_group,
        flavor_type=flavor_type,
        flavor=flavor,
        rp_id=rp_id,
        rp_name=rp_name,
        node_name=node_name,
        label=(key, value) if vm_labels else None,
        is_locked=is_lock,
        excludes_all=bool(eip),
    )


@router.get("", operation_id="listInstances")
def list_instances(
    page: PageByNumber,
    narrowing: Annotated[Narrowing, Depends(_narrowing)],
    conditions: Conditions,
    orderings: Orderings,
    caller: TenantUser,
    runtime: RuntimeDep,
    cpu_exceed_ratio: Annotated[
        float | None, Query(alias="cpuExceedRatio", description="Lives under that ratio of vCPUs to CPUs.")
    ] = None,
) -> Envelope[InstanceListBody]:
    """Lists the caller's instances, the newest first unless ordered otherwise."""
    found = service.list_instances(runtime, caller, narrowing, ListQuery(page, conditions, orderings), cpu_exceed_ratio)
    return success(InstanceListBody(total_count=found.total, virtual_machines=InstanceBody.list_of(found.items)))


@router.get("/{ecs_id}", operation_id="getInstance")
def get_instance(ecs_id: str, caller: TenantUser, runtime: RuntimeDep) -> Envelope[InstanceBody]:
    """Shows one instance."""
    return success(InstanceBody.of(service.get_instance(runtime, caller, ecs_id)))


@router.delete("/{ecs_id}", operation_id="deleteInstance")
def delete_instance(ecs_id: str, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader) -> Envelope[None]:
    """Deletes an instance, whatever its status; what it is busy with is cancelled."""
    header.name(*delete_instances(runtime, caller, [ecs_id]))
    return success(None)


@router.put("/{ecs_id}/lock", operation_id="setInstanceLock")
def set_instance_lock(ecs_id: str, body: LockRequest, caller: TenantUser, runtime: RuntimeDep) -> Envelope[None]:
    """Locks an instance, which then refuses every change, or unlocks it."""
    service.set_lock(runtime, caller, ecs_id, body.is_lock)
    return success(None)


@router.put("/{ecs_id}/label", operation_id="setInstanceLabels")
def set_instance_labels(
    ecs_id: str, body: list[ReplacedLabelRequest], caller: TenantUser, runtime: RuntimeDep
) -> Envelope[None]:
    """Replaces the labels of an instance, five at most."""
    service.set_labels(runtime, caller, ecs_id, [label.to_label() for label in body])
    return success(None)


@router.put("/{ecs_id}/reset-name", operation_id="renameInstance")
def rename_instance(ecs_id: str, body: RenameRequest, caller: TenantUser, runtime: RuntimeDep) -> Envelope[None]:
    """Changes the display name of an instance."""
    service.rename_instance(runtime, caller, ecs_id, body.display_name)
    return success(None)


@router.put("/{ecs_id}/description", operation_id="setInstanceDescription")
def set_instance_description(
    ecs_id: str, body: DescriptionRequest, caller: TenantUser, runtime: RuntimeDep
) -> Envelope[None]:
    """Changes the description of an instance."""
    service.set_description(runtime, caller, ecs_id, body.description)
    return success(None)
