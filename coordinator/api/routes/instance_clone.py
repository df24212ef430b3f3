"""Clones of instances."""

from typing import Annotated

from fastapi import APIRouter, Query

from coordinator.api.deps import RuntimeDep, TenantUser
from coordinator.api.envelope import Envelope, success
from coordinator.api.idempotency import IdempotentRoute
from coordinator.api.operation_header import OperationHeader
from coordinator.api.schemas.instance import InstanceBody
from coordinator.api.schemas.instance_clone import CloneInstanceRequest
from coordinator.errors import ParameterInvalid
from coordinator.services import instance_clone as service

router = APIRouter(prefix="/api/ecs/v1/instances", tags=["instances"], route_class=IdempotentRoute)


@router.get("/{ecs_id}/check-clone", operation_id="checkClone")
def check_clone(
    ecs_id: str,
    caller: TenantUser,
    runtime: RuntimeDep,
    tenant_id: Annotated[str, Query(alias="tenantId", max_length=1024, description="The instance's tenant.")],
) -> Envelope[None]:
    """Succeeds when the instance can be cloned now, and its tenant may have another one like it."""
    service.check_clone(runtime, caller, ecs_id, tenant_id)
    return success(None)


@router.post("/{ecs_id}/clone", operation_id="cloneInstance")
def clone_instance(
    ecs_id: str, body: CloneInstanceRequest, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[InstanceBody]:
    """Makes an instance with copies of another one's disks, which may run meanwhile, and an identity of its own."""
    if body.source_ecs_id not in ("", ecs_id):
        raise ParameterInvalid("sourceEcsId", f"the path names {ecs_id}", f"与路径中的{ecs_id}不一致")
    created = service.clone_instance(runtime, caller, ecs_id, body.to_order())
    header.name(*created.operation_ids)
    return success(InstanceBody.of(created.views[0]))
