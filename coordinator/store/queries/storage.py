"""Space of storage pools, and what is taken of it."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, func, insert, inspect, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session as AnySession
from sqlalchemy.orm import aliased
from sqlmodel import Session, col

from coordinator.domain.space import Pool
from coordinator.store.tables.storage import SpaceReservation, StoragePool
from coordinator.store.tables.volume import Volume

_of_volumes = (
    select(func.coalesce(func.sum(Volume.size_gib), 0))
    .where(col(Volume.storage_pool_id) == col(StoragePool.id))
    .correlate(StoragePool)
    .scalar_subquery()
)
_reserved = (
    select(func.coalesce(func.sum(SpaceReservation.size_gib), 0))
    .where(col(SpaceReservation.pool_id) == col(StoragePool.id))
    .correlate(StoragePool)
    .scalar_subquery()
)
_POOLS: Final = select(
    col(StoragePool.id),
    col(StoragePool.usable_gib),
    col(StoragePool.generation),
    (_of_volumes + _reserved).label("used"),
)
_CHANGED: Final = _POOLS.where(col(StoragePool.generation) > bindparam("generation"))
_NAMED: Final = _POOLS.where(col(StoragePool.id).in_(bindparam("pool_ids", expanding=True)))
_others = aliased(StoragePool)
_ADVANCE: Final = (
    update(StoragePool)
    .where(col(StoragePool.id) == bindparam("pool_id"))
    .values(generation=select(func.coalesce(func.max(_others.generation), 0) + 1).scalar_subquery())
)


def read_changed_pools(connection: Connection, since: int) -> list[Pool]:
    """Pools whose generation is above the given one, with what is taken of them."""
    return [_pool(row) for row in connection.execute(_CHANGED, {"generation": since})]


def read_pools(connection: Connection, pool_ids: Collection[str]) -> dict[str, Pool]:
    """These pools by their ids, as the transaction sees them now; those that are gone are absent."""
    return {row.id: _pool(row) for row in connection.execute(_NAMED, {"pool_ids": list(pool_ids)})}


def advance_pools(session: AnySession, pool_ids: Collection[str]) -> None:
    """Nobody else claims from these pools before the transaction ends, and every snapshot sees that they changed.

    They are locked after nodes and before instances.
    """
    # Not by way of the session, which may be about to flush. In one order everywhere.
    for pool_id in sorted(pool_ids):
        session.connection().execute(_ADVANCE, {"pool_id": pool_id})


def reserve_space(session: Session, consumer_uuid: str, amounts: Mapping[str, int]) -> None:
    """The consumer has so many GiB of each of the pools, besides what it had."""
    rows = [{"consumer_uuid": consumer_uuid, "pool_id": pool, "size_gib": gib} for pool, gib in amounts.items() if gib]
    if rows:
        session.connection().execute(insert(SpaceReservation), rows)


def release_space(session: Session, consumer_uuids: Collection[str]) -> None:
    """The consumers have no space set aside any more; absence is success."""
    mine = col(SpaceReservation.consumer_uuid).in_(list(consumer_uuids))
    pool_ids = set(session.connection().execute(select(col(SpaceReservation.pool_id)).where(mine)).scalars())
    if pool_ids:
        advance_pools(session, pool_ids)
        session.connection().execute(delete(SpaceReservation).where(mine))


def note_space_changes(session: AnySession, _context: object, _instances: object) -> None:
    """Before a flush: who takes space, or lets go of it, changes the pool for all who look at it."""
    changed = {pool_id for volume in _volumes_in(session) for pool_id in _pools_touched(session, volume)}
    if changed:
        advance_pools(session, changed)


def _volumes_in(session: AnySession) -> Iterable[Volume]:
    return (it for rows in (session.new, session.dirty, session.deleted) for it in rows if isinstance(it, Volume))


def _pools_touched(session: AnySession, volume: Volume) -> set[str]:
    state = inspect(volume)
    pools, sizes = state.attrs.storage_pool_id.history, state.attrs.size_gib.history
    if not (pools.has_changes() or sizes.has_changes() or volume in session.deleted):
        return set()
    return {pool_id for pool_id in (*pools.deleted, volume.storage_pool_id) if pool_id}


def _pool(row: Any) -> Pool:
    return Pool(row.id, row.usable_gib - int(row.used), row.generation)


def ensure_pool(session: Session, pool_id: str) -> None:
    """There is a row for the pool, without any space when it is new; also when another transaction makes it, too."""
    row = {"id": pool_id, "total_gib": 0, "free_gib": 0, "usable_gib": 0, "generation": 0}
    on_conflict = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    session.connection().execute(on_conflict(StoragePool).values(row).on_conflict_do_nothing())


def find_pools(session: Session, pool_ids: Collection[str]) -> dict[str, StoragePool]:
    """The rows of these pools by their ids."""
    rows = session.execute(select(StoragePool).where(col(StoragePool.id).in_(pool_ids))).scalars()
    return {pool.id: pool for pool in rows}
