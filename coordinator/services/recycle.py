"""Instances in the recycle bin: looked at, restored, and deleted for good by hand. `services.purge` does it in time."""

from typing import Final

import structlog
from sqlmodel import Session

from coordinator.domain.caller import Caller
from coordinator.domain.event import Severity
from coordinator.domain.instance import InstanceStatus, PowerState, status_of
from coordinator.errors import ParameterInvalid, ResourceNotFound, StatusUnsupported
from coordinator.runtime import Runtime
from coordinator.services.instance import find_own_batch
from coordinator.services.instance_deletion import purge
from coordinator.services.instance_view import InstanceView, load_views
from coordinator.store.queries.event import record_event
from coordinator.store.queries.instance import lock_tasks_of
from coordinator.store.queries.recycle import find_recycled
from coordinator.store.tables import Instance, RecycledInstance
from coordinator.tasks.instance_step import rest

# What this service is called where products are told apart.
SERVICE_CODE: Final = "ECS"
_NOUN: Final = "instance in the recycle bin"

log = structlog.get_logger(__name__)


def get_recycled(runtime: Runtime, caller: Caller, ecs_id: str) -> InstanceView:
    """One instance of the bin; ResourceNotFound when it is not there."""
    with runtime.database.read() as session:
        [instance] = _find_all(session, caller, ecs_id)
        if find_recycled(session, instance.id) is None:
            raise ResourceNotFound(_NOUN, ecs_id)
        return load_views(session, runtime, [instance.id or 0])[0]


def restore_instance(runtime: Runtime, caller: Caller, ecs_id: str) -> None:
    """The instance is as it was before it was deleted, shut off; its node need not be there.

    ResourceNotFound when it is not in the bin, StatusUnsupported once it is being deleted for good.
    """
    with runtime.database.write() as session:
        instance, recycled = _lock(session, caller, ecs_id)
        _require_restorable(instance, recycled)
        session.delete(recycled)
        # Off, or hibernated still.
        instance.status = status_of(PowerState(instance.power_state))
        rest(session, instance, instance.status, "")
        _tell_restored(session, instance, recycled.status_before)
    log.info("instance.restored", ecsId=ecs_id, by=caller.token_id)


def purge_instance(runtime: Runtime, caller: Caller, ecs_id: str) -> str:
    """Deletes an instance of the bin for good, before its time is over; answers the operation. Idempotent."""
    with runtime.database.write() as session:
        instance, _ = _lock(session, caller, ecs_id)
        operation = purge(session, runtime, caller, instance)
    runtime.wake_tasks()
    return operation


def purge_expired(runtime: Runtime, caller: Caller, ecs_id: str, service_code: str) -> str:
    """As `purge_instance`, for an instance whose time is over; StatusUnsupported for others."""
    if service_code.upper() != SERVICE_CODE:
        raise ParameterInvalid("serviceCode", f"only {SERVICE_CODE}", f"仅支持{SERVICE_CODE}")
    with runtime.database.write() as session:
        instance, recycled = _lock(session, caller, ecs_id)
        if recycled.purge_at > runtime.now():
            until = recycled.purge_at.isoformat(timespec="seconds")
            raise StatusUnsupported(
                f"instance {ecs_id} stays in the recycle bin until {until}", f"实例{ecs_id}在回收站中保留至{until}"
            )
        operation = purge(session, runtime, caller, instance)
    runtime.wake_tasks()
    return operation


def _require_restorable(instance: Instance, recycled: RecycledInstance) -> None:
    ecs_id = instance.ecs_id
    if recycled.purging or instance.status != InstanceStatus.SOFT_DELETED:
        raise StatusUnsupported(
            f"instance {ecs_id} is being deleted for good: there is no way back",
            f"实例{ecs_id}正在被彻底删除，无法还原",
        )
    if instance.task_id:
        raise StatusUnsupported(
            f"instance {ecs_id}: cannot be restored while operation {instance.task_id} runs",
            f"实例{ecs_id}：操作{instance.task_id}正在执行，无法还原",
        )


def _lock(session: Session, caller: Caller, ecs_id: str) -> tuple[Instance, RecycledInstance]:
    # Tasks are locked before instances, as the engine does it.
    lock_tasks_of(session, [ecs_id])
    [instance] = _find_all(session, caller, ecs_id)
    recycled = find_recycled(session, instance.id, for_update=True)
    if recycled is None:
        raise ResourceNotFound(_NOUN, ecs_id)
    return instance, recycled


def _find_all(session: Session, caller: Caller, ecs_id: str) -> list[Instance]:
    return find_own_batch(session, caller, [ecs_id], recycled=True)


def _tell_restored(session: Session, instance: Instance, status_before: str) -> None:
    record_event(
        session,
        "instance.restored",
        severity=Severity.INFO,
        resource_type="instance",
        resource_id=instance.ecs_id,
        tenant_id=instance.tenant_id,
        node_id=instance.node_id,
        data={"status": instance.status, "before": status_before},
    )
