"""Questions about tasks."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Integer, and_, bindparam, exists, not_, or_
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from coordinator.domain.task import TaskState
from coordinator.store.column import UtcDateTime
from coordinator.store.tables.task import Task, TaskStep

# States in which the engine has work to do.
ACTIVE_STATES = (TaskState.PENDING, TaskState.RUNNING, TaskState.CANCELING)
# Neither a lease nor a back-off lasts longer, also where the clocks of two coordinators differ a little.
LONGEST_WAIT: Final = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A task that may be leased."""

    id: str
    kind: str
    schema_version: int


# Statements are made once, here and below: making one takes longer than executing it.
_STEPS: Final = select(TaskStep).where(col(TaskStep.task_id) == bindparam("task_id")).order_by(col(TaskStep.seq))


def list_steps(session: Session, task_id: str) -> list[TaskStep]:
    """The steps of a task in their order."""
    return list(session.exec(_STEPS, params={"task_id": task_id}))


def list_steps_of(session: Session, task_ids: Collection[str]) -> dict[str, list[TaskStep]]:
    """The steps of several tasks, in their order."""
    steps: dict[str, list[TaskStep]] = {task_id: [] for task_id in task_ids}
    query = select(TaskStep).where(col(TaskStep.task_id).in_(task_ids)).order_by(col(TaskStep.seq))
    for step in session.exec(query):
        steps[step.task_id].append(step)
    return steps


def is_over(moment: Any, now: datetime, longest: timedelta) -> ColumnElement[bool]:
    """Whether a moment is absent or past, or further away than any is set: then the clock was turned back since."""
    return _is_beyond(moment, now, now + longest)


def _is_over(moment: Any) -> ColumnElement[bool]:
    """The same in a statement that is made once."""
    return _is_beyond(moment, bindparam("now", type_=UtcDateTime), bindparam("furthest", type_=UtcDateTime))


def _is_beyond(moment: Any, now: Any, furthest: Any) -> ColumnElement[bool]:
    return or_(moment.is_(None), moment <= now, moment > furthest)


def _make_candidates() -> Any:
    predecessor = aliased(Task)
    waits_for_predecessor = exists().where(
        col(predecessor.id) == Task.after_task_id, col(predecessor.state).in_(ACTIVE_STATES)
    )
    is_due = and_(_is_over(col(Task.not_before)), or_(col(Task.cancel_requested), not_(waits_for_predecessor)))
    has_work = (col(Task.state).in_(ACTIVE_STATES), col(Task.kind).in_(bindparam("kinds", expanding=True)))
    return (
        select(Task.id, Task.kind, Task.schema_version)
        .where(*has_work, _is_over(col(Task.lease_expires_at)), is_due)
        .order_by(col(Task.created_at), col(Task.id))
        .limit(bindparam("limit", type_=Integer))
    )


_CANDIDATES: Final = _make_candidates()
_CANCEL_REQUESTS: Final = select(Task.id).where(
    col(Task.id).in_(bindparam("ids", expanding=True)), col(Task.cancel_requested)
)


def find_candidates(session: Session, now: datetime, kinds: Collection[str], limit: int) -> list[Candidate]:
    """Tasks with work to do that nobody holds, the oldest first.

    A task whose cancellation was asked for does not wait for its predecessor.
    """
    parameters = {"now": now, "furthest": now + LONGEST_WAIT, "kinds": list(kinds), "limit": limit}
    return [Candidate(*row) for row in session.execute(_CANDIDATES, parameters)]


def find_cancel_requests(session: Session, task_ids: Collection[str]) -> set[str]:
    """Those of the tasks whose cancellation was asked for."""
    return set(session.exec(_CANCEL_REQUESTS, params={"ids": list(task_ids)}))


_FREE: Final = (
    select(Task)
    .where(
        col(Task.id) == bindparam("task_id"), col(Task.state).in_(ACTIVE_STATES), _is_over(col(Task.lease_expires_at))
    )
    .with_for_update(skip_locked=True)
)
_OWN: Final = (
    select(Task)
    .where(
        col(Task.id) == bindparam("task_id"),
        col(Task.fencing) == bindparam("fencing"),
        col(Task.lease_owner) == bindparam("owner"),
    )
    .with_for_update()
)


def lock_free_task(session: Session, task_id: str, now: datetime) -> Task | None:
    """The task, if it has work to do and nobody holds it."""
    parameters = {"task_id": task_id, "now": now, "furthest": now + LONGEST_WAIT}
    return session.exec(_FREE, params=parameters).first()


def lock_own_task(session: Session, task_id: str, fencing: int, owner: str) -> Task | None:
    """The task, if this owner still holds the lease with that number."""
    return session.exec(_OWN, params={"task_id": task_id, "fencing": fencing, "owner": owner}).first()


def find_active_of(session: Session, kind: str, resource_id: str) -> str | None:
    """The task of that kind that works on the resource."""
    query = select(Task.id).where(Task.kind == kind, Task.resource_id == resource_id)
    return session.exec(query.where(col(Task.state).in_(ACTIVE_STATES))).first()


def list_active_of(session: Session, kind: str, resource_id: str) -> Sequence[Task]:
    """All of them, of kinds of which several work on a resource at once."""
    query = select(Task).where(Task.kind == kind, Task.resource_id == resource_id)
    return session.exec(query.where(col(Task.state).in_(ACTIVE_STATES))).all()


def find_expired(session: Session, finished_before: datetime, limit: int) -> list[str]:
    """Tasks that ended before that moment."""
    query = select(Task.id).where(col(Task.finished_at) < finished_before).order_by(col(Task.finished_at)).limit(limit)
    return list(session.exec(query))
