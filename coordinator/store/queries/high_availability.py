"""Nodes that are lost, and what of it is to run elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import and_, exists
from sqlmodel import Session, col, or_, select

from coordinator.domain.instance import InstanceStatus, PowerState
from coordinator.domain.migration import MigrationState, MigrationType
from coordinator.store.queries.task import ACTIVE_STATES
from coordinator.store.tables import Instance, Interruption, Migration, Node, Task

# What was off when its node was lost need not be anywhere.
_RAN: Final = or_(
    col(Instance.power_state).in_((PowerState.RUNNING, PowerState.PAUSED, PowerState.SHUTTING_DOWN)),
    # The node went down once more before it had started what ran there.
    exists().where(col(Interruption.instance_id) == col(Instance.id), col(Interruption.booting_since).is_(None)),
)
_SHALL_RUN: Final = (col(Instance.deleted_at).is_(None), col(Instance.ha_enabled), _RAN)
_IS_STRANDED: Final = (
    *_SHALL_RUN,
    col(Instance.task_id).is_(None),
    col(Instance.status) == InstanceStatus.UNKNOWN,
)
_WAITING_VERBS: Final = (
    *("start", "restart", "suspend", "resume", "live_migrate"),
    *("resize", "move_resized", "hibernate", "roll_back", "clone"),
)
# Operations that would wait for the lost node for minutes, or until it is fenced; others settle that themselves, or
# want the guest to be off.
_WAITING_KINDS: Final = (
    *(f"{verb}_instance" for verb in _WAITING_VERBS),
    *(f"{verb}_{what}" for verb in ("attach", "detach") for what in ("volumes", "devices", "isos", "shared_volume")),
    *("create_snapshot", "delete_snapshot", "back_up_volumes", "delete_backup"),
    *("grow_volume", "capture_image", "change_os", "redefine_instance"),
)
# What such an operation has shut down for its own sake alone is to run all the same.
_IS_INTERRUPTED: Final = and_(
    col(Task.kind).in_(("roll_back_instance", "change_os", "resize_instance", "move_resized_instance")),
    or_(col(Task.args)["runs"].as_boolean(), col(Task.args)["starts"].as_boolean()),
)
# Also one that was cancelled: what it undoes waits until the node is certainly fenced.
_IS_WAITING: Final = (
    col(Instance.deleted_at).is_(None),
    col(Instance.ha_enabled),
    or_(_RAN, _IS_INTERRUPTED),
    col(Task.kind).in_(_WAITING_KINDS),
    col(Task.state).in_(ACTIVE_STATES),
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


def find_waiting(session: Session, node_id: str) -> Sequence[str]:
    """Operations that wait for the node, and keep what ran there from being started elsewhere, yet to be cancelled."""
    statement = select(Task.id).join(Instance, col(Instance.task_id) == col(Task.id))
    is_asked = (Instance.node_id == node_id, col(Task.cancel_requested).is_(False))
    return session.exec(statement.where(*is_asked, *_IS_WAITING)).all()


def find_nodes_to_fence(session: Session) -> set[str]:
    """Lost nodes on which such instances are, or were about to be started."""
    of_stranded = select(Instance.node_id).where(*_IS_STRANDED)
    of_waiting = select(Instance.node_id).join(Task, col(Instance.task_id) == col(Task.id)).where(*_IS_WAITING)
    of_recoveries = select(Migration.target_node_id).where(
        Migration.type == MigrationType.RECOVERY, col(Migration.finished_at).is_(None)
    )
    # On its target, too, it may have been started before that was lost.
    of_moves = (
        select(Migration.target_node_id)
        .join(Instance, col(Instance.id) == col(Migration.instance_id))
        .join(Task, col(Task.id) == col(Instance.task_id))
        .where(col(Migration.operation_id) == col(Task.id), Task.kind == "move_resized_instance", *_IS_WAITING)
    )
    concerned = (of_stranded, of_waiting, of_recoveries, of_moves)
    is_concerned = or_(*(col(Node.id).in_(found) for found in concerned))
    return set(session.exec(select(Node.id).where(col(Node.ready).is_(False), is_concerned)))
