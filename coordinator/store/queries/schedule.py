"""Scheduled tasks and their runs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import delete, func
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from coordinator.domain.listing import Listing, ListQuery, Ordering
from coordinator.domain.schedule import RunState, RunTrigger, ScheduleAction
from coordinator.domain.task import TaskState
from coordinator.store.queries.filter import Field, Statement, fetch_page, fetch_rows_of, fields
from coordinator.store.tables import Department, ResourceGroup, Schedule, ScheduleRun, Task, Tenant


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """A scheduled task, and the names of those it belongs to."""

    row: Schedule
    tenant_name: str
    department_name: str | None
    resource_group_name: str | None


_FIELDS: Final = fields(
    schedulerId=Schedule.id,
    schedulerName=Schedule.name,
    schedulerType=Field(Schedule.action, ScheduleAction),
    enabled=Field(Schedule.enabled, bool),
    tenantId=Schedule.tenant_id,
    tenantName=Tenant.name,
    departmentId=Schedule.department_id,
    resourceGroupId=Schedule.resource_group_id,
    timeZone=Schedule.time_zone,
    nextRunAt=Field(Schedule.next_at, datetime),
    createdAt=Field(Schedule.created_at, datetime),
    updatedAt=Field(Schedule.updated_at, datetime),
)
_RUN_FIELDS: Final = fields(
    runId=ScheduleRun.id,
    dueAt=Field(ScheduleRun.due_at, datetime),
    at=Field(ScheduleRun.at, datetime),
    trigger=Field(ScheduleRun.trigger, RunTrigger),
    state=Field(ScheduleRun.state, RunState),
)


def find_schedule(session: Session, schedule_id: str) -> ScheduleRow | None:
    """The scheduled task with what it belongs to."""
    row = session.execute(_schedules().where(col(Schedule.id) == schedule_id)).one_or_none()
    return ScheduleRow(*row) if row else None


def list_schedules(session: Session, tenant_id: str | None, query: ListQuery) -> Listing[ScheduleRow]:
    """Those of one tenant, the newest first unless the query orders otherwise; tenant None: of all."""
    statement = _schedules()
    if tenant_id is not None:
        statement = statement.where(col(Schedule.tenant_id) == tenant_id)
    newest_first = (Ordering("createdAt", descending=True),)
    page = fetch_page(session, statement, query, _FIELDS, tie_break=col(Schedule.id), default=newest_first)
    return Listing(tuple(ScheduleRow(*row) for row in page.items), page.total)


def lock_schedule(session: Session, schedule_id: str) -> Schedule | None:
    """The scheduled task, kept from others until the transaction ends."""
    return session.exec(select(Schedule).where(Schedule.id == schedule_id).with_for_update()).first()


def count_schedules(session: Session, tenant_id: str) -> int:
    """How many the tenant has."""
    return session.exec(select(func.count()).where(Schedule.tenant_id == tenant_id)).one()


def find_due(session: Session, now: datetime) -> Sequence[str]:
    """Ids of those that are due, who waits longest first."""
    statement = select(Schedule.id).where(col(Schedule.enabled), col(Schedule.next_at) <= now)
    return session.exec(statement.order_by(col(Schedule.next_at), col(Schedule.id))).all()


def delete_schedule(session: Session, schedule_id: str) -> None:
    """Deletes a scheduled task with its runs."""
    session.execute(delete(ScheduleRun).where(col(ScheduleRun.schedule_id) == schedule_id))
    session.execute(delete(Schedule).where(col(Schedule.id) == schedule_id))


def has_run(session: Session, schedule_id: str, due_at: datetime, trigger: RunTrigger) -> bool:
    """Whether what was due then has been run, or was noted as missed."""
    statement = select(ScheduleRun.id).where(
        ScheduleRun.schedule_id == schedule_id, ScheduleRun.due_at == due_at, ScheduleRun.trigger == trigger
    )
    return session.exec(statement).first() is not None


def list_runs(session: Session, schedule_id: str, query: ListQuery) -> Listing[ScheduleRun]:
    """Runs of a scheduled task, the newest first."""
    statement = select(ScheduleRun).where(ScheduleRun.schedule_id == schedule_id)
    newest_first = (Ordering("runId", descending=True),)
    return fetch_rows_of(session, statement, query, _RUN_FIELDS, tie_break=col(ScheduleRun.id), default=newest_first)


def forget_runs(session: Session, schedule_id: str, kept: int) -> None:
    """Deletes the oldest runs of a scheduled task until `kept` are left."""
    of_schedule = col(ScheduleRun.schedule_id) == schedule_id
    newest_first = select(ScheduleRun.id).where(of_schedule).order_by(col(ScheduleRun.id).desc())
    last = session.exec(newest_first.offset(kept - 1).limit(1)).first()
    if last is not None:
        session.execute(delete(ScheduleRun).where(of_schedule, col(ScheduleRun.id) < last))


def read_task_states(session: Session, task_ids: Collection[str]) -> Mapping[str, TaskState]:
    """The states of those of the operations that are still known."""
    rows = session.execute(select_columns(Task.id, Task.state).where(col(Task.id).in_(task_ids)))  # type: ignore[call-overload]
    return {task_id: TaskState(state) for task_id, state in rows}


def _schedules() -> Statement:
    columns = (Schedule, Tenant.name, Department.name, ResourceGroup.name)
    statement: Any = (
        select_columns(*columns)  # type: ignore[call-overload]
        .join(Tenant, col(Tenant.id) == col(Schedule.tenant_id))
        .outerjoin(Department, col(Department.id) == col(Schedule.department_id))
        .outerjoin(ResourceGroup, col(ResourceGroup.id) == col(Schedule.resource_group_id))
    )
    return statement  # type: ignore[no-any-return]
