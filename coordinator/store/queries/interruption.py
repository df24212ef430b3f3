"""Instances that are to be started again where they ran, and what became of them since."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import or_
from sqlmodel import Session, col, select

from coordinator.domain.task import TaskState
from coordinator.store.queries.task import ACTIVE_STATES
from coordinator.store.tables import Instance, Interruption, Node, Task

_POWER_KINDS: Final = (
    "start_instance",
    "stop_instance",
    "restart_instance",
    "suspend_instance",
    "resume_instance",
)


def find_waiting_nodes(session: Session) -> Sequence[str]:
    """Ids of nodes that could start now what was interrupted there."""
    query = (
        select(Node.id)
        .where(col(Node.id).in_(select(Interruption.node_id)), col(Node.ready), col(Node.in_maintenance).is_(False))
        .order_by(col(Node.id))
    )
    return session.exec(query).all()


def lock_interrupted(session: Session, node_id: str) -> list[tuple[Interruption, Instance]]:
    """What was interrupted on the node, the most important first; nobody else changes it until the transaction ends."""
    query = (
        select(Interruption, Instance)
        .join(Instance, col(Instance.id) == col(Interruption.instance_id))
        .where(Interruption.node_id == node_id)
        .order_by(col(Instance.id))
        .with_for_update()
    )
    found = [(interruption, instance) for interruption, instance in session.exec(query)]
    return sorted(found, key=lambda pair: -int(pair[1].options.get("haPriority", 0)))


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
    """Whether somebody has started or stopped the instance since, well or not."""
    query = select(Task.id).where(
        Task.resource_id == ecs_id,
        col(Task.kind).in_(_POWER_KINDS),
        col(Task.created_at) > interruption.at,
        col(Task.id).is_distinct_from(interruption.operation_id),
    )
    return session.exec(query.limit(1)).first() is not None
