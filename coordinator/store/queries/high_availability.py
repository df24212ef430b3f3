"""Nodes that are lost, and what of it is to run elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlmodel import Session, col, select

from coordinator.domain.instance import InstanceStatus, PowerState
from coordinator.domain.migration import MigrationState, MigrationType
from coordinator.store.tables import Instance, Migration, Node

# What was off when its node was lost need not be anywhere.
_IS_STRANDED: Final = (
    col(Instance.deleted_at).is_(None),
    col(Instance.ha_enabled),
    col(Instance.task_id).is_(None),
    col(Instance.status) == InstanceStatus.UNKNOWN,
    col(Instance.power_state).in_((PowerState.RUNNING, PowerState.PAUSED, PowerState.SHUTTING_DOWN)),
)


@dataclass(frozen=True, slots=True)
class NodePulse:
    """When a node was last heard of."""

    node_id: str
    name: str
    ready: bool
    heard_at: datetime


def list_pulses(session: Session) -> list[NodePulse]:
    """All nodes that were ever heard of."""
    query = select(Node.id, Node.name, Node.ready, Node.heard_at).where(col(Node.heard_at).is_not(None))
    return [
        NodePulse(node_id, name, ready, heard_at) for node_id, name, ready, heard_at in session.exec(query) if heard_at
    ]


def list_stranded(session: Session, node_id: str) -> Sequence[Instance]:
    """Highly available instances that ran on a lost node, and that nobody works on: the most important first."""
    found = session.exec(select(Instance).where(Instance.node_id == node_id, *_IS_STRANDED)).all()
    return sorted(found, key=lambda instance: (-int(instance.options.get("haPriority", 0)), instance.id or 0))


def list_failed_recoveries(session: Session, node_id: str, since: datetime) -> dict[str, str]:
    """Why the last start elsewhere of an instance of this node has failed since then, by its id."""
    query = (
        select(Instance.ecs_id, Migration.reason)
        .join(Migration, col(Migration.instance_id) == col(Instance.id))
        .where(Instance.node_id == node_id, *_IS_STRANDED)
        .where(Migration.type == MigrationType.RECOVERY, Migration.state == MigrationState.FAILED)
        .where(col(Migration.finished_at) > since)
        .order_by(col(Migration.finished_at))
    )
    return dict(session.exec(query).all())


def find_nodes_with_stranded(session: Session) -> set[str]:
    """Lost nodes on which such instances are."""
    query = (
        select(Instance.node_id)
        .join(Node, col(Node.id) == col(Instance.node_id))
        .where(col(Node.ready).is_(False), *_IS_STRANDED)
        .distinct()
    )
    return {node_id for node_id in session.exec(query) if node_id}
