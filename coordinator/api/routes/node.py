"""Nodes."""

from fastapi import APIRouter

from coordinator.api.deps import Operator, RuntimeDep
from coordinator.api.envelope import Envelope, success
from coordinator.api.filtering import Conditions, Orderings
from coordinator.api.operation_header import OperationHeader
from coordinator.api.paging import PageByCurrent
from coordinator.api.query import LenientRoute
from coordinator.api.schemas.maintenance import MaintenanceBody, MaintenanceRequest
from coordinator.api.schemas.node import (
    NodeBody,
    NodeListBody,
    SetGpuModeRequest,
    SetNodeLabelsRequest,
    SetReservedRequest,
    SetSchedulableRequest,
)
from coordinator.domain.listing import ListQuery
from coordinator.services import gpu_mode as gpu_mode_service
from coordinator.services import maintenance as maintenance_service
from coordinator.services import node as service

router = APIRouter(prefix="/api/ecs/v1/nodes", tags=["nodes"], route_class=LenientRoute)


@router.get("", operation_id="listNodes")
def list_nodes(
    page: PageByCurrent, conditions: Conditions, orderings: Orderings, caller: Operator, runtime: RuntimeDep
) -> Envelope[NodeListBody]:
    """Lists nodes by name."""
    listing = service.list_nodes(runtime, caller, ListQuery(page, conditions, orderings))
    nodes = [NodeBody.of(view, runtime.settings.cell) for view in listing.items]
    return success(NodeListBody(size=page.size, current=page.number, total=listing.total, items=nodes))


@router.post("/label", operation_id="setNodeLabels")
def set_node_labels(body: SetNodeLabelsRequest, caller: Operator, runtime: RuntimeDep) -> Envelope[None]:
    """Labels nodes with where they stand. A label that is absent stays, an empty one is taken off."""
    service.set_labels(runtime, caller, body.to_references(), body.to_labels())
    return success(None)


@router.put("/maintenance", operation_id="setNodeMaintenance")
def set_node_maintenance(
    body: MaintenanceRequest, caller: Operator, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[MaintenanceBody]:
    """Closes a node and moves away what runs there, or opens it again. What cannot move is told first."""
    if body.maintenance:
        told = maintenance_service.begin_maintenance(runtime, caller, body.to_order())
    else:
        told = maintenance_service.end_maintenance(runtime, caller, body.reference)
    if told.operation_id:
        header.name(told.operation_id)
    return success(MaintenanceBody.of(told, caller.language))


@router.put("/gpu-mode", operation_id="setGpuMode")
def set_gpu_mode(
    body: SetGpuModeRequest, caller: Operator, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[None]:
    """Has the GPUs of a node given to instances as a whole, or split into vGPUs; refused while one is used."""
    header.name(gpu_mode_service.set_gpu_mode(runtime, caller, body.to_reference(), body.gpu_mode))
    return success(None)


@router.put("/{node_id}/schedulable", operation_id="setNodeSchedulable")
def set_node_schedulable(
    node_id: str, body: SetSchedulableRequest, caller: Operator, runtime: RuntimeDep
) -> Envelope[NodeBody]:
    """Closes a node for new instances, or opens it again. What runs there goes on."""
    view = service.set_schedulable(runtime, caller, node_id, body.schedulable)
    return success(NodeBody.of(view, runtime.settings.cell))


@router.put("/{node_id}/reserved", operation_id="setNodeReserved")
def set_node_reserved(
    node_id: str, body: SetReservedRequest, caller: Operator, runtime: RuntimeDep
) -> Envelope[NodeBody]:
    """Sets what a node keeps for itself, instead of what the configuration says. What runs there goes on."""
    view = service.set_reserved(runtime, caller, node_id, body.vcpus, body.memory_mib)
    return success(NodeBody.of(view, runtime.settings.cell))
