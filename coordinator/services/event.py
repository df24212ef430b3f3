"""What happened, as callers read and follow it."""

from typing import Any

from coordinator.domain.caller import Caller
from coordinator.domain.event import EventFilter
from coordinator.domain.listing import Listing, ListQuery
from coordinator.errors import ParameterInvalid
from coordinator.event_feed import settle_events
from coordinator.runtime import Runtime
from coordinator.store.queries import event as queries
from coordinator.store.tables import Event


def limit_to(caller: Caller) -> str | None:
    """The tenant whose events the caller may see; None: everybody's."""
    return caller.tenant_id if caller.is_tenant else None


def list_events(runtime: Runtime, after: int | None, wanted: EventFilter, query: ListQuery) -> Listing[Event]:
    """Events, all that was committed before the call: the newest first, or in their order after a given one."""
    settle_events(runtime.database)
    with runtime.database.read() as session:
        return queries.list_events(session, after, wanted, query)


def find_start(runtime: Runtime, after: int | None) -> int:
    """Where a listener begins: after the event that it names, else with what happens from now on.

    ParameterInvalid for one that has not been yet, as after the return to an older database.
    """
    settle_events(runtime.database)
    with runtime.database.read() as session:
        newest = queries.read_last_position(session)
    if after is not None and after > newest:
        raise ParameterInvalid("after", f"the newest event is {newest}", f"最新事件为{newest}")
    return newest if after is None else after


def describe(event: Event) -> dict[str, Any]:
    """The event as it leaves the coordinator: in streams, in lists and to webhooks alike."""
    return {
        "id": event.position,
        "at": event.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "kind": event.kind,
        "severity": event.severity,
        "resourceType": event.resource_type,
        "resourceId": event.resource_id,
        "tenantId": event.tenant_id,
        "nodeId": event.node_id,
        "operationId": event.operation_id,
        "data": event.data,
    }
