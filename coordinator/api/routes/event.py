"""Events: what happens, as it does, and what happened."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from coordinator.api.deps import Reader, RuntimeDep
from coordinator.api.envelope import Envelope, success
from coordinator.api.event_stream import EventStream
from coordinator.api.filtering import Conditions, Orderings
from coordinator.api.paging import PageByNumber
from coordinator.api.query import LenientRoute
from coordinator.api.schemas.base import FieldError
from coordinator.api.schemas.event import MAXIMUM_KINDS, EventBody, EventListBody, check_kinds
from coordinator.domain.event import EventFilter, Severity
from coordinator.domain.listing import ListQuery
from coordinator.errors import ParameterInvalid
from coordinator.services import event as service

router = APIRouter(prefix="/api/ecs/v1/events", tags=["events"], route_class=LenientRoute)

_STREAM = {"type": "string", "description": "Server-sent events; `data` of each is an event as in the list."}
_POSITION = {"ge": 0, "le": 2**63 - 1}
After = Annotated[int | None, Query(**_POSITION, description="Begin after the event with this id.")]


async def _wanted(
    caller: Reader,
    kind: Annotated[
        str,
        Query(
            max_length=MAXIMUM_KINDS * 64,
            description="Kinds, or beginnings of kinds, separated by commas.",
            examples=["instance.*,migration.failed"],
        ),
    ] = "",
    resource: Annotated[str, Query(max_length=63, description="Only events of what has this id.")] = "",
    severity: Annotated[Severity, Query(description="The least severity.")] = Severity.INFO,
) -> EventFilter:
    kinds = [pattern.strip() for pattern in kind.split(",") if pattern.strip()]
    try:
        check_kinds(kinds)
    except FieldError as error:
        raise ParameterInvalid("kind", error.message.en, error.message.zh) from None
    return EventFilter(tuple(kinds), resource, service.limit_to(caller), severity)


Wanted = Annotated[EventFilter, Depends(_wanted)]


@router.get(
    "",
    operation_id="streamEvents",
    response_class=StreamingResponse,
    responses={200: {"description": "The events.", "content": {"text/event-stream": {"schema": _STREAM}}}},
)
async def stream_events(
    request: Request,
    caller: Reader,
    runtime: RuntimeDep,
    wanted: Wanted,
    after: After = None,
    last_event_id: Annotated[int | None, Header(**_POSITION, description="Counts for more than `after`.")] = None,
) -> EventStream:
    """Tells events as they happen, until the caller leaves. Without an id to begin after: from now on."""
    start = after if last_event_id is None else last_event_id
    return EventStream(runtime, request, caller, await run_in_threadpool(service.find_start, runtime, start), wanted)


@router.get("/list", operation_id="listEvents")
def list_events(
    page: PageByNumber,
    conditions: Conditions,
    orderings: Orderings,
    runtime: RuntimeDep,
    wanted: Wanted,
    after: After = None,
) -> Envelope[EventListBody]:
    """Lists events, the newest first, or in their order after a given one; a tenant sees those of what it owns."""
    listing = service.list_events(runtime, after, wanted, ListQuery(page, conditions, orderings))
    return success(EventListBody(items=[EventBody.of(row) for row in listing.items], total_count=listing.total))
