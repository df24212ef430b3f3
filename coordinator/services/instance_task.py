"""Tasks that change one instance: submitted for a caller, and marked on the instance."""

from collections.abc import Sequence
from typing import Any, Final

from sqlmodel import Session

from coordinator.domain.caller import Caller
from coordinator.errors import CoordinatorError, InstanceLocked, StatusUnsupported
from coordinator.runtime import Runtime
from coordinator.store.tables import Instance
from coordinator.tasks.model import TaskKind
from coordinator.tasks.submission import submit_task

# So many of the refused instances are named in a message.
_NAMED: Final = 10


def begin_task(
    session: Session,
    runtime: Runtime,
    caller: Caller,
    kind: TaskKind,
    instance: Instance,
    *,
    args: dict[str, Any] | None = None,
    after_task_id: str | None = None,
) -> str:
    """Submits a task of `kind` for the instance, which shows it from now on; answers the operation id."""
    task = submit_task(
        session,
        runtime,
        kind,
        args={"ecsId": instance.ecs_id, **(args or {})},
        tenant_id=instance.tenant_id,
        resource_id=instance.ecs_id,
        request_id=caller.request_id,
        after_task_id=after_task_id,
    )
    instance.task_id = task.id
    instance.task_at = runtime.now()
    session.add(instance)
    return task.id


def require_unlocked(instance: Instance) -> None:
    """A locked instance refuses every change."""
    if instance.is_locked:
        raise InstanceLocked(
            f"instance {instance.ecs_id} is locked: unlock it first", f"实例{instance.ecs_id}已锁定，请先解锁"
        )


def changed_meanwhile(instance: Instance) -> StatusUnsupported:
    """What was looked at before the instance was locked is not so any more."""
    return StatusUnsupported(
        f"instance {instance.ecs_id} has just been changed: try again", f"实例{instance.ecs_id}刚被修改，请重试"
    )


def refuse_together(refusals: Sequence[CoordinatorError]) -> None:
    """Raises what is wrong with the first instance that is refused, and names the others in the message."""
    if len(refusals) > 1:
        more = len(refusals) - _NAMED
        raise type(refusals[0])(
            "; ".join(error.message.en for error in refusals[:_NAMED]) + (f"; and {more} more" if more > 0 else ""),
            "；".join(error.message.zh for error in refusals[:_NAMED]) + (f"；另有{more}个" if more > 0 else ""),
        )
    if refusals:
        raise refusals[0]
