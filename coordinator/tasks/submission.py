"""How tasks begin and how their cancellation is asked for: within the caller's transaction."""

from collections.abc import Sequence

from sqlmodel import Session

from coordinator.domain.clock import utc_now
from coordinator.domain.identifier import Identifiers, Prefix
from coordinator.domain.task import StepPhase, StepState, TaskState
from coordinator.runtime import Runtime
from coordinator.store.queries.task import ACTIVE_STATES, list_steps
from coordinator.store.tables.task import Task, TaskStep
from coordinator.tasks.model import JsonObject, TaskKind
from coordinator.tasks.plan import is_past_return


def submit_task(
    session: Session,
    runtime: Runtime,
    kind: TaskKind,
    *,
    args: JsonObject,
    tenant_id: str | None,
    resource_id: str,
    request_id: str,
    after_task_id: str | None = None,
) -> Task:
    """A new task in `session`; it runs once the caller has committed and called `runtime.wake_tasks()`.

    Raises the CoordinatorError of `kind.check` when the operation makes no sense.
    """
    kind.check(session, args)
    now = runtime.now()
    task = Task(
        id=runtime.identifiers.new(Prefix.OPERATION),
        kind=kind.name,
        schema_version=kind.schema_version,
        args=args,
        tenant_id=tenant_id,
        resource_id=resource_id,
        request_id=request_id,
        after_task_id=after_task_id,
        created_at=now,
        updated_at=now,
    )
    return _store(session, kind, task)


def submit_follow_up(
    session: Session, kind: TaskKind, *, args: JsonObject, resource_id: str, after_task_id: str | None = None
) -> Task:
    """A task that another one leaves behind when it ends, in the same transaction; only operators see it."""
    kind.check(session, args)
    now = utc_now()
    task = Task(
        id=Identifiers().new(Prefix.OPERATION),
        kind=kind.name,
        schema_version=kind.schema_version,
        args=args,
        resource_id=resource_id,
        after_task_id=after_task_id,
        created_at=now,
        updated_at=now,
    )
    return _store(session, kind, task)


def _store(session: Session, kind: TaskKind, task: Task) -> Task:
    session.add(task)
    session.flush()
    session.add_all(TaskStep(task_id=task.id, seq=seq, name=step.name) for seq, step in enumerate(kind.steps))
    return task


def request_cancel(session: Session, task_id: str) -> bool:
    """Asks for a task's cancellation; False when it does not exist or has ended.

    A task that is parked for the operator tries its undo again. The caller commits and calls `runtime.wake_tasks()`.
    """
    task = session.get(Task, task_id, with_for_update=True)
    if task is None or task.state not in (*ACTIVE_STATES, TaskState.NEEDS_OPERATOR):
        return False
    if task.state == TaskState.NEEDS_OPERATOR:
        for step in list_steps(session, task_id):
            if step.phase == StepPhase.UNDO and step.state == StepState.FAILED:
                step.state = StepState.PENDING
                session.add(step)
        task.state = TaskState.CANCELING
    task.cancel_requested = True
    # A back-off ends here; those of undoing are waited for.
    task.not_before = None
    session.add(task)
    return True


def is_cancelable(kind: TaskKind, task: Task, steps: Sequence[TaskStep]) -> bool:
    """Whether asking for cancellation would still change how the task ends."""
    if task.state == TaskState.NEEDS_OPERATOR:
        return True
    return task.state in ACTIVE_STATES and not task.cancel_requested and not is_past_return(kind, steps)
