"""Pools of storage behind all hosts. A pool is no host's own: several may share it, and it is counted once."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from coordinator.domain.placement import HostView
from coordinator.domain.space import ANY_TYPE, Pool, SpaceWish
from coordinator.scheduler.column import FIRST_ROOM, BoolColumn, IntColumn, widened

# Stand for no pool: where others may be made use of, and where the host has one that is silent.
_NONE = 0
_SILENT = -1


class StorageColumns:
    """A column a type of volume with the pool of each host, by a small number; and what is free in each pool."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {"": _NONE}
        # By code.
        self._free: IntColumn = np.zeros(1, np.int64)
        self._pools: dict[str, IntColumn] = {}
        self._told: BoolColumn = np.zeros(FIRST_ROOM, np.bool_)
        self._is_used = False

    @property
    def is_used(self) -> bool:
        """Whether any host has told of its pools."""
        return self._is_used

    def told(self, rows: int) -> BoolColumn:
        """Which of the first `rows` hosts have told of their pools: there all space is counted by type."""
        return self._told[:rows]

    def put(self, row: int, host: HostView) -> None:
        """The host is what it is now."""
        self._told[row] = bool(host.places)
        self._is_used |= bool(host.places)
        for volume_type in host.pools.keys() - self._pools.keys():
            self._pools[volume_type] = np.zeros(len(self._told), np.int64)
        for volume_type, column in self._pools.items():
            pool_id = host.pools.get(volume_type)
            column[row] = self._code(pool_id) if pool_id else _NONE if pool_id is None else _SILENT

    def move(self, row: int, to: int) -> None:
        """The host has another row."""
        for column in (self._told, *self._pools.values()):
            column[to] = column[row]

    def widen(self) -> None:
        """Makes room for twice as many hosts."""
        self._told = widened(self._told)
        self._pools = {name: widened(column) for name, column in self._pools.items()}

    def put_pools(self, pools: Iterable[Pool]) -> None:
        """What is free in the pools is this now."""
        for pool in pools:
            code = self._code(pool.id)
            self._free[code] = pool.free_gib

    def take(self, amounts: Mapping[str, int]) -> None:
        """So many GiB less are free in these pools; more, where an amount is negative."""
        for pool_id, gib in amounts.items():
            code = self._code(pool_id)
            self._free[code] -= gib

    def free_gib(self, pool_id: str) -> int:
        """What is free in the pool."""
        code = self._code(pool_id)
        return int(self._free[code])

    def admit(self, wishes: Sequence[SpaceWish], rows: int) -> BoolColumn:
        """Which of the first `rows` hosts have pools with room for all wishes together, or do not tell of any."""
        needs = [self._need(wish, rows) for wish in wishes]
        admitted: BoolColumn = np.ones(rows, np.bool_)
        for pools, _ in needs:
            # Several types may be in one pool.
            wanted = np.sum([np.where(others == pools, gib, 0) for others, gib in needs], axis=0)
            admitted &= (pools != _NONE) & ((wanted == 0) | (wanted <= self._free[pools]))
        return admitted | ~self.told(rows)

    def _need(self, wish: SpaceWish, rows: int) -> tuple[IntColumn, IntColumn]:
        """The pool of each host, and what is wanted of it."""
        pools = self._column(ANY_TYPE, rows)
        if wish.volume_type != ANY_TYPE:
            named = self._column(wish.volume_type, rows)
            pools = np.where(named == _NONE, pools, named)
        pools = np.maximum(pools, _NONE)
        present = self._codes.get(wish.pool_id, -1) if wish.pool_id else -1
        return pools, np.where(pools == present, 0, wish.size_gib)

    def _column(self, volume_type: str, rows: int) -> IntColumn:
        column = self._pools.get(volume_type)
        return np.zeros(rows, np.int64) if column is None else column[:rows]

    def _code(self, pool_id: str) -> int:
        code = self._codes.setdefault(pool_id, len(self._codes))
        if code == len(self._free):
            self._free = np.append(self._free, 0)
        return code
