"""Migrations of instances."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, delete, exists, func, or_, update
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from coordinator.domain.listing import Page
from coordinator.domain.migration import ACTIVE_MIGRATION_STATES, MigrationState, MigrationType
from coordinator.store.tables import Instance, Migration, Node, Task, Volume
from coordinator.store.tables.device import CellAllocation, DeviceAllocation
from coordinator.store.tables.node import Allocation

# Key of the advisory lock behind which migrations take their turns; any number that nobody else uses.
_TURN_KEY: Final = 0x7475726E
# Waiting ones that look again at once when another has ended.
_NUDGED: Final = 8

_is_active = col(Migration.state).in_(ACTIVE_MIGRATION_STATES)


def get_migration(session: Session, migration_id: str) -> Migration:
    """The migration with that id."""
    return session.get_one(Migration, migration_id, populate_existing=True)


def list_migrations(session: Session, migration_ids: Collection[str]) -> Sequence[tuple[Migration, str]]:
    """These migrations, each with the id of its instance."""
    statement = (
        select(Migration, Instance.ecs_id)
        .join(Instance, col(Instance.id) == col(Migration.instance_id))
        .where(col(Migration.id).in_(migration_ids))
        .order_by(col(Migration.created_at), col(Migration.id))
    )
    return session.exec(statement).all()


def is_coming(session: Session, instance_id: int | None, node_id: str) -> bool:
    """Whether the instance is on its way to the node."""
    is_it = (Migration.instance_id == instance_id, Migration.target_node_id == node_id)
    return session.exec(select(Migration.id).where(*is_it, _is_active)).first() is not None


def find_active(session: Session, instance_id: int | None, kind: MigrationType) -> Migration | None:
    """The migration of that kind that the instance is in."""
    mine = (Migration.instance_id == instance_id, Migration.type == kind)
    return session.exec(select(Migration).where(*mine, _is_active)).first()


def list_migrations_of(
    session: Session, instance_id: int | None, page: Page
) -> tuple[Sequence[tuple[Migration, str, str]], int]:
    """A page of the migrations with the names of source and target, the newest first; how many there are in all."""
    source, target = (select(Node.id, Node.name).subquery() for _ in range(2))
    statement: Any = (
        select_columns(Migration, source.c.name, target.c.name)
        .join(source, source.c.id == col(Migration.source_node_id))
        .join(target, target.c.id == col(Migration.target_node_id))
        .where(col(Migration.instance_id) == instance_id)
        .order_by(col(Migration.created_at).desc(), col(Migration.id))
        .offset(page.offset)
        .limit(page.size)
    )
    total = session.scalar(select(func.count()).where(col(Migration.instance_id) == instance_id)) or 0
    return [(migration, one, other) for migration, one, other in session.execute(statement)], total


def find_cleaning(session: Session, instance_id: int | None, node_id: str) -> str | None:
    """The operation that still removes from the node what an earlier move of the instance left there."""
    is_there = or_(col(Migration.source_node_id) == node_id, col(Migration.target_node_id) == node_id)
    statement = (
        select(Task.id)
        .join(Migration, col(Migration.cleaning_id) == col(Task.id))
        .where(Migration.instance_id == instance_id, is_there, col(Task.finished_at).is_(None))
        .order_by(col(Task.created_at).desc())
    )
    return session.exec(statement).first()


def find_passing_uuids(session: Session, node_id: str) -> set[str]:
    """UUIDs of instances that may be seen on the node though they are not placed there: they come, or left."""
    is_there = or_(col(Migration.source_node_id) == node_id, col(Migration.target_node_id) == node_id)
    is_cleaning = col(Migration.cleaning_id).in_(select(Task.id).where(col(Task.finished_at).is_(None)))
    statement = (
        select(Instance.uuid)
        .join(Migration, col(Migration.instance_id) == col(Instance.id))
        .where(is_there, or_(_is_active, is_cleaning))
    )
    return set(session.exec(statement))


def find_uuids_at(session: Session, node_id: str, volume_uuids: Collection[str], ecs_id: str) -> set[str]:
    """Those of the volumes whose data is on the node, or on its way there with another instance than this one."""
    coming = (
        select(Migration.instance_id)
        .join(Instance, col(Instance.id) == col(Migration.instance_id))
        .where(Migration.target_node_id == node_id, _is_active, Instance.ecs_id != ecs_id)
    )
    is_there = or_(col(Volume.node_id) == node_id, col(Volume.instance_id).in_(coming))
    return set(session.exec(select(Volume.uuid).where(col(Volume.uuid).in_(volume_uuids), is_there)))


def take_turn(session: Session, migration: Migration, now: datetime, limit: int, per_node: int) -> str:
    """The migration is under way from now on, unless too many are: then the reason is answered."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select_columns(func.pg_advisory_xact_lock(_TURN_KEY)))
    if migration.type == MigrationType.LIVE and _count(session, Migration.type == MigrationType.LIVE) >= limit:
        return f"waiting: {limit} live migrations are under way, as many as the region admits"
    for node_id in (migration.source_node_id, migration.target_node_id):
        is_there = or_(col(Migration.source_node_id) == node_id, col(Migration.target_node_id) == node_id)
        if _count(session, is_there) >= per_node:
            return f"waiting: node {node_id} takes part in {per_node} migrations, as many as it may"
    migration.state, migration.started_at = MigrationState.RUNNING, now
    session.add(migration)
    return ""


def nudge_waiting(session: Session) -> None:
    """Those that wait look again now, the oldest first."""
    waiting = (
        select(Migration.operation_id)
        .where(Migration.state == MigrationState.WAITING)
        .order_by(col(Migration.created_at))
        .limit(_NUDGED)
    )
    session.execute(
        update(Task)
        .where(col(Task.id).in_(waiting), col(Task.lease_owner) == "")
        .values(not_before=None)
        .execution_options(synchronize_session=False)
    )


def rename_consumer(session: Session, old: str, new: str, node_id: str) -> None:
    """Whatever the one holds of the node the other holds now."""
    for table in (Allocation, CellAllocation, DeviceAllocation):
        session.execute(
            update(table)
            .where(col(table.consumer_uuid) == old, col(table.node_id) == node_id)
            .values(consumer_uuid=new)
            .execution_options(synchronize_session=False)
        )


def delete_migrations(session: Session, before: datetime, limit: int) -> int:
    """Deletes a batch of migrations that ended before that moment and have left nothing on any node."""
    is_cleaning = exists().where(col(Task.id) == col(Migration.cleaning_id), col(Task.finished_at).is_(None))
    expired = select(Migration.id).where(col(Migration.finished_at) < before, ~is_cleaning).limit(limit)
    found = session.execute(delete(Migration).where(col(Migration.id).in_(expired)))
    return int(found.rowcount)  # type: ignore[attr-defined]


def _count(session: Session, condition: ColumnElement[bool] | bool) -> int:
    statement = select(func.count()).select_from(Migration)
    return session.exec(statement.where(Migration.state == MigrationState.RUNNING, condition)).one()
