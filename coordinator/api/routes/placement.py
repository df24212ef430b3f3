"""Explanations of placements: why an instance is where it is, and where one would go."""

from typing import Annotated

from fastapi import APIRouter, Query

from coordinator.api.deps import Operator, RuntimeDep, TenantUser
from coordinator.api.envelope import Envelope, success
from coordinator.api.order_body import BatchOrderBody
from coordinator.api.query import LenientRoute
from coordinator.api.schemas.placement import (
    DifferenceBody,
    ExplanationBody,
    OrderedMigration,
    PlacementStoryBody,
    SchedulableNodesRequest,
)
from coordinator.domain.migration import MigrationType
from coordinator.services import instance_placement as placing
from coordinator.services import placement as service

router = APIRouter(prefix="/api/ecs/v1/instances", tags=["placement"], route_class=LenientRoute)
cluster_router = APIRouter(prefix="/api/ecs/v1/placement", tags=["placement"])


@router.post("/explain-placement", operation_id="explainPlacement")
def explain_placement(body: BatchOrderBody, caller: TenantUser, runtime: RuntimeDep) -> Envelope[ExplanationBody]:
    """Tells what creating these instances would decide now, and why. Changes nothing."""
    order = body.to_order(1 if body.ecs_count is None else body.ecs_count)
    return success(ExplanationBody.of(service.explain_order(runtime, caller, order), caller.language))


@router.get("/{ecs_id}/placement", operation_id="getInstancePlacement")
def get_instance_placement(ecs_id: str, caller: TenantUser, runtime: RuntimeDep) -> Envelope[PlacementStoryBody]:
    """Tells why an instance is where it is."""
    return success(PlacementStoryBody.of(service.tell_placement(runtime, caller, ecs_id)))


@router.get("/{ecs_id}/schedulable-nodes", operation_id="listSchedulableNodes")
def list_schedulable_nodes(
    ecs_id: str,
    caller: TenantUser,
    runtime: RuntimeDep,
    migration: Annotated[OrderedMigration, Query(alias="type", description="cold or live.")] = MigrationType.LIVE,
) -> Envelope[list[str]]:
    """Lists the names of nodes, other than its own, that could take the instance now."""
    return success(placing.list_schedulable_nodes(runtime, caller, [ecs_id], migration)[ecs_id])


@router.post("/batch-schedulable-nodes", operation_id="batchListSchedulableNodes")
def batch_list_schedulable_nodes(
    body: SchedulableNodesRequest, caller: TenantUser, runtime: RuntimeDep
) -> Envelope[dict[str, list[str]]]:
    """Lists for each instance the names of nodes, other than its own, that could take it now, each on its own."""
    return success(placing.list_schedulable_nodes(runtime, caller, body.ecs_ids, body.migration))


@cluster_router.get("/differences", operation_id="listPlacementDifferences")
def list_differences(caller: Operator, runtime: RuntimeDep) -> Envelope[list[DifferenceBody]]:
    """Lists where allocations, instances and what nodes report do not agree. Nothing is mended by itself."""
    return success([DifferenceBody.of(it, caller.language) for it in service.list_differences(runtime, caller)])
