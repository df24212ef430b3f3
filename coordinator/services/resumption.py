"""Guests that ended with their node, or that it ended itself, start again where they are: nobody wanted them off.

For a guest that is meanwhile being started elsewhere a task works on its instance, which keeps it out of this.
"""

from collections.abc import Collection
from typing import Final

import structlog
from google.protobuf.timestamp_pb2 import Timestamp
from sqlmodel import Session, col, select

from coordinator.domain.caller import Caller, Role
from coordinator.domain.instance import InstanceStatus, PowerState
from coordinator.runtime import Runtime
from coordinator.services.instance_task import begin_task
from coordinator.store.queries.event import record_event
from coordinator.store.queries.node import lock_resident_instances
from coordinator.store.tables import Instance, Node
from coordinator.tasks.kinds.start_instance import START_INSTANCE
from protos.agent.v1 import host_pb2

_SELF: Final = Caller("node-return", Role.OPERATOR)
_ALIVE_STATES: Final = (PowerState.RUNNING, PowerState.PAUSED, PowerState.SHUTTING_DOWN)
# A clock that is corrected moves the time of the start a little.
_CORRECTION_SECONDS: Final = 10

log = structlog.get_logger(__name__)


def find_interrupted(session: Session, node: Node, facts: host_pb2.HostFacts) -> set[str]:
    """UUIDs of what ran when the node, which tells these facts now, was started anew; asked before it is described."""
    if not _is_started_anew(node, facts):
        return set()
    ran = col(Instance.power_state).in_(_ALIVE_STATES)
    return set(session.exec(select(Instance.uuid).where(Instance.node_id == node.id, ran)))


def resume_instances(session: Session, runtime: Runtime, node: Node, uuids: Collection[str]) -> None:
    """Starts those of them that are off now and that nobody works on; the caller wakes the tasks."""
    residents = lock_resident_instances(session, node.id) if uuids else {}
    for uuid, instance in sorted(residents.items()):
        if uuid not in uuids or instance.task_id is not None or instance.status != InstanceStatus.STOPPED:
            continue
        operation_id = begin_task(session, runtime, _SELF, START_INSTANCE, instance)
        log.info("instance.resuming", ecsId=instance.ecs_id, node=node.name, operationId=operation_id)
        record_event(
            session,
            "ha.instance_resuming",
            resource_type="instance",
            resource_id=instance.ecs_id,
            tenant_id=instance.tenant_id,
            node_id=node.id,
            operation_id=operation_id,
            data={"reason": instance.error_message},
        )


def _is_started_anew(node: Node, facts: host_pb2.HostFacts) -> bool:
    before = node.facts.get("booted_at")
    if not before or not facts.HasField("booted_at"):
        return False
    known = Timestamp()
    known.FromJsonString(before)
    return facts.booted_at.seconds - known.seconds > _CORRECTION_SECONDS
