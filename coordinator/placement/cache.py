"""The scheduler's snapshot of all hosts, kept for the life of the process and brought up to date by what changed.

It is a hint, never the truth: a claim looks again at the hosts that it chose, with their rows locked. So it does not
matter that a change may be seen late, only that it is seen soon.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from sqlalchemy import Connection

from coordinator.scheduler.pipeline import DEFAULT_WEIGHTS
from coordinator.scheduler.snapshot import Snapshot
from coordinator.store.database import Database
from coordinator.store.queries.placement import read_generations, read_hosts
from coordinator.store.queries.storage import read_changed_pools

# On PostgreSQL a transaction may commit after one that began later and took a higher generation: how far back to look.
_OVERLAP_GENERATIONS: Final = 64
# So often at most all nodes are compared for a request that found no room.
_COMPARE_SECONDS: Final = 1.0
# Below every generation.
_BEFORE_ALL: Final = -1


class HostCache:
    """What the database said about all hosts. For any thread."""

    def __init__(
        self,
        database: Database,
        *,
        seed: int = 0,
        weights: Mapping[str, float] = DEFAULT_WEIGHTS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`seed` and `weights` are the scheduler's: they decide between hosts, and are the same for all requests."""
        self.weights: Final = weights
        self._database = database
        self._seed = seed
        self._snapshot: Snapshot | None = None
        self._newest = 0
        self._newest_pool = _BEFORE_ALL
        self._suspects: set[str] = set()
        # Whether any host may have changed unseen.
        self._is_doubted = False
        self._monotonic = monotonic
        self._compared_at = monotonic()
        self._lock = threading.Lock()

    @contextmanager
    def current(self) -> Iterator[Snapshot]:
        """The hosts as far as changes are committed. For one thread at a time: nobody but the block uses it."""
        with self._lock:
            with self._database.observe() as connection:
                self._update(connection)
            assert self._snapshot is not None  # noqa: S101 - made by the first update
            yield self._snapshot

    def suspect(self, node_ids: Collection[str]) -> None:
        """These hosts were not what the snapshot said: they are read again."""
        with self._lock:
            self._suspects.update(node_ids)

    def reload(self) -> bool:
        """Has every host that changed read anew, if one can have been missed; False when it is as good as new.

        On SQLite this process sees every change at once. On PostgreSQL another coordinator's may be late.
        """
        with self._lock:
            if self._database.is_sqlite or self._monotonic() - self._compared_at < _COMPARE_SECONDS:
                return False
            self._is_doubted = True
            return True

    def _update(self, connection: Connection) -> None:
        was_doubted = self._is_doubted
        self._update_hosts(connection)
        assert self._snapshot is not None  # noqa: S101 - it was just made
        if self._snapshot.storage.is_used:
            self._update_pools(connection, self._snapshot, _BEFORE_ALL if was_doubted else self._newest_pool)

    def _update_pools(self, connection: Connection, snapshot: Snapshot, newest: int) -> None:
        overlap = 0 if self._database.is_sqlite else _OVERLAP_GENERATIONS
        pools = read_changed_pools(connection, newest - overlap)
        snapshot.storage.put_pools(pools)
        self._newest_pool = max([self._newest_pool, *(pool.generation for pool in pools)])

    def _update_hosts(self, connection: Connection) -> None:
        if self._snapshot is None:
            hosts = read_hosts(connection)
            self._snapshot = Snapshot(hosts, seed=self._seed)
            self._compared_at = self._monotonic()
        else:
            changed = self._find_changed(connection, self._snapshot)
            if not changed:
                return
            hosts = read_hosts(connection, changed)
            for node_id in changed.difference(host.node_id for host in hosts):
                self._snapshot.remove(node_id)
            for host in hosts:
                self._snapshot.put(host)
        self._newest = max([self._newest, *(host.generation for host in hosts)])
        self._suspects.clear()

    def _find_changed(self, connection: Connection, snapshot: Snapshot) -> set[str]:
        overlap = 0 if self._database.is_sqlite else _OVERLAP_GENERATIONS
        since = _BEFORE_ALL if self._is_doubted else self._newest - overlap
        present = read_generations(connection, since)
        changed = {node_id for node_id, generation in present.items() if snapshot.generation(node_id) != generation}
        if self._is_doubted:
            changed.update(snapshot.node_ids() - present.keys())
            self._is_doubted, self._compared_at = False, self._monotonic()
        return changed | self._suspects
