"""Management controllers of nodes, through which lost nodes are switched off."""

from fastapi import APIRouter

from coordinator.api.deps import Operator, RuntimeDep
from coordinator.api.envelope import Envelope, success
from coordinator.api.query import LenientRoute
from coordinator.api.schemas.bmc import BmcBody, BmcPowerBody, SetBmcRequest
from coordinator.services import bmc as service

router = APIRouter(prefix="/api/ecs/v1/nodes/{node_id}/bmc", tags=["nodes"], route_class=LenientRoute)


@router.get("", operation_id="getNodeBmc")
def get_node_bmc(node_id: str, caller: Operator, runtime: RuntimeDep) -> Envelope[BmcBody]:
    """Shows how the node's management controller is reached."""
    return success(BmcBody.of(service.get_bmc(runtime, caller, node_id)))


@router.put("", operation_id="setNodeBmc")
def set_node_bmc(node_id: str, body: SetBmcRequest, caller: Operator, runtime: RuntimeDep) -> Envelope[BmcBody]:
    """Sets the node's management controller. Nothing is asked of it; `test` does."""
    return success(BmcBody.of(service.set_bmc(runtime, caller, node_id, body.to_access())))


@router.delete("", operation_id="deleteNodeBmc")
def delete_node_bmc(node_id: str, caller: Operator, runtime: RuntimeDep) -> Envelope[None]:
    """Forgets the node's management controller."""
    service.delete_bmc(runtime, caller, node_id)
    return success(None)


@router.post("/test", operation_id="testNodeBmc")
def test_node_bmc(node_id: str, caller: Operator, runtime: RuntimeDep) -> Envelope[BmcPowerBody]:
    """Asks the controller whether the node's power is on. Changes nothing."""
    return success(BmcPowerBody.of(service.test_bmc(runtime, caller, node_id)))
