"""The audit log: written in batches, read by operators and auditors."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import delete
from sqlmodel import Session, col, select

from coordinator.domain.listing import Listing, ListQuery, Ordering
from coordinator.store.queries.filter import Field, fetch_rows_of, fields
from coordinator.store.tables import ApiToken, AuditRecord, Task

# Of a call that names thousands of things the first ones are kept.
_RESOURCES_MAXIMUM: Final = 4000

_FIELDS: Final = fields(
    auditId=Field(AuditRecord.id, int),
    at=AuditRecord.at,
    requestId=AuditRecord.request_id,
    callerId=AuditRecord.caller_id,
    callerName=AuditRecord.caller_name,
    role=AuditRecord.role,
    tenantId=AuditRecord.tenant_id,
    method=AuditRecord.method,
    path=AuditRecord.path,
    operation=AuditRecord.operation,
    resources=AuditRecord.resources,
    status=AuditRecord.status,
    code=AuditRecord.code,
    operationIds=AuditRecord.operation_ids,
    sourceAddress=AuditRecord.source_address,
    bodyDigest=AuditRecord.body_digest,
)


def store_records(session: Session, records: Sequence[AuditRecord]) -> None:
    """Stores calls, with the names of their tokens and what their operations work on."""
    callers = {record.caller_id for record in records if record.caller_id and not record.caller_name}
    names = dict(session.exec(select(ApiToken.id, ApiToken.name).where(col(ApiToken.id).in_(callers))).all())
    operations = {operation for record in records for operation in _split(record.operation_ids)}
    worked_on = dict(session.exec(select(Task.id, Task.resource_id).where(col(Task.id).in_(operations))).all())
    for record in records:
        record.caller_name = record.caller_name or names.get(record.caller_id, "")
        found = (worked_on.get(operation, "") for operation in _split(record.operation_ids))
        resources = dict.fromkeys(name for name in (*_split(record.resources), *found) if name)
        record.resources = ",".join(resources)[:_RESOURCES_MAXIMUM]
        session.add(record)


def list_records(session: Session, query: ListQuery) -> Listing[AuditRecord]:
    """Calls, the newest first."""
    newest_first = (Ordering("auditId", descending=True),)
    return fetch_rows_of(
        session, select(AuditRecord), query, _FIELDS, tie_break=col(AuditRecord.id), default=newest_first
    )


def delete_records(session: Session, before: datetime, limit: int) -> int:
    """Deletes a batch of calls from before that moment; answers how many."""
    expired = select(AuditRecord.id).where(col(AuditRecord.at) < before).limit(limit)
    found = session.execute(delete(AuditRecord).where(col(AuditRecord.id).in_(expired)))
    return int(found.rowcount)  # type: ignore[attr-defined]


def _split(text: str) -> list[str]:
    return text.split(",") if text else []
