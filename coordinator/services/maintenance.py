"""Maintenance of nodes: they take no new instances, and what runs there moves away.

Every move has its place on another node before the first one begins: what cannot move is told at once, and nothing
happens unless the operator wants the others moved all the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

import structlog
from sqlmodel import Session

from coordinator.domain.caller import Caller
from coordinator.domain.instance import InstanceStatus
from coordinator.domain.message import Message
from coordinator.domain.migration import MigrationOptions, MigrationType, MigrationWish
from coordinator.errors import CoordinatorError, NodeNotEvictable, StatusUnsupported
from coordinator.runtime import Runtime
from coordinator.services.host import HostReference, find_hosts
from coordinator.services.migration import begin_migration
from coordinator.store.queries import node as node_query
from coordinator.store.queries.placement import advance_generations
from coordinator.store.queries.task import find_active_of
from coordinator.store.tables import Instance, Node
from coordinator.tasks.kinds.drain_node import DRAIN_NODE, describe_moves
from coordinator.tasks.submission import request_cancel, submit_task

# These stay: they have nothing that an interruption of the node could hurt.
_AT_REST = frozenset({InstanceStatus.STOPPED, InstanceStatus.SOFT_DELETED, InstanceStatus.ERROR_UNSCHEDULABLE})
_NEVER: Final = "None"
_NO_REASON: Final = Message("", "")
_HELD: Final = Message(
    "its evictionStrategy is None: stop it, or move it yourself", "evictionStrategy为None，请自行处理"
)

log = structlog.get_logger(__name__)


class Fate(StrEnum):
    """What becomes of an instance when its node goes into maintenance."""

    MOVES = "moves"
    STAYS = "stays"
    BLOCKS = "blocks"


@dataclass(frozen=True, slots=True)
class Eviction:
    """One instance of the node, and what becomes of it."""

    ecs_id: str
    display_name: str
    status: InstanceStatus
    fate: Fate
    target_node: str = ""
    operation_id: str = ""
    migration_id: str = ""
    # Why it does not move.
    reason: Message = _NO_REASON


@dataclass(frozen=True, slots=True)
class Maintenance:
    """The plan for a node, and the operation that watches over it; none when nothing has to move."""

    node_name: str
    evictions: tuple[Eviction, ...]
    operation_id: str = ""


@dataclass(frozen=True, slots=True)
class MaintenanceOrder:
    """What an operator wants."""

    node: HostReference
    # Moves who can although others cannot.
    forces: bool = False
    # Tells the plan, and changes nothing.
    is_dry_run: bool = False
    options: MigrationOptions = field(default_factory=MigrationOptions)


def begin_maintenance(runtime: Runtime, caller: Caller, order: MaintenanceOrder) -> Maintenance:
    """Closes the node and moves away what runs there. Asked again it moves what has not left.

    NodeNotEvictable names the instances that cannot leave, with reasons; then nothing has changed.
    """
    with runtime.database.write() as session:
        (node,) = find_hosts(session, runtime.settings, [order.node])
        _refuse_second(session, node)
        _close(session, node, is_closed=True)
        evictions = tuple(
            _evict(session, runtime, caller, instance, order.options)
            for instance in node_query.list_resident_instances(session, node.id)
        )
        blocking = [it for it in evictions if it.fate is Fate.BLOCKS]
        if order.is_dry_run:
            session.rollback()
            return Maintenance(node.name, tuple(replace(it, operation_id="") for it in evictions))
        if blocking and not order.forces:
            raise _refusal(node, blocking)
        operation_id = _submit(session, runtime, caller, node, evictions)
    runtime.wake_tasks()
    log.info("node.maintenance_begun", nodeId=node.id, name=node.name, operationId=operation_id, by=caller.token_id)
    return Maintenance(node.name, evictions, operation_id)


def end_maintenance(runtime: Runtime, caller: Caller, reference: HostReference) -> Maintenance:
    """Opens the node again; moves that are still under way are cancelled. Idempotent."""
    with runtime.database.write() as session:
        (node,) = find_hosts(session, runtime.settings, [reference])
        _close(session, node, is_closed=False)
        operation_id = find_active_of(session, DRAIN_NODE.name, node.id)
        if operation_id is not None:
            request_cancel(session, operation_id)
    runtime.wake_tasks()
    log.info("node.maintenance_ended", nodeId=node.id, name=node.name, by=caller.token_id)
    return Maintenance(node.name, (), operation_id or "")


def _refuse_second(session: Session, node: Node) -> None:
    operation_id = find_active_of(session, DRAIN_NODE.name, node.id)
    if operation_id is not None:
        raise StatusUnsupported(
            f"node {node.name}: operation {operation_id} moves its instances already",
            f"节点{node.name}：操作{operation_id}正在迁移其实例",
        )


def _close(session: Session, node: Node, *, is_closed: bool) -> None:
    advance_generations(session, [node.id])
    session.refresh(node, with_for_update=True)
    node.in_maintenance = is_closed
    session.add(node)
    session.flush()


def _evict(
    session: Session, runtime: Runtime, caller: Caller, instance: Instance, options: MigrationOptions
) -> Eviction:
    """Begins the instance's move where it has to and can."""
    present = Eviction(instance.ecs_id, instance.display_name, instance.status, Fate.STAYS)
    if instance.status in _AT_REST and instance.task_id is None:
        return replace(present, reason=Message("it does not run", "实例未运行"))
    # What hibernates survives a reboot of its node, but cannot be woken meanwhile: it moves if it can.
    hibernates = instance.status == InstanceStatus.HIBERNATED
    hindered = Fate.STAYS if hibernates else Fate.BLOCKS
    if instance.options.get("evictionStrategy") == _NEVER:
        return replace(present, fate=hindered, reason=_HELD)
    kind = MigrationType.COLD if hibernates else MigrationType.LIVE
    try:
        with session.begin_nested():
            migration = begin_migration(session, runtime, caller, kind, MigrationWish(instance.ecs_id), options)
    except CoordinatorError as error:
        return replace(present, fate=hindered, reason=error.message)
    return replace(
        present,
        fate=Fate.MOVES,
        target_node=session.get_one(Node, migration.target_node_id).name,
        operation_id=migration.operation_id,
        migration_id=migration.id,
    )


def _submit(session: Session, runtime: Runtime, caller: Caller, node: Node, evictions: Sequence[Eviction]) -> str:
    moves = [it.migration_id for it in evictions if it.migration_id]
    if not moves:
        return ""
    task = submit_task(
        session,
        runtime,
        DRAIN_NODE,
        args=describe_moves(moves),
        tenant_id=None,
        resource_id=node.id,
        request_id=caller.request_id,
    )
    return task.id


def _refusal(node: Node, blocking: Sequence[Eviction]) -> NodeNotEvictable:
    return NodeNotEvictable(
        f"node {node.name}: {len(blocking)} instances cannot leave it: "
        + "; ".join(f"{it.ecs_id}: {it.reason.en}" for it in blocking),
        f"节点{node.name}：{len(blocking)}台实例无法迁出："
        + "；".join(f"{it.ecs_id}：{it.reason.zh}" for it in blocking),
    )
