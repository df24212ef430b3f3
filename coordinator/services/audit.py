"""The audit log, as operators and auditors read it."""

from coordinator.domain.caller import Caller
from coordinator.domain.listing import Listing, ListQuery
from coordinator.runtime import Runtime
from coordinator.store.queries import audit as queries
from coordinator.store.tables import AuditRecord


def list_records(runtime: Runtime, caller: Caller, query: ListQuery) -> Listing[AuditRecord]:
    """Calls, the newest first: all that this process answered before, and what others have stored."""
    runtime.audit.flush()
    with runtime.database.read() as session:
        return queries.list_records(session, query)
