"""Power operations: checked for all instances of a request first, then one task each."""

from collections.abc import Sequence

from sqlmodel import Session

from coordinator.domain.caller import Caller
from coordinator.errors import CoordinatorError
from coordinator.runtime import Runtime
from coordinator.services.instance import find_own_batch
from coordinator.services.instance_task import begin_task, refuse_together, require_unlocked
from coordinator.store.tables import Instance
from coordinator.tasks.kinds.hibernate_instance import HIBERNATE_INSTANCE
from coordinator.tasks.kinds.restart_instance import RESTART_INSTANCE
from coordinator.tasks.kinds.resume_instance import RESUME_INSTANCE
from coordinator.tasks.kinds.start_instance import START_INSTANCE
from coordinator.tasks.kinds.stop_instance import STOP_INSTANCE
from coordinator.tasks.kinds.suspend_instance import SUSPEND_INSTANCE
from coordinator.tasks.model import JsonObject, TaskKind


def start_instances(runtime: Runtime, caller: Caller, ecs_ids: Sequence[str]) -> list[str]:
    """Starts instances that are shut off or hibernated; answers the operation ids."""
    return _power(runtime, caller, START_INSTANCE, ecs_ids)


def stop_instances(runtime: Runtime, caller: Caller, ecs_ids: Sequence[str], *, force: bool) -> list[str]:
    """Shuts instances down; without `force` the guests are asked, and the operation fails when they do not obey."""
    return _power(runtime, caller, STOP_INSTANCE, ecs_ids, {"force": force})


def restart_instances(runtime: Runtime, caller: Caller, ecs_ids: Sequence[str], *, force: bool) -> list[str]:
    """Restarts running instances; `force` as for stopping."""
    return _power(runtime, caller, RESTART_INSTANCE, ecs_ids, {"force": force})


def suspend_instance(runtime: Runtime, caller: Caller, ecs_id: str) -> list[str]:
    """Pauses a running instance."""
    return _power(runtime, caller, SUSPEND_INSTANCE, [ecs_id])


def hibernate_instance(runtime: Runtime, caller: Caller, ecs_id: str) -> list[str]:
    """Puts a running instance, with its memory, on its node's disk; its next start lets it go on from there."""
    return _power(runtime, caller, HIBERNATE_INSTANCE, [ecs_id])


def resume_instance(runtime: Runtime, caller: Caller, ecs_id: str) -> list[str]:
    """Lets a paused instance run again."""
    return _power(runtime, caller, RESUME_INSTANCE, [ecs_id])


def _power(
    runtime: Runtime, caller: Caller, kind: TaskKind, ecs_ids: Sequence[str], args: JsonObject | None = None
) -> list[str]:
    with runtime.database.write() as session:
        instances = find_own_batch(session, caller, ecs_ids)
        _check_all(session, kind, instances, args or {})
        operations = [begin_task(session, runtime, caller, kind, instance, args=args) for instance in instances]
    runtime.wake_tasks()
    return operations


def _check_all(session: Session, kind: TaskKind, instances: Sequence[Instance], args: JsonObject) -> None:
    refuse_together([error for it in instances if (error := _find_refusal(session, kind, it, args))])


def _find_refusal(session: Session, kind: TaskKind, instance: Instance, args: JsonObject) -> CoordinatorError | None:
    try:
        require_unlocked(instance)
        kind.check(session, {"ecsId": instance.ecs_id, **args})
    except CoordinatorError as error:
        return error
    return None
