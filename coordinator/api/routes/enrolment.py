"""How machines become nodes."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Body

from coordinator.api.deps import Operator, RuntimeDep
from coordinator.api.envelope import Envelope, success
from coordinator.api.filtering import Conditions, Orderings
from coordinator.api.paging import PageByNumber
from coordinator.api.query import LenientRoute
from coordinator.api.schemas.enrolment import (
    CreateEnrolmentTokenRequest,
    EnrolmentAuthorityBody,
    EnrolmentTokenBody,
    EnrolmentTokenListBody,
    NewEnrolmentTokenBody,
)
from coordinator.domain.listing import ListQuery
from coordinator.services import enrolment as service

# For machines that have no credentials yet.
open_router = APIRouter(prefix="/api/ecs/v1", tags=["nodes"])
# Without idempotency keys: an answer with a secret shall not lie in the database.
router = APIRouter(prefix="/api/ecs/v1", tags=["nodes"], route_class=LenientRoute)


@open_router.get("/enrolment-authority", operation_id="getEnrolmentAuthority")
def get_enrolment_authority(runtime: RuntimeDep) -> Envelope[EnrolmentAuthorityBody]:
    """Tells joining machines whom to trust and where to go. Open to everybody."""
    return success(EnrolmentAuthorityBody.of(service.get_authority(runtime)))


@router.post("/nodes/enrolment-tokens", operation_id="createEnrolmentToken")
def create_enrolment_token(
    caller: Operator,
    runtime: RuntimeDep,
    body: Annotated[CreateEnrolmentTokenRequest, Body(default_factory=CreateEnrolmentTokenRequest)],
) -> Envelope[NewEnrolmentTokenBody]:
    """Creates a token with which one machine can join. The answer is the only place where it is ever shown."""
    life = timedelta(seconds=body.valid_for_seconds)
    return success(NewEnrolmentTokenBody.of(service.create_enrolment_token(runtime, caller, life)))


@router.get("/nodes/enrolment-tokens", operation_id="listEnrolmentTokens")
def list_enrolment_tokens(
    page: PageByNumber, conditions: Conditions, orderings: Orderings, caller: Operator, runtime: RuntimeDep
) -> Envelope[EnrolmentTokenListBody]:
    """Lists enrolment tokens, the newest first, used and expired ones too."""
    listing = service.list_enrolment_tokens(runtime, caller, ListQuery(page, conditions, orderings))
    items = [EnrolmentTokenBody.of(row) for row in listing.items]
    return success(EnrolmentTokenListBody(items=items, total_count=listing.total))


@router.delete("/nodes/enrolment-tokens/{token_id}", operation_id="deleteEnrolmentToken")
def delete_enrolment_token(token_id: str, caller: Operator, runtime: RuntimeDep) -> Envelope[None]:
    """Withdraws a token. A node that joined with it stays."""
    service.delete_enrolment_token(runtime, caller, token_id)
    return success(None)
