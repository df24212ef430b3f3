"""Operations."""

from fastapi import APIRouter

from coordinator.api.deps import RuntimeDep, TenantUser
from coordinator.api.envelope import Envelope, success
from coordinator.api.filtering import Conditions, Orderings
from coordinator.api.paging import PageByNumber
from coordinator.api.query import LenientRoute
from coordinator.api.schemas.operation import OperationBody, OperationListBody
from coordinator.domain.listing import ListQuery
from coordinator.services import operation as service

router = APIRouter(prefix="/api/ecs/v1/operations", tags=["operations"], route_class=LenientRoute)


@router.get("", operation_id="listOperations")
def list_operations(
    page: PageByNumber, conditions: Conditions, orderings: Orderings, caller: TenantUser, runtime: RuntimeDep
) -> Envelope[OperationListBody]:
    """Lists the caller's operations, the newest first."""
    listing = service.list_operations(runtime, caller, ListQuery(page, conditions, orderings))
    operations = [OperationBody.of(operation) for operation in listing.items]
    return success(OperationListBody(operations=operations, total_count=listing.total))


@router.get("/{operation_id}", operation_id="getOperation")
def get_operation(operation_id: str, caller: TenantUser, runtime: RuntimeDep) -> Envelope[OperationBody]:
    """Tells how far an operation is, or how it ended."""
    return success(OperationBody.of(service.get_operation(runtime, caller, operation_id)))


@router.delete("/{operation_id}", operation_id="cancelOperation")
def cancel_operation(operation_id: str, caller: TenantUser, runtime: RuntimeDep) -> Envelope[OperationBody]:
    """Asks an operation to stop and to be undone."""
    return success(OperationBody.of(service.cancel_operation(runtime, caller, operation_id)))
