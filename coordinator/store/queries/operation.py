"""Tasks as the API shows them."""

from datetime import datetime

from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from coordinator.domain.listing import Listing, ListQuery, Ordering
from coordinator.domain.task import TaskState
from coordinator.store.queries.filter import Field, fetch_rows_of, fields
from coordinator.store.tables import Task

_FIELDS = fields(
    operationId=Task.id,
    kind=Task.kind,
    state=Field(Task.state, TaskState),
    resourceId=Task.resource_id,
    progress=Field(Task.progress_percent, int),
    createdAt=Field(Task.created_at, datetime),
    updatedAt=Field(Task.updated_at, datetime),
    finishedAt=Field(Task.finished_at, datetime),
)


def find_task(session: Session, task_id: str, tenant_id: str | None) -> Task | None:
    """The task, if it is that tenant's (None: anybody's)."""
    return session.exec(_tasks(tenant_id).where(Task.id == task_id)).first()


def list_tasks(session: Session, tenant_id: str | None, query: ListQuery) -> Listing[Task]:
    """The tenant's tasks, the newest first."""
    newest_first = (Ordering("createdAt", descending=True),)
    return fetch_rows_of(session, _tasks(tenant_id), query, _FIELDS, tie_break=col(Task.id), default=newest_first)


def _tasks(tenant_id: str | None) -> SelectOfScalar[Task]:
    statement = select(Task)
    return statement if tenant_id is None else statement.where(Task.tenant_id == tenant_id)
