"""The audit log."""

from fastapi import APIRouter

from coordinator.api.deps import Operator, RuntimeDep
from coordinator.api.envelope import Envelope, success
from coordinator.api.filtering import Conditions, Orderings
from coordinator.api.paging import PageByNumber
from coordinator.api.query import LenientRoute
from coordinator.api.schemas.audit import AuditBody, AuditListBody
from coordinator.domain.listing import ListQuery
from coordinator.services import audit as service

router = APIRouter(prefix="/api/ecs/v1/audit", tags=["events"], route_class=LenientRoute)


@router.get("", operation_id="listAudit")
def list_audit(
    page: PageByNumber, conditions: Conditions, orderings: Orderings, caller: Operator, runtime: RuntimeDep
) -> Envelope[AuditListBody]:
    """Lists who did what, the newest first. For operators and auditors."""
    listing = service.list_records(runtime, caller, ListQuery(page, conditions, orderings))
    return success(AuditListBody(items=[AuditBody.of(row) for row in listing.items], total_count=listing.total))
