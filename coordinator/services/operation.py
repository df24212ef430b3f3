"""Operations: the durable tasks behind long work, as callers follow them."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel import Session

from coordinator.domain.caller import Caller
from coordinator.domain.listing import Listing, ListQuery
from coordinator.errors import ResourceNotFound, StatusUnsupported
from coordinator.runtime import Runtime
from coordinator.services.instance_task import require_unlocked
from coordinator.store.queries import operation as queries
from coordinator.store.queries.instance import find_instance
from coordinator.store.queries.task import list_steps, list_steps_of
from coordinator.store.tables import Task, TaskStep
from coordinator.tasks.kinds import KINDS
from coordinator.tasks.submission import is_cancelable, request_cancel


@dataclass(frozen=True, slots=True)
class Operation:
    """A task, its steps in order, and whether asking it to stop still has an effect."""

    task: Task
    steps: Sequence[TaskStep]
    cancelable: bool


def list_operations(runtime: Runtime, caller: Caller, query: ListQuery) -> Listing[Operation]:
    """The caller's operations with their steps, the newest first."""
    with runtime.database.read() as session:
        page = queries.list_tasks(session, _scope(caller), query)
        steps = list_steps_of(session, [task.id for task in page.items])
    return Listing(tuple(_view(task, steps[task.id]) for task in page.items), page.total)


def get_operation(runtime: Runtime, caller: Caller, operation_id: str) -> Operation:
    """One operation with its steps."""
    with runtime.database.read() as session:
        return _find(session, caller, operation_id)


def cancel_operation(runtime: Runtime, caller: Caller, operation_id: str) -> Operation:
    """Asks the operation to stop and to be undone; idempotent while it runs.

    StatusUnsupported when it is too late, InstanceLocked when it works on an instance that is locked.
    """
    with runtime.database.write() as session:
        known = _find(session, caller, operation_id)
        # Not locked: tasks are locked before instances, as the engine does it.
        instance = find_instance(session, known.task.resource_id)
        if instance is not None:
            require_unlocked(instance)
        if not known.cancelable and not known.task.cancel_requested:
            raise _too_late(known.task)
        if known.cancelable and not request_cancel(session, operation_id):
            raise _too_late(known.task)
        session.flush()
        operation = _find(session, caller, operation_id)
    runtime.wake_tasks()
    return operation


def _find(session: Session, caller: Caller, operation_id: str) -> Operation:
    task = queries.find_task(session, operation_id, _scope(caller))
    if task is None:
        raise ResourceNotFound("operation", operation_id)
    return _view(task, list_steps(session, task.id))


def _view(task: Task, steps: Sequence[TaskStep]) -> Operation:
    # A kind that this version does not know was left behind by another one: nobody here can stop it.
    kind = KINDS.get(task.kind)
    return Operation(task, steps, cancelable=kind is not None and is_cancelable(kind, task, steps))


def _too_late(task: Task) -> StatusUnsupported:
    return StatusUnsupported(
        f"operation {task.id} is {task.state}: it cannot be cancelled any more",
        f"操作{task.id}状态为{task.state}，不能取消",
    )


def _scope(caller: Caller) -> str | None:
    return caller.tenant_id if caller.is_tenant else None
