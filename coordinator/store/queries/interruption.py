"""Instances that are to be started again where they ran, and what became of them since."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import delete, or_
from sqlmodel import Session, col, select

from coordinator.domain.instance import InstanceStatus
from coordinator.domain.migration import MigrationState, MigrationType
from coordinator.domain.task import TaskState
from coordinator.store.queries.task import ACTIVE_STATES
from coordinator.store.tables import Instance, Interruption, Migration, Node, Task

_POWER_KINDS: Final = (
    "start_instance",
    "stop_instance",
    "restart_instance",
    "suspend_instance",
    "resume_instance",
)


def has_interruptions(session: Session) -> bool:
    """Whether anything is to be started again."""
    return session.exec(select(Interruption.instance_id).limit(1)).first() is not None


def forget_unplaced(session: Session) -> None:
    """What was deleted meanwhile, or is on no node any more, is not started again."""
    unplaced = select(Instance.id).where(or_(col(Instance.deleted_at).is_not(None), col(Instance.node_id).is_(None)))
    session.execute(delete(Interruption).where(col(Interruption.instance_id).in_(unplaced)))


def find_waiting_nodes(session: Session) -> Sequence[str]:
    """Ids of nodes that could start now what is to be started there."""
    waiting = select(Instance.node_id).join(Interruption, col(Interruption.instance_id) == col(Instance.id))
    query = select(Node.id).where(col(Node.id).in_(waiting), col(Node.ready), col(Node.in_maintenance).is_(False))
    return session.exec(query.order_by(col(Node.id))).all()


def lock_interrupted(session: Session, node_id: str) -> list[tuple[Interruption, Instance]]:
    """What is to be started on the node, the most important first; nobody else changes it until the end."""
    query = (
        select(Interruption, Instance)
        .join(Instance, col(Instance.id) == col(Interruption.instance_id))
        .where(Instance.node_id == node_id)
        .order_by(col(Instance.id))
        .with_for_update()
    )
    found = [(interruption, instance) for interruption, instance in session.exec(query)]
    return sorted(found, key=lambda pair: -int(pair[1].options.get("haPriority", 0)))


def lock_moving(session: Session, node_id: str) -> Sequence[Instance]:
    """Instances that are on their way to or from the node while they run."""
    is_there = or_(col(Migration.source_node_id) == node_id, col(Migration.target_node_id) == node_id)
    moving = select(Migration.instance_id).where(
        is_there, Migration.type == MigrationType.LIVE, Migration.state == MigrationState.RUNNING
    )
    query = select(Instance).where(col(Instance.id).in_(moving), col(Instance.status) == InstanceStatus.MIGRATING)
    return session.exec(query.order_by(col(Instance.id)).with_for_update()).all()


def find_stops_in_silence(session: Session, ecs_ids: Collection[str], heard_at: datetime) -> set[str]:
    """Those of the instances that somebody wanted to stop, which did not succeed since the node was last heard of."""
    query = select(Task.resource_id).where(
        Task.kind == "stop_instance",
        col(Task.resource_id).in_(ecs_ids),
        or_(
            col(Task.state).in_(ACTIVE_STATES),
            (col(Task.state) == TaskState.FAILED) & (col(Task.finished_at) > heard_at),
        ),
    )
    return set(session.exec(query))


def is_settled_by_others(session: Session, interruption: Interruption, ecs_id: str) -> bool:
    """Whether somebody has started or stopped the instance since, well or not, or it was recovered elsewhere."""
    recovered = (col(Task.kind) == "recover_instance") & (col(Task.state) == TaskState.SUCCEEDED)
    query = select(Task.id).where(
        Task.resource_id == ecs_id,
        or_(col(Task.kind).in_(_POWER_KINDS), recovered),
        col(Task.created_at) > interruption.at,
        col(Task.id).is_distinct_from(interruption.operation_id),
    )
    return session.exec(query.limit(1)).first() is not None
