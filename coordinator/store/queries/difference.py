"""Where what is allocated, what instances say and what nodes report do not agree."""

from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import and_, exists, false, literal, or_
from sqlalchemy import select as select_columns
from sqlmodel import Session, col

from coordinator.domain.difference import Difference, DifferenceKind
from coordinator.domain.growth import OUTGROWN
from coordinator.domain.instance import InstanceStatus
from coordinator.domain.migration import ACTIVE_MIGRATION_STATES
from coordinator.domain.task import ATTEMPTS_OF_AN_HOUR
from coordinator.domain.unit import MIB
from coordinator.store.tables import Allocation, DeviceAllocation, Instance, Migration, Node, ReportedDomain, Task

# Differences of one kind that are read at most: who has more has one cause for all of them.
LIMIT: Final = 1000

_is_living = col(Instance.deleted_at).is_(None)
# A task moves things one after the other: in its midst they need not agree.
_is_at_rest = and_(_is_living, col(Instance.task_id).is_(None))
_is_on_its_way = or_(
    col(Migration.state).in_(ACTIVE_MIGRATION_STATES),
    exists().where(col(Task.id) == col(Migration.cleaning_id), col(Task.finished_at).is_(None)),
)
_outgrown: Final[Any] = col(Instance.options)[OUTGROWN]
_NOBODY: Final = literal("")
# GPUs are its own while they change their mode.
_MODE_KIND: Final = "set_gpu_mode"
_CLEANING_KIND: Final = "clean_node"


def find_differences(session: Session) -> list[Difference]:
    """All of them, by kind; of each kind at most LIMIT."""
    return [difference for kind, statement in _STATEMENTS.items() for difference in _read(session, kind, statement)]


def _read(session: Session, kind: DifferenceKind, statement: Any) -> Iterator[Difference]:
    for row in session.execute(statement.distinct().limit(LIMIT)):
        yield Difference(kind, *row)


def _held_at(node_id: Any, uuid: Any) -> Any:
    return exists().where(col(Allocation.consumer_uuid) == uuid, col(Allocation.node_id) == node_id)


def _reported_at(node_id: Any, uuid: Any) -> Any:
    return exists().where(col(ReportedDomain.uuid) == uuid, col(ReportedDomain.node_id) == node_id)


