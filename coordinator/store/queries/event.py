"""Events: written with the change that they tell of, put in order once, read in that order.

The ids that PostgreSQL gives out become visible out of order: a transaction may take a lower one and commit later, and
whoever has read past it would never see it. So an event has no place in the order when it is written. It gets one
(`position`) from `number_events` after its transaction has committed, and only what has a place is read: whatever is
numbered later comes later. What depends on another change (the same instance, a later call) was written after that one
had committed; so it has the higher id, is never visible without it, and follows it in the order.

Other ways were considered. A lock that writers hold until they commit lets one of them at a time commit, and all wait
for a coordinator that stands still meanwhile. Reading below the oldest transaction in progress (`pg_snapshot_xmin`)
orders by transaction numbers, which start anew when a database is restored from a dump.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, delete, exists, func, or_, text, update
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from coordinator.domain.event import EventFilter, Severity, split_kinds
from coordinator.domain.listing import Listing, ListQuery, Ordering
from coordinator.store.queries.filter import Field, fetch_rows_of, fields
from coordinator.store.tables.event import Event

# In `Session.info`: this session has written events.
_MARK: Final = "nodewright_events"
# Any number that nothing else in this database locks.
_NUMBERING_LOCK: Final = 0x6E6F6465
_NUMBERED_AT_ONCE: Final = 1000

_FIELDS: Final = fields(
    id=Field(Event.position, int),
    at=Event.at,
    kind=Event.kind,
    severity=Field(Event.severity, Severity),
    resourceType=Event.resource_type,
    resourceId=Event.resource_id,
    tenantId=Event.tenant_id,
    nodeId=Event.node_id,
    operationId=Event.operation_id,
)


def record_event(
    session: Session,
    kind: str,
    *,
    resource_type: str,
    resource_id: str,
    severity: Severity = Severity.INFO,
    tenant_id: str | None = None,
    node_id: str | None = None,
    operation_id: str | None = None,
    data: dict[str, Any] | None = None,
) -> None:
    """Tells of a change that this write transaction makes: it is told if the transaction commits, and only then."""
    event = Event(
        kind=kind,
        severity=severity.value,
        resource_type=resource_type,
        resource_id=resource_id,
        tenant_id=tenant_id,
        node_id=node_id,
        operation_id=operation_id,
        data=data or {},
    )
    session.add(event)
    session.info[_MARK] = True


def has_events(session: Session) -> bool:
    """Whether the session has written events."""
    return _MARK in session.info


def number_events(session: Session) -> None:
    """Gives those events a place in the order that have none: in the writing transaction itself on SQLite, where there
    is one at a time, and in one of its own on PostgreSQL.
    """
    if session.get_bind().dialect.name == "sqlite":
        session.connection().execute(_NUMBER_ALL)
        return
    # A statement of its own: the next one sees what was numbered by whoever had the lock before.
    session.execute(select(func.pg_advisory_xact_lock(_NUMBERING_LOCK)))
    session.execute(_NUMBER, {"limit": _NUMBERED_AT_ONCE})


# Made once: making it takes longer than executing it.
_NUMBER_ALL: Final = update(Event).where(col(Event.position).is_(None)).values(position=Event.id)
_NUMBER: Final = text("""
    UPDATE event SET position = placed.position
    FROM (
        SELECT id, (SELECT coalesce(max(position), 0) FROM event) + row_number() OVER (ORDER BY id) AS position
        FROM event WHERE position IS NULL ORDER BY id LIMIT :limit
    ) AS placed
    WHERE event.id = placed.id
""")


def has_unnumbered(session: Session) -> bool:
    """Whether events wait for their place."""
    return bool(session.execute(select(exists().where(col(Event.position).is_(None)))).scalar())


def read_last_position(session: Session) -> int:
    """The place of the newest event; 0 before the first one."""
    return session.exec(select(func.max(Event.position))).one() or 0


def read_events(session: Session, after: int, wanted: EventFilter, limit: int) -> Sequence[Event]:
    """The next events after that place."""
    statement = select(Event).where(col(Event.position) > after, *_conditions(wanted))
    return session.exec(statement.order_by(col(Event.position)).limit(limit)).all()


def list_events(session: Session, after: int | None, wanted: EventFilter, query: ListQuery) -> Listing[Event]:
    """Events, the newest first; those after a place in their order."""
    begun = col(Event.position).is_not(None) if after is None else col(Event.position) > after
    statement: SelectOfScalar[Event] = select(Event).where(begun, *_conditions(wanted))
    order = (Ordering("id", descending=after is None),)
    return fetch_rows_of(session, statement, query, _FIELDS, tie_break=col(Event.position), default=order)


def delete_events(session: Session, before: datetime, limit: int) -> int:
    """Deletes a batch of events from before that moment, never the newest one: the order goes on from it."""
    newest = select(func.max(Event.position)).scalar_subquery()
    expired = select(Event.id).where(col(Event.at) < before, col(Event.position) < newest).limit(limit)
    found = session.execute(delete(Event).where(col(Event.id).in_(expired)))
    return int(found.rowcount)  # type: ignore[attr-defined]


def _conditions(wanted: EventFilter) -> list[ColumnElement[bool]]:
    conditions: list[Any] = []
    if wanted.tenant_id is not None:
        conditions.append(col(Event.tenant_id) == wanted.tenant_id)
    if wanted.resource_id:
        conditions.append(col(Event.resource_id) == wanted.resource_id)
    if wanted.least is not Severity.INFO:
        conditions.append(col(Event.severity).in_([severity.value for severity in wanted.least.and_above]))
    parted = split_kinds(wanted.kinds)
    if parted:
        exact, beginnings = parted
        begun = [col(Event.kind).startswith(beginning, autoescape=True) for beginning in beginnings]
        conditions.append(or_(col(Event.kind).in_(exact), *begun))
    return conditions
