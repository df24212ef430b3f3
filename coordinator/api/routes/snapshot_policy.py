"""Snapshot policies."""

from typing import Annotated

from fastapi import APIRouter, Query

from coordinator.api.deps import RuntimeDep, TenantUser
from coordinator.api.envelope import Envelope, success
from coordinator.api.filtering import Conditions, Orderings, equal_to, like
from coordinator.api.idempotency import IdempotentRoute
from coordinator.api.paging import PageByNumber
from coordinator.api.schemas.snapshot_policy import (
    CreatePolicyRequest,
    PolicyBindingRequest,
    PolicyBody,
    PolicyListBody,
    UpdatePolicyRequest,
)
from coordinator.domain.caller import Caller
from coordinator.domain.listing import ListQuery
from coordinator.errors import ParameterInvalid
from coordinator.runtime import Runtime
from coordinator.services import snapshot_policy as service

router = APIRouter(prefix="/api/ecs/v1/policy", tags=["snapshotpolicies"], route_class=IdempotentRoute)

EcsId = Annotated[str, Query(alias="ecsId", max_length=63, description="The instance, where the body names none.")]


@router.get("", operation_id="listSnapshotPolicies")
def list_snapshot_policies(
    page: PageByNumber,
    conditions: Conditions,
    orderings: Orderings,
    caller: TenantUser,
    runtime: RuntimeDep,
    policy_name: Annotated[str, Query(alias="policyName", max_length=255, description="Part of their names.")] = "",
    policy_id: Annotated[str, Query(alias="policyId", description="Id of a policy.")] = "",
    department_id: Annotated[str, Query(alias="departmentId", description="Their department.")] = "",
    resource_group_id: Annotated[str, Query(alias="resourceGroupId", description="Their resource group.")] = "",
) -> Envelope[PolicyListBody]:
    """Lists the caller's snapshot policies, the newest first."""
    wanted = equal_to(policyId=policy_id, departmentId=department_id, resourceGroupId=resource_group_id)
    query = ListQuery(page, like(policyName=policy_name) + wanted + conditions, orderings)
    found = service.list_policies(runtime, caller, query)
    bodies = [PolicyBody.of(row, runtime.settings.region) for row in found.items]
    return success(PolicyListBody(snapshot_policies=bodies, total_count=found.total))


@router.put("", operation_id="createSnapshotPolicy")
@router.post("", operation_id="createSnapshotPolicyByPost")
def create_snapshot_policy(body: CreatePolicyRequest, caller: TenantUser, runtime: RuntimeDep) -> Envelope[None]:
    """Creates a policy: at these hours of these days a snapshot is taken of each instance that it is bound to."""
    service.create_policy(runtime, caller, body.to_order())
    return success(None)


@router.get("/{policy_id}", operation_id="getSnapshotPolicy")
def get_snapshot_policy(policy_id: str, caller: TenantUser, runtime: RuntimeDep) -> Envelope[PolicyListBody]:
    """Shows a policy, the instances that it is bound to, and what came of their last snapshots."""
    return success(_show(runtime, caller, policy_id))


@router.post("/{policy_id}", operation_id="updateSnapshotPolicy")
def update_snapshot_policy(
    policy_id: str, caller: TenantUser, runtime: RuntimeDep, body: UpdatePolicyRequest | None = None
) -> Envelope[PolicyListBody | None]:
    """Changes a policy; without a body it is shown. Snapshots that are there already keep their time."""
    if body is None:
        return success(_show(runtime, caller, policy_id))
    service.update_policy(runtime, caller, policy_id, body.to_order())
    return success(None)


@router.delete("/{policy_id}", operation_id="deleteSnapshotPolicy")
def delete_snapshot_policy(policy_id: str, caller: TenantUser, runtime: RuntimeDep) -> Envelope[None]:
    """Deletes a policy; its instances have none then, and its snapshots stay as long as they were to."""
    service.delete_policy(runtime, caller, policy_id)
    return success(None)


@router.post("/{policy_id}/bind", operation_id="bindSnapshotPolicy")
@router.get("/{policy_id}/bind", operation_id="bindSnapshotPolicyByGet")
def bind_snapshot_policy(
    policy_id: str,
    caller: TenantUser,
    runtime: RuntimeDep,
    body: PolicyBindingRequest | None = None,
    ecs_id: EcsId = "",
) -> Envelope[None]:
    """Binds a policy to an instance, which has one at most."""
    service.bind_policy(runtime, caller, policy_id, _named(body, ecs_id))
    return success(None)


@router.post("/{policy_id}/unbind", operation_id="unbindSnapshotPolicy")
def unbind_snapshot_policy(
    policy_id: str,
    caller: TenantUser,
    runtime: RuntimeDep,
    body: PolicyBindingRequest | None = None,
    ecs_id: EcsId = "",
) -> Envelope[None]:
    """Unbinds a policy from an instance; the snapshots stay as long as they were to."""
    service.unbind_policy(runtime, caller, policy_id, _named(body, ecs_id))
    return success(None)


@router.post("/{policy_id}/pause", operation_id="pauseSnapshotPolicy")
def pause_snapshot_policy(policy_id: str, caller: TenantUser, runtime: RuntimeDep) -> Envelope[None]:
    """Pauses a policy: no snapshots are taken, those that are there are kept as long as they were to."""
    service.pause_policy(runtime, caller, policy_id)
    return success(None)


@router.post("/{policy_id}/resume", operation_id="resumeSnapshotPolicy")
def resume_snapshot_policy(policy_id: str, caller: TenantUser, runtime: RuntimeDep) -> Envelope[None]:
    """Lets a policy go on with its next time."""
    service.resume_policy(runtime, caller, policy_id)
    return success(None)


def _show(runtime: Runtime, caller: Caller, policy_id: str) -> PolicyListBody:
    found = service.get_policy(runtime, caller, policy_id)
    return PolicyListBody(snapshot_policies=[PolicyBody.of(found, runtime.settings.region)], total_count=1)


def _named(body: PolicyBindingRequest | None, ecs_id: str) -> str:
    named = (body.ecs_id if body else "") or ecs_id
    if not named:
        raise ParameterInvalid("ecsId", "is required", "必填")
    return named
