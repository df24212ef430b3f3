"""Questions about tasks."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, exists, not_, or_
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from coordinator.domain.task import TaskState
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


def list_steps(session: Session, task_id: str) -> list[TaskStep]:
    """The steps of a task in their order."""
    return list(session.exec(select(TaskStep).where(TaskStep.task_id == task_id).order_by(col(TaskStep.seq))))


def list_steps_of(session: Session, task_ids: Collection[str]) -> dict[str, list[TaskStep]]:
    """The steps of several tasks, in their order."""
    steps: dict[str, list[TaskStep]] = {task_id: [] for task_id in task_ids}
    query = select(TaskStep).where(col(TaskStep.task_id).in_(task_ids)).order_by(col(TaskStep.seq))
    for step in session.exec(query):
        steps[step.task_id].append(step)
    return steps


def is_over(moment: Any, now: datetime, longest: timedelta) -> ColumnElement[bool]:
    """Whether a moment is absent or past, or further away than any is set: then the clock was turned back since."""
    return or_(moment.is_(None), moment <= now, moment > now + longest)


def find_candidates(session: Session, now: datetime, kinds: Collection[str], limit: int) -> list[Candidate]:
    """Tasks with work to do that nobody holds, the oldest first.

    A task whose cancellation was asked for does not wait for its predecessor.
    """
    predecessor = aliased(Task)
    waits_for_predecessor = exists().where(
        col(predecessor.id) == Task.after_task_id, col(predecessor.state).in_(ACTIVE_STATES)
    )
    is_free = is_over(col(Task.lease_expires_at), now, LONGEST_WAIT)
    is_due = and_(
        is_over(col(Task.not_before), now, LONGEST_WAIT),
        or_(col(Task.cancel_requested), not_(waits_for_predecessor)),
    )
    query = (
        select(Task.id, Task.kind, Task.schema_version)
        .where(col(Task.state).in_(ACTIVE_STATES), col(Task.kind).in_(kinds), is_free, is_due)
        .order_by(col(Task.created_at), col(Task.id))
        .limit(limit)
    )
    return [Candidate(*row) for row in session.exec(query)]


def find_cancel_requests(session: Session, task_ids: Collection[str]) -> set[str]:
    """Those of the tasks whose cancellation was asked for."""
    query = select(Task.id).where(col(Task.id).in_(task_ids), col(Task.cancel_requested))
    return set(session.exec(query))


def find_active_of(session: Session, kind: str, resource_id: str) -> str | None:
    """The task of that kind that works on the resource."""
    query = select(Task.id).where(Task.kind == kind, Task.resource_id == resource_id)
    return session.exec(query.where(col(Task.state).in_(ACTIVE_STATES))).first()


def find_expired(session: Session, finished_before: datetime, limit: int) -> list[str]:
    """Tasks that ended before that moment."""
    query = select(Task.id).where(col(Task.finished_at) < finished_before).order_by(col(Task.finished_at)).limit(limit)
    return list(session.exec(query))
