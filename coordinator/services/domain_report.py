"""What a node says about its domains, and what it means for instances.

While a task works on an instance its status is the task's, and what is in the recycle bin stays there; what the node
says about power and guest agent is taken over all the same.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from sqlmodel import Session

from coordinator.agents.power_state import power_state_of
from coordinator.domain.event import Severity
from coordinator.domain.instance import ERROR_STATUSES, InstanceStatus, PowerState, describe_loss, status_of
from coordinator.store.queries import node as queries
from coordinator.store.queries.event import record_event
from coordinator.store.queries.migration import find_passing_uuids
from coordinator.store.tables import Instance, Node, ReportedDomain
from protos.agent.v1 import domain_pb2
from protos.coordinator.v1 import node_pb2

VMTOOLS_RUNNING: Final = "VmtoolsRunning"
VMTOOLS_NOT_RUNNING: Final = "VmtoolsNotRunning"
# Also what is shown before the guest agent was ever seen: whether it is installed cannot be told from outside.
VMTOOLS_NOT_INSTALLED: Final = "VmtoolsNotInstalled"

CRASHED_MESSAGE: Final = "the guest crashed"
IO_ERROR_MESSAGE: Final = (
    "the node paused the guest, for a disk could not be written: it goes on once there is space again; "
    "where that is not it, resume it"
)
# libvirt's word for that reason of a pause.
_IO_ERROR: Final = "ioerror"

_OFF_STATES: Final = (PowerState.SHUTOFF, PowerState.CRASHED)
_ABSENT_STATES: Final = (PowerState.NONE, PowerState.ABSENT)


def reconcile_domains(session: Session, node: Node, domains: Iterable[domain_pb2.Domain], now: datetime) -> list[str]:
    """Takes over that the node has exactly these domains.

    Answers UUIDs of Nodewright's own ones that nobody placed there.
    """
    present = {domain.uuid: domain for domain in domains}
    instances = queries.lock_resident_instances(session, node.id)
    for uuid, instance in instances.items():
        if uuid in present:
            _take_over(session, instance, present[uuid], node, now)
        else:
            apply_absence(instance, node)
        session.add(instance)
    known = queries.find_reported_domains(session, node.id)
    queries.delete_reported_domains(session, node.id, known.keys() - present.keys())
    for domain in present.values():
        _record(session, node.id, known.get(domain.uuid), domain, now)
    expected = instances.keys() | queries.find_external_consumers(session, node.id)
    expected |= find_passing_uuids(session, node.id)
    return sorted(uuid for uuid, domain in present.items() if not domain.foreign and uuid not in expected)


def record_domain(session: Session, node: Node, domain: domain_pb2.Domain, now: datetime) -> None:
    """Takes over a change of one domain."""
    instance = None if domain.foreign else queries.lock_resident_instance(session, node.id, domain.uuid)
    is_absent = power_state_of(domain) is PowerState.ABSENT
    if instance is not None:
        if is_absent:
            apply_absence(instance, node)
        else:
            _take_over(session, instance, domain, node, now)
        session.add(instance)
    if is_absent:
        queries.delete_reported_domains(session, node.id, [domain.uuid])
    else:
        known = session.get(ReportedDomain, (node.id, domain.uuid))
        _record(session, node.id, known, domain, now)


def _take_over(session: Session, instance: Instance, domain: domain_pb2.Domain, node: Node, now: datetime) -> None:
    """Also tells once of a guest that stands still for want of space: nobody may be looking."""
    was_stalled = instance.error_message == IO_ERROR_MESSAGE
    apply_domain(instance, domain, node, now)
    if instance.error_message == IO_ERROR_MESSAGE and not was_stalled:
        record_event(
            session,
            "alarm.instance_stalled",
            severity=Severity.ALARM,
            resource_type="instance",
            resource_id=instance.ecs_id,
            tenant_id=instance.tenant_id,
            node_id=node.id,
            data={"reason": IO_ERROR_MESSAGE},
        )


def apply_domain(instance: Instance, domain: domain_pb2.Domain, node: Node, now: datetime) -> None:
    """The instance as its node describes it."""
    _apply_guest_agent(instance, domain)
    instance.machine = domain.machine or instance.machine
    before, after = instance.power_state, power_state_of(domain)
    if after is PowerState.NONE:
        # An agent newer than this coordinator: better the last known state than a guess.
        return
    instance.power_state = after
    if instance.task_id is not None or is_recycled(instance):
        return
    if instance.status == InstanceStatus.UNKNOWN or before in (PowerState.CRASHED, PowerState.ABSENT):
        instance.error_message = ""
    if after is PowerState.CRASHED:
        instance.error_message = CRASHED_MESSAGE
    if after is PowerState.PAUSED and domain.power_state_reason == _IO_ERROR:
        instance.error_message = IO_ERROR_MESSAGE
    elif instance.error_message == IO_ERROR_MESSAGE:
        instance.error_message = ""
    instance.status = status_of(after)


def apply_absence(instance: Instance, node: Node) -> None:
    """The node does not have the instance's domain."""
    before = instance.power_state
    instance.power_state = PowerState.ABSENT
    if instance.vmtools_status == VMTOOLS_RUNNING:
        instance.vmtools_status = VMTOOLS_NOT_RUNNING
    if (
        instance.task_id is not None
        or is_recycled(instance)
        or (before in _ABSENT_STATES and instance.status in ERROR_STATUSES)
    ):
        return
    instance.status = InstanceStatus.UNKNOWN
    instance.error_message = f"the domain is gone from node {node.name}: somebody removed it there"


