"""The host makes volumes of the types that are wanted, and has space for them."""

from collections.abc import Iterable

import numpy as np

from coordinator.domain.placement import Consumer, HostView, PlacementRequest, Rejection, RejectionReason
from coordinator.domain.space import SpaceWish, find_pool
from coordinator.domain.unit import GIB, format_bytes
from coordinator.scheduler.column import BoolColumn, IntColumn
from coordinator.scheduler.snapshot import Snapshot


class StorageFilter:
    """Rejects hosts that tell of their pools and have none for a type, or too little room in one."""

    name = "storage"

    def admit(self, hosts: Snapshot, consumer: Consumer, request: PlacementRequest) -> BoolColumn | None:
        """See Filter."""
        if not consumer.space or not hosts.storage.is_used:
            return None
        return hosts.storage.admit(consumer.space, len(hosts))

    def explain(self, hosts: Snapshot, row: int, consumer: Consumer, request: PlacementRequest) -> Rejection:
        """See Filter."""
        host = hosts.host(row)
        lacking = [wish.volume_type for wish in consumer.space if not find_pool(host.pools, wish.volume_type)]
        if lacking:
            return Rejection(self.name, RejectionReason.VOLUME_TYPE_MISSING, ", ".join(lacking), "")
        pool_id = self._short_pool(hosts, host, consumer)
        types = dict.fromkeys(wish.volume_type for wish in consumer.space if _takes(host, wish, pool_id))
        return Rejection(
            self.name,
            RejectionReason.TOO_LITTLE_STORAGE,
            wanted=f"{format_bytes(consumer.space_on(host)[pool_id] * GIB)} of {', '.join(types)}",
            available=format_bytes(max(hosts.storage.free_gib(pool_id), 0) * GIB),
        )

    def part(
        self, hosts: Snapshot, rows: IntColumn, consumer: Consumer, request: PlacementRequest
    ) -> Iterable[IntColumn]:
        """See Filter."""
        lacks = np.array([self._lacks(hosts.host(int(row)), consumer) for row in rows], np.bool_)
        if lacks.any():
            yield rows[lacks]
        if (short := rows[~lacks]).size:
            room = [hosts.storage.free_gib(self._short_pool(hosts, hosts.host(int(it)), consumer)) for it in short]
            yield short[np.argsort(-np.array(room), kind="stable")]

    def _lacks(self, host: HostView, consumer: Consumer) -> bool:
        return any(not find_pool(host.pools, wish.volume_type) for wish in consumer.space)

    def _short_pool(self, hosts: Snapshot, host: HostView, consumer: Consumer) -> str:
        return next(pool for pool, gib in consumer.space_on(host).items() if gib > hosts.storage.free_gib(pool))


def _takes(host: HostView, wish: SpaceWish, pool_id: str) -> bool:
    return wish.pool_id != pool_id == find_pool(host.pools, wish.volume_type)