_held = (col(Allocation.node_id), col(Node.name), col(Allocation.consumer_uuid))
_device_consumer = col(DeviceAllocation.consumer_uuid)
_held_device = (col(DeviceAllocation.node_id), col(Node.name), _device_consumer, col(DeviceAllocation.device_id))
_resident = (col(Node.id), col(Node.name), col(Instance.uuid), col(Instance.ecs_id))
_STATEMENTS: Final[dict[DifferenceKind, Any]] = {
    DifferenceKind.ALLOCATION_WITHOUT_INSTANCE: select_columns(*_held, _NOBODY)
    .join(Node, col(Node.id) == col(Allocation.node_id))
    .where(
        col(Allocation.external) == false(),
        ~exists().where(col(Instance.uuid) == col(Allocation.consumer_uuid), _is_living),
        # What is held on the target of a move until the instance is there, or the target is clean again.
        ~exists().where(col(Migration.id) == col(Allocation.consumer_uuid), _is_on_its_way),
        # What is held on its own node by an instance that is being changed.
        ~exists().where(
            col(Task.args)["reserveUuid"].as_string() == col(Allocation.consumer_uuid), col(Task.finished_at).is_(None)
        ),
    ),
    DifferenceKind.ALLOCATION_ELSEWHERE: select_columns(*_held, col(Instance.ecs_id))
    .join(Node, col(Node.id) == col(Allocation.node_id))
    .join(Instance, and_(col(Instance.uuid) == col(Allocation.consumer_uuid), _is_at_rest))
    .where(or_(col(Instance.node_id).is_(None), col(Instance.node_id) != col(Allocation.node_id))),
    DifferenceKind.INSTANCE_WITHOUT_ALLOCATION: select_columns(*_resident)
    .join(Node, col(Node.id) == col(Instance.node_id))
    .where(_is_at_rest, ~_held_at(col(Node.id), col(Instance.uuid))),
    DifferenceKind.DOMAIN_WITHOUT_ALLOCATION: select_columns(
        col(ReportedDomain.node_id), col(Node.name), col(ReportedDomain.uuid), col(ReportedDomain.name)
    )
    .join(Node, col(Node.id) == col(ReportedDomain.node_id))
    .where(
        col(ReportedDomain.foreign) == false(),
        ~_held_at(col(ReportedDomain.node_id), col(ReportedDomain.uuid)),
        ~exists().where(col(Instance.uuid) == col(ReportedDomain.uuid), _is_living, col(Instance.task_id).is_not(None)),
    ),
    DifferenceKind.INSTANCE_WITHOUT_DOMAIN: select_columns(*_resident)
    .join(Node, and_(col(Node.id) == col(Instance.node_id), col(Node.ready)))
    .where(
        _is_at_rest,
        col(Instance.status) != InstanceStatus.ERROR_UNSCHEDULABLE,
        ~_reported_at(col(Node.id), col(Instance.uuid)),
    ),
    DifferenceKind.DOMAIN_OF_OTHER_SIZE: select_columns(*_resident)
    .join(Node, and_(col(Node.id) == col(Instance.node_id), col(Node.ready)))
    .join(
        ReportedDomain,
        and_(col(ReportedDomain.uuid) == col(Instance.uuid), col(ReportedDomain.node_id) == col(Node.id)),
    )
    .where(
        _is_at_rest,
        col(ReportedDomain.vcpus) > 0,
        or_(
            col(ReportedDomain.vcpus) != col(Instance.vcpus),
            col(ReportedDomain.memory_bytes) != col(Instance.memory_bytes),
        ),
        # What the next start mends.
        or_(
            _outgrown["vcpus"].as_integer().is_distinct_from(col(ReportedDomain.vcpus)),
            _outgrown["memoryMib"].as_integer().is_distinct_from(col(ReportedDomain.memory_bytes) // MIB),
        ),
    ),
    DifferenceKind.DEVICE_WITHOUT_INSTANCE: select_columns(*_held_device)
    .join(Node, col(Node.id) == col(DeviceAllocation.node_id))
    .where(
        ~exists().where(col(Allocation.consumer_uuid) == _device_consumer, col(Allocation.external)),
        ~exists().where(col(Instance.uuid) == _device_consumer, _is_living),
        # What a move or the return of a lost node has there, and what nobody shall have while it changes.
        ~exists().where(col(Migration.id) == _device_consumer, _is_on_its_way),
        ~exists().where(col(Task.resource_id) == _device_consumer, col(Task.finished_at).is_(None)),
        ~exists().where(col(Task.args)["reserveUuid"].as_string() == _device_consumer, col(Task.finished_at).is_(None)),
        ~exists().where(
            col(Task.resource_id) == col(DeviceAllocation.node_id),
            col(Task.kind) == _MODE_KIND,
            col(Task.finished_at).is_(None),
        ),
    ),
    DifferenceKind.DEVICE_ELSEWHERE: select_columns(*_held_device)
    .join(Node, col(Node.id) == col(DeviceAllocation.node_id))
    .join(Instance, and_(col(Instance.uuid) == _device_consumer, _is_at_rest))
    .where(or_(col(Instance.node_id).is_(None), col(Instance.node_id) != col(DeviceAllocation.node_id))),
    DifferenceKind.NODE_NOT_CLEAN: select_columns(
        col(Node.id), col(Node.name), col(Task.args)["uuid"].as_string(), col(Task.args)["ecs_id"].as_string()
    )
    .join(Task, col(Task.args)["node_id"].as_string() == col(Node.id))
    .where(
        col(Task.kind) == _CLEANING_KIND,
        col(Task.finished_at).is_(None),
        col(Task.attempts) >= ATTEMPTS_OF_AN_HOUR,
    ),
}