def apply_loss(instance: Instance, node: Node) -> None:
    """Nothing is heard of the node: the guest may run or not."""
    if instance.task_id is None and not is_recycled(instance) and instance.status not in ERROR_STATUSES:
        instance.status = InstanceStatus.UNKNOWN
        instance.error_message = describe_loss(node.name)


def apply_self_fence(session: Session, node: Node, fenced: Iterable[node_pb2.FencedDomain]) -> list[str]:
    """The node has ended these guests itself; answers UUIDs of those that are its own still."""
    released = []
    for domain in fenced:
        instance = queries.lock_resident_instance(session, node.id, domain.uuid)
        if instance is None:
            continue
        released.append(domain.uuid)
        if instance.task_id is None and instance.power_state in _OFF_STATES:
            at = domain.fenced_at.ToDatetime(tzinfo=UTC).isoformat(timespec="seconds")
            silent_seconds = domain.silence.ToTimedelta().total_seconds()
            instance.error_message = (
                f"node {node.name} ended the guest at {at}: it had not heard of the coordinator for "
                f"{silent_seconds:.0f} s, so the guest might have been started elsewhere"
            )
            session.add(instance)
    return released


def is_recycled(instance: Instance) -> bool:
    """It is in the recycle bin, and stays there whatever its node says."""
    return instance.status == InstanceStatus.SOFT_DELETED


def _apply_guest_agent(instance: Instance, domain: domain_pb2.Domain) -> None:
    state = domain.guest_agent_state
    if state == domain_pb2.GUEST_AGENT_STATE_UNSPECIFIED:
        return
    if state == domain_pb2.GUEST_AGENT_STATE_RUNNING:
        instance.vmtools_status = VMTOOLS_RUNNING
        instance.vmtools_version = domain.guest_agent_version or instance.vmtools_version
        # A guest agent that has just come has not been probed yet.
        if domain.guest_agent_version:
            instance.monitor_version = domain.guest_monitor_version
    elif instance.vmtools_status == VMTOOLS_RUNNING:
        instance.vmtools_status = VMTOOLS_NOT_RUNNING
    if domain.HasField("guest_agent_probed_at"):
        instance.vmtools_probed_at = domain.guest_agent_probed_at.ToDatetime(tzinfo=UTC)


def _record(
    session: Session, node_id: str, known: ReportedDomain | None, domain: domain_pb2.Domain, now: datetime
) -> None:
    values: dict[str, Any] = {
        "name": domain.name,
        "foreign": domain.foreign,
        "power_state": power_state_of(domain),
        "vcpus": domain.vcpus,
        "memory_bytes": domain.memory_bytes,
        "reported_at": now,
    }
    if known is None:
        session.add(ReportedDomain(node_id=node_id, uuid=domain.uuid, **values))
        return
    known.sqlmodel_update(values)
    session.add(known)
