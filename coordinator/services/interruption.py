"""A node that was rebooted, lost its power, or ended guests itself: what ran there is to run again.

A node tells by the kernel's boot id that it was down; the first registration with another one decides what was
interrupted, in the transaction that forgets what was known before. What was off for any other reason stays off: its
user, or the guest itself, wanted it so. `services.restart` starts the instances again.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog
from sqlmodel import Session

from coordinator.agents.power_state import power_state_of
from coordinator.domain.event import Severity
from coordinator.domain.instance import InstanceStatus, PowerState
from coordinator.runtime import Runtime
from coordinator.services.domain_report import VMTOOLS_NOT_RUNNING, VMTOOLS_RUNNING
from coordinator.store.queries.event import record_event
from coordinator.store.queries.interruption import find_stops_in_silence, lock_moving
from coordinator.store.queries.node import lock_resident_instances
from coordinator.store.tables import Instance, Interruption, Node
from protos.agent.v1 import domain_pb2

# What the guest did before the node went down. One that was shutting down wanted to be off.
_RAN: Final = (PowerState.RUNNING, PowerState.PAUSED)
# Somebody wants these to be off, or gone.
_UNWANTED: Final = (
    InstanceStatus.STOPPING,
    InstanceStatus.TERMINATING,
    InstanceStatus.SOFT_DELETED,
    InstanceStatus.HIBERNATING,
    InstanceStatus.HIBERNATED,
)
# libvirt's reasons for a guest that is off which tell of no end that somebody wanted: it has not run since libvirt was
# started, could not be started, or was lost.
_UNWANTED_ENDS: Final = ("", "unknown", "failed", "daemon")
_BOOT_ID_MAXIMUM: Final = 36

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class NodeEnds:
    """What a node says about guests that do not run."""

    boot_id: str
    domains: Iterable[domain_pb2.Domain]
    # UUIDs of guests that the node's agent saw end, and not start since.
    ended: frozenset[str]
    # When the node was last heard of before.
    heard_at: datetime | None


@dataclass(frozen=True, slots=True)
class Reboot:
    """What a reboot of a node has ended."""

    interrupted: Sequence[Instance]
    # On their way to or from the node, and ended perhaps: once their move has ended it is known where, and whether.
    moving: Sequence[Instance]


def note_boot(session: Session, node: Node, ends: NodeEnds) -> Reboot | None:
    """Takes over the node's boot id; answers what its reboot has ended, None when there was none.

    Call it before what the node says about its domains is taken over.
    """
    before, after = node.boot_id, ends.boot_id[:_BOOT_ID_MAXIMUM]
    if not after or after == before:
        return None
    node.boot_id = after
    session.add(node)
    if not before:
        return None
    moving = [instance for instance in lock_moving(session, node.id) if instance.power_state in _RAN]
    known = {instance.uuid for instance in moving}
    interrupted = _find_interrupted(session, node, ends)
    return Reboot([instance for instance in interrupted if instance.uuid not in known], moving)


def _find_interrupted(session: Session, node: Node, ends: NodeEnds) -> list[Instance]:
    off = {
        domain.uuid
        for domain in ends.domains
        if power_state_of(domain) is PowerState.SHUTOFF and domain.power_state_reason in _UNWANTED_ENDS
    } - ends.ended
    candidates = [
        instance
        for uuid, instance in lock_resident_instances(session, node.id).items()
        if uuid in off and instance.power_state in _RAN and instance.status not in _UNWANTED
    ]
    if not candidates or ends.heard_at is None:
        return candidates
    stopped = find_stops_in_silence(session, [instance.ecs_id for instance in candidates], ends.heard_at)
    return [instance for instance in candidates if instance.ecs_id not in stopped]


def record_interruptions(session: Session, runtime: Runtime, node: Node, reboot: Reboot, now: datetime) -> None:
    """What was ended is to be started again, if this cloud does so; instances and events tell that they were ended."""
    wanted = runtime.settings.start_after_reboot
    if wanted:
        for instance in [*reboot.interrupted, *reboot.moving]:
            session.merge(Interruption(instance_id=instance.id or 0, at=now))
    for instance in reboot.interrupted:
        what_follows = "it is started again in its turn" if wanted else "start_after_reboot is off, so it stays off"
        reason = f"node {node.name} was rebooted, or lost its power, while the guest ran: {what_follows}"
        if instance.task_id is None:
            instance.error_message = reason
        _tell(session, instance, reason, start_again=wanted)
    count = len(reboot.interrupted)
    record_event(
        session,
        "node.rebooted",
        severity=Severity.WARNING,
        resource_type="node",
        resource_id=node.id,
        node_id=node.id,
        data={"name": node.name, "interrupted": count, "startAgain": wanted},
    )
    log.warning("node.rebooted", nodeId=node.id, name=node.name, interrupted=count, startAgain=wanted)


def record_fenced(session: Session, node: Node, uuids: Collection[str], now: datetime) -> None:
    """What the node has ended itself, for want of the coordinator, is to be started there again; told once."""
    residents = lock_resident_instances(session, node.id) if uuids else {}
    for uuid, instance in sorted(residents.items()):
        is_off = instance.power_state in (PowerState.SHUTOFF, PowerState.CRASHED)
        if uuid not in uuids or not is_off or instance.status in _UNWANTED:
            continue
        # One that is being started elsewhere waits for what becomes of that; one that was booting here boots again.
        known = session.get(Interruption, instance.id)
        if known is None or known.booting_since is not None:
            session.merge(Interruption(instance_id=instance.id or 0, at=now))
            reason = f"node {node.name} ended the guest, for it had not heard of the coordinator"
            _tell(session, instance, reason, start_again=True)


def _tell(session: Session, instance: Instance, reason: str, *, start_again: bool) -> None:
    # Else it would count as answering before it has booted.
    if instance.vmtools_status == VMTOOLS_RUNNING:
        instance.vmtools_status = VMTOOLS_NOT_RUNNING
    session.add(instance)
    record_event(
        session,
        "instance.interrupted",
        severity=Severity.WARNING,
        resource_type="instance",
        resource_id=instance.ecs_id,
        tenant_id=instance.tenant_id,
        node_id=instance.node_id,
        data={"reason": reason, "startAgain": start_again},
    )
