"""Space for volumes: wanted by their type, counted in the pools that are behind it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from coordinator.domain.volume import ELASTIC_TYPE

# Stands for all types that a node does not name.
ANY_TYPE: Final = "*"
# Begins what is no type.
_NO_TYPE: Final = "@"


@dataclass(frozen=True, slots=True)
class Pool:
    """A space that volumes of some types of some nodes are made in."""

    id: str
    # Negative when it became smaller than what is in it.
    free_gib: int
    generation: int = 0


@dataclass(frozen=True, slots=True)
class SpaceWish:
    """So much more for volumes of one type."""

    volume_type: str
    size_gib: int
    # The pool that has it already: where hosts share it nothing more is needed. Empty: none.
    pool_id: str = ""


class _Sized(Protocol):
    @property
    def size_gib(self) -> int: ...

    @property
    def volume_type(self) -> str: ...


class Placed(Protocol):
    """A volume that may be somewhere."""

    @property
    def storage_pool_id(self) -> str | None: ...

    @property
    def backend(self) -> str: ...


def sum_space(volumes: Iterable[_Sized]) -> tuple[SpaceWish, ...]:
    """What the volumes take, summed up; without elastic local disks, which are counted by themselves.

    Of volumes that are made already, all that hosts need for which these are out of reach.
    """
    sums: Counter[tuple[str, str]] = Counter()
    for volume in volumes:
        if volume.volume_type != ELASTIC_TYPE:
            sums[volume.volume_type, getattr(volume, "storage_pool_id", None) or ""] += volume.size_gib
    return tuple(SpaceWish(kind, size_gib, pool_id) for (kind, pool_id), size_gib in sums.items())


def find_pool(pools: Mapping[str, str], volume_type: str) -> str:
    """Of a node's pools by type the one for that type; empty: it makes none of them."""
    return pools.get(volume_type, pools.get(ANY_TYPE, ""))


def sum_by_pool(pools: Mapping[str, str], wishes: Iterable[SpaceWish]) -> dict[str, int]:
    """What the wishes take of each pool of a node, GiB; types that it does not have are left out."""
    sums: Counter[str] = Counter()
    for wish in wishes:
        pool_id = find_pool(pools, wish.volume_type)
        if pool_id and pool_id != wish.pool_id:
            sums[pool_id] += wish.size_gib
    return dict(sums)


# As `Node.storages` has them, by type or by a name that is no type.
Storages = Mapping[str, Sequence[str]]


def place_name(place_id: str) -> str:
    """The name of a place where a node has volumes, and makes none any more."""
    return f"{_NO_TYPE}{place_id}"


def pools_by_type(storages: Storages) -> dict[str, str]:
    """Where a node makes volumes: ids of pools."""
    return {name: place[0] for name, place in storages.items() if not name.startswith(_NO_TYPE)}


def types_in(storages: Storages, place: Sequence[str]) -> tuple[str, ...]:
    """Types of volumes that are made in that place."""
    return tuple(sorted(name for name, it in storages.items() if list(it) == list(place) and name[0] != _NO_TYPE))


def without_types(storages: Storages) -> dict[str, list[str]]:
    """The places where a node makes no volumes any more, by their names."""
    return {name: list(place) for name, place in storages.items() if name.startswith(_NO_TYPE)}


def answering_pools(storages: Storages) -> dict[str, str]:
    """The same; what is silent at present is empty, and no other pool is made use of instead."""
    silent = {name: "" for name, place in storages.items() if place[2]}
    return {name: silent.get(name, pool_id) for name, pool_id in pools_by_type(storages).items()}


def places_of(storages: Storages, pool_id: str | None = None) -> frozenset[str]:
    """The places of a node, or those of one of its pools."""
    return frozenset(place[1] for place in storages.values() if pool_id is None or place[0] == pool_id)
