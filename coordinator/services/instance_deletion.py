"""Deletion of instances: admitted in any status, after whatever runs on them now was cancelled."""

from collections.abc import Sequence

from sqlmodel import Session

from coordinator.domain.caller import Caller
from coordinator.domain.instance import InstanceStatus
from coordinator.errors import InstanceLocked
from coordinator.runtime import Runtime
from coordinator.services.instance import find_own_batch
from coordinator.services.instance_task import begin_task
from coordinator.store.queries.instance import lock_tasks_of
from coordinator.store.queries.iso import delete_isos
from coordinator.store.queries.ssh_key import delete_bindings
from coordinator.store.queries.task import ACTIVE_STATES
from coordinator.store.tables import Instance, Task
from coordinator.tasks.instance_step import forget_secrets
from coordinator.tasks.kinds.delete_instance import DELETE_INSTANCE
from coordinator.tasks.submission import request_cancel


def delete_instances(runtime: Runtime, caller: Caller, ecs_ids: Sequence[str]) -> list[str]:
    """Deletes all of them, or none when one does not exist or is locked; answers the operation ids.

    Asking again while a deletion runs answers that deletion's operation.
    """
    with runtime.database.write() as session:
        # Tasks are locked before instances, as the engine does it.
        lock_tasks_of(session, ecs_ids)
        instances = find_own_batch(session, caller, ecs_ids)
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
    if running is not None and running.kind == DELETE_INSTANCE.name and running.state in ACTIVE_STATES:
        return running.id
    if instance.node_id is None and running is None:
        # It was never placed, or its creation undid everything: no node knows it.
        instance.deleted_at = runtime.now()
        forget_secrets(instance)
        delete_bindings(session, instance.id)
        delete_isos(session, instance.id)
        session.add(instance)
        return None
    # One that is parked for the operator does not end by itself: the deletion removes what it left behind.
    predecessor = running.id if running and request_cancel(session, running.id) else None
    operation = begin_task(session, runtime, caller, DELETE_INSTANCE, instance, after_task_id=predecessor)
    instance.status = InstanceStatus.TERMINATING
    session.add(instance)
    return operation
