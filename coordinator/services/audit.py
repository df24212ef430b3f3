"""The audit log, as operators and auditors read it."""

from coordinator.domain.caller import Caller
from coordinator.domain.listing import Listing, ListQuery
from coordinator.runtime import Runtime
from coordinator.store.queries import audit as queries
from coordinator.store.tables import AuditRecord


def note_command(runtime: Runtime, caller: Caller, operation: str, resource_id: str) -> None:
    """Notes what was done on the command line of the coordinator's own machine."""
    runtime.audit.record(
        AuditRecord(
            at=runtime.now(),
            request_id=runtime.identifiers.new_uuid(),
            caller_id=caller.token_id,
            role=caller.role.value,
            method="CLI",
            path="nodewright-coordinator",
            operation=operation,
            resources=resource_id,
            status=0,
            code="Success",
        )
    )
    runtime.audit.flush()


def list_records(runtime: Runtime, caller: Caller, query: ListQuery) -> Listing[AuditRecord]:
    """Calls, the newest first: all that this process answered before, and what others have stored."""
    runtime.audit.flush()
    with runtime.database.read() as session:
        return queries.list_records(session, query)
