"""Space that volumes take of the pools behind their types, outside of the scheduler's choice of a node."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from sqlmodel import Session

from coordinator.domain.placement import PlacementRequest
from coordinator.domain.space import (
    Placed,
    SpaceWish,
    answering_pools,
    find_pool,
    places_of,
    sum_by_pool,
    sum_space,
)
from coordinator.domain.unit import GIB, format_bytes
from coordinator.domain.volume import ELASTIC_TYPE
from coordinator.errors import StorageInsufficient
from coordinator.services.volume_backend import storage_of
from coordinator.store.queries.storage import advance_pools, read_pools, release_space
from coordinator.store.tables import Node, Volume


def settle_space(session: Session, consumer_uuid: str, pools: Mapping[str, str], volumes: Iterable[Volume]) -> None:
    """What was reserved for the consumer is the volumes' own from now on, which count by themselves."""
    release_space(session, [consumer_uuid])
    for volume in volumes:
        if volume.volume_type != ELASTIC_TYPE:
            volume.storage_pool_id = find_pool(pools, volume.volume_type) or None


def lock_space(session: Session, node_id: str | None, volumes: Sequence[Volume]) -> None:
    """Nobody else takes of what is behind these volumes, or will be on that node, until the transaction ends.

    For who locks instances afterwards: pools are locked before those, everywhere.
    """
    node = session.get(Node, node_id) if node_id else None
    pools = answering_pools(node.storages) if node else {}
    found = {volume.storage_pool_id or find_pool(pools, volume.volume_type) for volume in volumes}
    advance_pools(session, found - {""})


def take_space(session: Session, node_id: str | None, volumes: Sequence[Volume]) -> None:
    """The volumes, which are nowhere yet, are made on that node, and count there. The caller has locked the space.

    StorageInsufficient. Where the node does not tell of its space nothing is counted.
    """
    node = session.get(Node, node_id) if node_id else None
    if node is None or not volumes or not node.storages:
        return
    pools = answering_pools(node.storages)
    wishes = [SpaceWish(wish.volume_type, wish.size_gib) for wish in sum_space(volumes)]
    for wish in wishes:
        if not find_pool(pools, wish.volume_type):
            raise StorageInsufficient(
                f"node {node.name} has no storage that answers for volumes of type {wish.volume_type}",
                f"节点{node.name}没有可用的{wish.volume_type}类型云盘存储",
            )
    _require_room(session, pools, wishes)
    for volume in volumes:
        volume.storage_pool_id = find_pool(pools, volume.volume_type)
        session.add(volume)


def require_growth(session: Session, volume: Volume, size_gib: int) -> None:
    """There is room for the volume with that size where it is. The caller has locked the space. StorageInsufficient."""
    more_gib = size_gib - volume.size_gib
    if volume.storage_pool_id and more_gib > 0:
        _require_room(session, {volume.volume_type: volume.storage_pool_id}, [SpaceWish(volume.volume_type, more_gib)])


def keep_near(
    session: Session, request: PlacementRequest, node_id: str, volumes: Sequence[Placed]
) -> PlacementRequest | None:
    """The request, for hosts that find these volumes of the node's; None: it is not known that others can."""
    node = session.get_one(Node, node_id)
    places = [places_of(node.storages, volume.storage_pool_id or "") for volume in volumes]
    if places and all(places):
        return replace(request, places=frozenset().union(*places))
    storage_id = storage_of(node, volumes)
    return replace(request, storage_id=storage_id) if storage_id else None


def _require_room(session: Session, pools: Mapping[str, str], wishes: Sequence[SpaceWish]) -> None:
    """Nobody else takes of these pools until the transaction ends."""
    wanted = sum_by_pool(pools, wishes)
    advance_pools(session, wanted)
    found = read_pools(session.connection(), wanted)
    for pool_id, gib in wanted.items():
        free_gib = max(found[pool_id].free_gib, 0) if pool_id in found else 0
        if gib > free_gib:
            types = ", ".join(it.volume_type for it in wishes if find_pool(pools, it.volume_type) == pool_id)
            raise StorageInsufficient(
                f"volumes of type {types}: wanted {format_bytes(gib * GIB)}, {format_bytes(free_gib * GIB)} free",
                f"{types}类型云盘存储不足：需要{format_bytes(gib * GIB)}，剩余{format_bytes(free_gib * GIB)}",
            )
