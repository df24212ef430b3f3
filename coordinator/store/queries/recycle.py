"""Instances in the recycle bin, and those whose time there is over."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import and_, delete, false, func, or_
from sqlmodel import Session, col, select

from coordinator.store.tables import Instance, Node, RecycledInstance

_IS_REACHABLE: Final = or_(col(Instance.node_id).is_(None), col(Node.ready))


def find_recycled(session: Session, instance_id: int | None, *, for_update: bool = False) -> RecycledInstance | None:
    """What the bin knows of the instance; None when it is not there."""
    statement = select(RecycledInstance).where(RecycledInstance.instance_id == instance_id)
    return session.exec(statement.with_for_update() if for_update else statement).first()


def has_recycled(session: Session) -> bool:
    """Whether there is any instance in the bin."""
    return session.exec(select(RecycledInstance.instance_id).limit(1)).first() is not None


def forget_recycled(session: Session, instance_id: int | None) -> None:
    """The instance is not in the bin any more."""
    session.execute(delete(RecycledInstance).where(col(RecycledInstance.instance_id) == instance_id))


def find_unannounced(session: Session, before: datetime, limit: int) -> Sequence[tuple[RecycledInstance, Instance]]:
    """Those whose time is over by then, and who were not told so; kept from others."""
    statement = (
        select(RecycledInstance, Instance)
        .join(Instance, col(Instance.id) == col(RecycledInstance.instance_id))
        .where(col(RecycledInstance.announced) == false(), col(RecycledInstance.purge_at) <= before)
        .order_by(col(RecycledInstance.instance_id))
        .limit(limit)
        .with_for_update(of=RecycledInstance)
    )
    return session.exec(statement).all()


def count_purges(session: Session) -> Counter[str | None]:
    """How many instances of the bin are being deleted on each node that can do so now."""
    statement = (
        select(Instance.node_id, func.count())
        .join(RecycledInstance, col(RecycledInstance.instance_id) == col(Instance.id))
        .outerjoin(Node, col(Node.id) == col(Instance.node_id))
        .where(col(Instance.task_id).is_not(None), _IS_REACHABLE)
        .group_by(col(Instance.node_id))
    )
    return Counter({node_id: int(count) for node_id, count in session.exec(statement)})


def find_expired(session: Session, now: datetime) -> Sequence[tuple[str, str | None]]:
    """Ids of instances whose time is over, and their nodes; who is overdue longest comes first.

    Left out are those that are being deleted, that wait after a failure, and those of nodes that are away.
    """
    is_due = and_(
        col(RecycledInstance.purge_at) <= now,
        or_(col(RecycledInstance.not_before).is_(None), col(RecycledInstance.not_before) <= now),
    )
    statement = (
        select(Instance.ecs_id, Instance.node_id)
        .join(RecycledInstance, col(RecycledInstance.instance_id) == col(Instance.id))
        .outerjoin(Node, col(Node.id) == col(Instance.node_id))
        .where(is_due, col(Instance.task_id).is_(None), _IS_REACHABLE)
        .order_by(col(RecycledInstance.purge_at), col(Instance.id))
    )
    return session.exec(statement).all()
