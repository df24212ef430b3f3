"""Whether an instance is started elsewhere when its node is lost: switched on and off after its creation."""

from typing import Final

import structlog

from coordinator.domain.caller import Caller
from coordinator.domain.instance import InstanceStatus
from coordinator.runtime import Runtime
from coordinator.services.instance import find_own
from coordinator.services.instance_task import begin_task, require_unlocked
from coordinator.store.tables import Instance
from coordinator.tasks.instance_step import require_status
from coordinator.tasks.kinds.enable_high_availability import ENABLE_HIGH_AVAILABILITY
from coordinator.tasks.kinds.redefine_instance import REDEFINE_INSTANCE
from coordinator.tasks.model import TaskKind

_RUNS: Final = (InstanceStatus.RUNNING, InstanceStatus.PAUSED)
_RESTS: Final = (InstanceStatus.STOPPED, InstanceStatus.HIBERNATED)

log = structlog.get_logger(__name__)


def set_high_availability(runtime: Runtime, caller: Caller, ecs_id: str, *, enabled: bool) -> str | None:
    """The instance is highly available, or is not; answers the operation that tells the node of one that runs.

    Switched on, it counts when the node has been told; switched off, at once. One that is off is told when it starts.
    Idempotent. Raises ResourceNotFound, InstanceLocked, StatusUnsupported.
    """
    with runtime.database.write() as session:
        instance = find_own(session, caller, ecs_id, for_update=True)
        require_unlocked(instance)
        require_status(instance, "change its high availability", *_RUNS, *_RESTS)
        if instance.ha_enabled == enabled:
            return None
        kind = _change(instance, enabled=enabled)
        session.add(instance)
        operation = begin_task(session, runtime, caller, kind, instance) if kind else None
    runtime.wake_tasks()
    log.info("instance.high_availability_changed", ecsId=ecs_id, enabled=enabled, by=caller.token_id)
    return operation


def _change(instance: Instance, *, enabled: bool) -> TaskKind | None:
    """What tells the node; None: its next start."""
    instance.generation += 1
    runs = instance.status in _RUNS
    if not (runs and enabled):
        instance.ha_enabled = enabled
    if not runs:
        return None
    return ENABLE_HIGH_AVAILABILITY if enabled else REDEFINE_INSTANCE
