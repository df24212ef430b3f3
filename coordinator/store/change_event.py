"""Changes of state that are told whoever makes them: seen when a session writes its rows; no service can forget.

What is no column (a decision, an alarm) its service tells with `record_event`.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from sqlalchemy import inspect
from sqlmodel import Session

from coordinator.domain.event import Severity
from coordinator.domain.instance import ERROR_STATUSES
from coordinator.domain.task import FINISHED_STATES, TaskState
from coordinator.store.queries.device import GONE
from coordinator.store.queries.device_claim import find_holding_instances
from coordinator.store.queries.event import record_event
from coordinator.store.tables import Device, Image, Instance, Node, Task, Volume

Watch = Callable[[Session, Any], None]

_ENDS: Final = {TaskState.SUCCEEDED: "completed", TaskState.FAILED: "failed", TaskState.CANCELED: "canceled"}

# By the prefix of the id of what an operation works on.
_RESOURCE_TYPES: Final = {"ecs": "instance", "img": "image", "node": "node", "volume": "volume"}


def record_changes(session: Session, _context: object, _instances: object) -> None:
    """For SQLAlchemy's `before_flush`: events become rows of the same flush."""
    for row in [*session.new, *session.dirty]:
        watch = WATCHES.get(type(row))
        if watch:
            watch(session, row)


def _before(row: object, column: str) -> tuple[bool, Any]:
    """Whether the column changes, and what was there before; None in a new row."""
    history = inspect(row).attrs[column].history
    return bool(history.added), history.deleted[0] if history.deleted else None


def _watch_instance(session: Session, instance: Instance) -> None:
    facts: dict[str, Any] = {
        "resource_type": "instance",
        "resource_id": instance.ecs_id,
        "tenant_id": instance.tenant_id,
        "node_id": instance.node_id,
        "operation_id": instance.task_id,
    }
    is_deleted, before = _before(instance, "deleted_at")
    if is_deleted and instance.deleted_at and before is None and instance not in session.new:
        record_event(session, "instance.deleted", **facts)
        return
    changed, status_before = _before(instance, "status")
    if changed:
        severity = Severity.WARNING if instance.status in ERROR_STATUSES else Severity.INFO
        data = {"from": status_before, "to": instance.status, "reason": instance.error_message}
        kind = "instance.created" if instance in session.new else "instance.status_changed"
        record_event(session, kind, severity=severity, data=data, **facts)
    moved, node_before = _before(instance, "node_id")
    if moved and node_before and instance.node_id:
        record_event(session, "instance.moved", data={"from": node_before, "to": instance.node_id}, **facts)


def _watch_volume(session: Session, volume: Volume) -> None:
    _tell_status(session, volume, "volume", f"volume-{volume.uuid}", is_error=volume.status == "error")


def _watch_image(session: Session, image: Image) -> None:
    _tell_status(session, image, "image", image.id, is_error=image.status == "Error", reason=image.error_message)


def _tell_status(
    session: Session, row: Volume | Image, resource_type: str, resource_id: str, *, is_error: bool, reason: str = ""
) -> None:
    changed, before = _before(row, "status")
    if changed:
        record_event(
            session,
            f"{resource_type}.created" if row in session.new else f"{resource_type}.status_changed",
            severity=Severity.WARNING if is_error else Severity.INFO,
            resource_type=resource_type,
            resource_id=resource_id,
            tenant_id=row.tenant_id,
            data={"from": before, "to": row.status, "reason": reason},
        )


def _watch_node(session: Session, node: Node) -> None:
    facts: dict[str, Any] = {"resource_type": "node", "resource_id": node.id, "node_id": node.id}
    if node in session.new:
        record_event(session, "node.joined", data={"name": node.name, "zone": node.zone}, **facts)
        return
    changed, _ = _before(node, "ready")
    if changed:
        before, after = ("Away", "Ready") if node.ready else ("Ready", "Away")
        data = {"from": before, "to": after, "name": node.name}
        severity = Severity.INFO if node.ready else Severity.ALARM
        record_event(session, "node.state_changed", severity=severity, data=data, **facts)
    for column, told in (("schedulable", "schedulable"), ("in_maintenance", "maintenance")):
        changed, _ = _before(node, column)
        if changed:
            data = {told: getattr(node, column), "name": node.name}
            record_event(session, f"node.{told}_changed", data=data, **facts)


def _watch_device(session: Session, device: Device) -> None:
    """Whoever has a device is told when it fails or goes away, and when it is well again."""
    if device in session.new:
        return
    changed, report = _before(device, "report")
    before = (report or {}).get("fault", "") if changed else device.report.get("fault", "")
    changed, reason = _before(device, "withheld_reason")
    was_gone, is_gone = (reason if changed else device.withheld_reason) == GONE, device.withheld_reason == GONE
    fault = device.report.get("fault", "")
    if is_gone and not was_gone:
        _tell_device(session, device, "missing", GONE)
    elif fault and not is_gone and (fault != before or was_gone):
        _tell_device(session, device, "faulty", fault)
    elif not fault and not is_gone and (before or was_gone):
        _tell_device(session, device, "recovered", "")


def _tell_device(session: Session, device: Device, what: str, reason: str) -> None:
    severity = Severity.WARNING if reason else Severity.INFO
    data = {"deviceId": device.id, "kind": device.kind, "reason": reason}
    told: dict[str, Any] = {"severity": severity, "node_id": device.node_id, "data": data}
    record_event(session, f"node.device_{what}", resource_type="node", resource_id=device.node_id, **told)
    for ecs_id, tenant_id in find_holding_instances(session, device.node_id, device.id):
        resource: dict[str, Any] = {"resource_type": "instance", "resource_id": ecs_id, "tenant_id": tenant_id}
        record_event(session, f"instance.device_{what}", **resource, **told)


def _watch_task(session: Session, task: Task) -> None:
    changed, before = _before(task, "state")
    if not changed:
        return
    is_migration = task.kind.endswith("migrate_instance")
    if is_migration and before == TaskState.PENDING and task.state == TaskState.RUNNING:
        _tell_task(session, task, "migration.started", Severity.INFO)
    if task.state in FINISHED_STATES:
        severity = Severity.WARNING if task.state == TaskState.FAILED else Severity.INFO
        if is_migration:
            _tell_task(session, task, f"migration.{_ENDS[TaskState(task.state)]}", severity)
        _tell_task(session, task, "operation.ended", severity)
    elif task.state == TaskState.NEEDS_OPERATOR:
        _tell_task(session, task, "alarm.operation_needs_operator", Severity.ALARM)


def _tell_task(session: Session, task: Task, kind: str, severity: Severity) -> None:
    error = {"code": task.error_code, "message": task.error_message} if task.error_code else None
    record_event(
        session,
        kind,
        severity=severity,
        resource_type=_RESOURCE_TYPES.get(task.resource_id.partition("-")[0], "operation"),
        resource_id=task.resource_id or task.id,
        tenant_id=task.tenant_id,
        operation_id=task.id,
        data={"kind": task.kind, "state": task.state, "error": error},
    )


WATCHES: Final[Mapping[type, Watch]] = {
    Instance: _watch_instance,
    Volume: _watch_volume,
    Image: _watch_image,
    Node: _watch_node,
    Device: _watch_device,
    Task: _watch_task,
}
