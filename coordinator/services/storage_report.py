"""What an agent tells about the places where its node makes volumes."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import select
from sqlmodel import Session, col

from coordinator.domain.space import ANY_TYPE, find_pool, place_name, pools_by_type, without_types
from coordinator.domain.unit import GIB
from coordinator.domain.volume import ELASTIC_TYPE
from coordinator.store.queries.storage import advance_pools, ensure_pool
from coordinator.store.tables import Instance, Node, StoragePool, Volume
from protos.agent.v1 import host_pb2

_ID_MAXIMUM: Final = 36
_TYPE_MAXIMUM: Final = 32
_GIB_MAXIMUM: Final = 2**31 - 1
# Guests write all the time: a change of free space by less than this part of the whole is not worth a transaction.
_NEWS_PART: Final = 100


def is_news(session: Session, node: Node, places: Sequence[host_pb2.StoragePlace]) -> bool:
    """Whether the places, or the space in them, are others than is stored."""
    return node.storages != _storages_of(node, places) or any(
        _differs(session.get(StoragePool, place.pool_id), place) for place in _answering(places)
    )


def apply_places(session: Session, node: Node, places: Sequence[host_pb2.StoragePlace]) -> bool:
    """Takes the places over into the node, whose row the caller has locked, and into their pools.

    Answers whether volumes go elsewhere now: then the node needs a new generation. What a place that has not answered
    yet was before, it stays.
    """
    for place in _answering(places):
        pool = session.get(StoragePool, place.pool_id, populate_existing=True)
        if pool is None or _differs(pool, place):
            ensure_pool(session, place.pool_id)
            # Locked before it is read: another node may tell of the same space.
            advance_pools(session, [place.pool_id])
            _set(session.get_one(StoragePool, place.pool_id, populate_existing=True), place)
    told = _storages_of(node, places)
    if told == node.storages:
        return False
    node.storages = told
    session.add(node)
    session.flush()
    _adopt_volumes(session, node)
    return True


def _answering(places: Sequence[host_pb2.StoragePlace]) -> list[host_pb2.StoragePlace]:
    """What a node remembers of a silent one another node may know better."""
    return [place for place in places if 0 < len(place.pool_id) <= _ID_MAXIMUM and not _silence(place)]


def _storages_of(node: Node, places: Sequence[host_pb2.StoragePlace]) -> dict[str, list[str]]:
    """By type; see Node.storages."""
    found: dict[str, list[str]] = {}
    for place in places:
        told = [place.pool_id[:_ID_MAXIMUM], (place.storage_id or place.pool_id)[:_ID_MAXIMUM], _silence(place)]
        if not place.volume_types:
            found |= {place_name(told[1]): told} if place.pool_id else without_types(node.storages)
        for kind in place.volume_types:
            if len(kind) > _TYPE_MAXIMUM or kind == ELASTIC_TYPE:
                continue
            if place.pool_id:
                found[kind] = told
            elif known := node.storages.get(kind) or node.storages.get(ANY_TYPE):
                found[kind] = [*known[:2], _silence(place)]
    return found


def _figures(place: host_pb2.StoragePlace) -> tuple[int, int, int]:
    """Total, free and usable GiB: what others have there is not for volumes."""
    usable_bytes = min(place.free_bytes + place.allocated_bytes, place.total_bytes)
    total, free, usable = (
        min(amount // GIB, _GIB_MAXIMUM) for amount in (place.total_bytes, place.free_bytes, usable_bytes)
    )
    return total, free, usable


def _silence(place: host_pb2.StoragePlace) -> str:
    """Since when it does not answer; empty: it does."""
    return place.silent_since.ToJsonString() if place.HasField("silent_since") else ""


def _differs(pool: StoragePool | None, place: host_pb2.StoragePlace) -> bool:
    if pool is None:
        return True
    total_gib, free_gib, usable_gib = _figures(place)
    is_same = (pool.total_gib, pool.usable_gib) == (total_gib, usable_gib)
    return not is_same or abs(pool.free_gib - free_gib) > total_gib // _NEWS_PART


def _set(pool: StoragePool, place: host_pb2.StoragePlace) -> None:
    pool.total_gib, pool.free_gib, pool.usable_gib = _figures(place)


def _adopt_volumes(session: Session, node: Node) -> None:
    """Volumes that are there, or on their way, since before the node told of its places: they count from now on."""
    its_instances = select(col(Instance.id)).where(col(Instance.node_id) == node.id)
    is_here = (col(Volume.node_id) == node.id) | (
        col(Volume.node_id).is_(None) & col(Volume.instance_id).in_(its_instances)
    )
    pools = pools_by_type(node.storages)
    for volume in session.execute(select(Volume).where(is_here, col(Volume.storage_pool_id).is_(None))).scalars():
        if volume.volume_type != ELASTIC_TYPE:
            volume.storage_pool_id = find_pool(pools, volume.volume_type) or None
            session.add(volume)
