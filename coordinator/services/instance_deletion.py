"""Deletion of instances: admitted in any status, after whatever runs on them now was cancelled.

While the recycle bin is on they go there first; `services.recycle` has the rest of their way.
"""

from collections.abc import Sequence
from typing import Final

from sqlmodel import Session

from coordinator.domain.caller import Caller
from coordinator.domain.instance import InstanceStatus
from coordinator.errors import InstanceLocked
from coordinator.runtime import Runtime
from coordinator.services.instance import find_own_batch
from coordinator.services.instance_task import begin_task
from coordinator.store.queries.instance import lock_tasks_of
from coordinator.store.queries.recycle import find_recycled
from coordinator.store.queries.recycle_setting import read_recycle_config
from coordinator.store.queries.task import ACTIVE_STATES
from coordinator.store.tables import Instance, Task
from coordinator.tasks.kinds.clone_instance import CLONE_INSTANCE
from coordinator.tasks.kinds.create_instance import CREATE_INSTANCE
from coordinator.tasks.kinds.delete_instance import DELETE_INSTANCE, forget_belongings
from coordinator.tasks.kinds.recycle_instance import RECYCLE_INSTANCE
from coordinator.tasks.model import TaskKind
from coordinator.tasks.submission import request_cancel

_DELETIONS: Final = (DELETE_INSTANCE.name, RECYCLE_INSTANCE.name)
_CREATIONS: Final = (CREATE_INSTANCE.name, CLONE_INSTANCE.name)


def delete_instances(runtime: Runtime, caller: Caller, ecs_ids: Sequence[str]) -> list[str]:
    """Deletes all of them, or none when one does not exist or is locked; answers the operation ids.

    Asking again while a deletion runs answers that deletion's operation. What is in the recycle bin stays there.
    """
    with runtime.database.write() as session:
        # Tasks are locked before instances, as the engine does it.
        lock_tasks_of(session, ecs_ids)
        instances = find_own_batch(session, caller, ecs_ids, recycled=True)
        _require_all_unlocked(instances)
        operations = [
            operation
            for instance in instances
            if (operation := _delete_instance(session, runtime, caller, instance)) is not None
        ]
    runtime.wake_tasks()
    return operations


def _require_all_unlocked(instances: Sequence[Instance]) -> None:
    locked = ", ".join(instance.ecs_id for instance in instances if instance.is_locked)
    if locked:
        raise InstanceLocked(f"locked: {locked}; unlock first", f"实例{locked}已锁定，请先解锁")


def _delete_instance(session: Session, runtime: Runtime, caller: Caller, instance: Instance) -> str | None:
    """The operation that deletes the instance; None when nothing has to be done for it but to mark the row."""
    running = session.get(Task, instance.task_id) if instance.task_id else None
    if running is not None and running.kind in _DELETIONS and running.state in ACTIVE_STATES:
        return running.id
    if find_recycled(session, instance.id) is not None:
        return None
    if instance.node_id is None and running is None:
        # It was never placed, or its creation undid everything: no node knows it.
        instance.deleted_at = runtime.now()
        forget_belongings(session, instance)
        session.add(instance)
        return None
    # One that is parked for the operator does not end by itself: the deletion removes what it left behind.
    predecessor = running.id if running and request_cancel(session, running.id) else None
    if _is_whole(instance, running) and read_recycle_config(session).enabled:
        return _begin(session, runtime, caller, RECYCLE_INSTANCE, instance, predecessor)
    return _begin(session, runtime, caller, DELETE_INSTANCE, instance, predecessor)


def _is_whole(instance: Instance, running: Task | None) -> bool:
    """Whether it is worth being kept: what was never finished, or is half gone, may not be there at all."""
    if running is None:
        # Left behind by a deletion that failed.
        return instance.status != InstanceStatus.TERMINATING
    # The operation that makes a clone is its source's as well.
    return running.kind not in _CREATIONS or running.args["ecsId"] != instance.ecs_id


def purge(session: Session, runtime: Runtime, caller: Caller, instance: Instance) -> str:
    """Deletes for good an instance that is in the recycle bin, once; answers the operation id."""
    running = session.get(Task, instance.task_id) if instance.task_id else None
    if running is not None and running.kind == DELETE_INSTANCE.name:
        return running.id
    # What is done with its snapshots comes to its end before.
    return _begin(session, runtime, caller, DELETE_INSTANCE, instance, running.id if running else None)


def _begin(
    session: Session, runtime: Runtime, caller: Caller, kind: TaskKind, instance: Instance, predecessor: str | None
) -> str:
    args = {"statusBefore": instance.status} if kind is RECYCLE_INSTANCE else {}
    operation = begin_task(session, runtime, caller, kind, instance, args=args, after_task_id=predecessor)
    instance.status = InstanceStatus.TERMINATING
    session.add(instance)
    return operation
