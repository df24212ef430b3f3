"""Snapshots of volumes, whoever has them: by the guest that runs with them, while it is held, or while it is off.

Guests end by themselves at any moment; then the other way is tried.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import structlog

from agent.domain_lock import DomainLocks
from agent.errors import DomainStateConflict, SnapshotUnsupported, StorageFailed, VolumeInUse, VolumeNotFound
from agent.hypervisor.freeze import THAWED_TOO_SOON, Freezes
from agent.hypervisor.pause import Pauses
from agent.hypervisor.snapshot import LiveSnapshots
from agent.storage.snapshot import Consistency, HeldSnapshots, SnapshotStore, VolumeSnapshot, list_partial
from agent.storage.snapshots import VolumeSnapshots

_ATTEMPTS: Final = 3

T = TypeVar("T")

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class SnapshotOrder:
    """What is to be taken."""

    snapshot_id: str
    # Who has the volumes; empty: nobody.
    domain_uuid: str
    volume_uuids: tuple[str, ...]
    quiesces: bool


@dataclass(frozen=True)
class TakenSnapshot:
    """What there is now."""

    volumes: tuple[VolumeSnapshot, ...]
    # Why it is not better than after a power failure, though that was asked for.
    reason: str = ""
    # How long the guest's writes were held up; None: it did not run, or an earlier call has taken it.
    paused_seconds: float | None = None

    @property
    def consistency(self) -> Consistency:
        """Of the volumes together."""
        is_torn = any(volume.consistency == "crash" for volume in self.volumes)
        return "crash" if is_torn else "file-system"


@dataclass(frozen=True)
class _OpenDisk:
    """A volume that a guest runs with."""

    uuid: str
    store: SnapshotStore
    # As its QEMU calls it.
    node_name: str


class Snapshots:
    """Those of all volumes of the node."""

    def __init__(
        self,
        stores: VolumeSnapshots,
        live: LiveSnapshots,
        freezes: Freezes,
        pauses: Pauses,
        locks: DomainLocks,
        find_sleeper: Callable[[Path], Awaitable[str]] | None = None,
    ) -> None:
        """`find_sleeper` names the guest that hibernates with a disk, if one does."""
        self._stores = stores
        self._find_sleeper = find_sleeper
        self._live = live
        self._freezes = freezes
        self._pauses = pauses
        self._locks = locks

    async def take(self, order: SnapshotOrder) -> TakenSnapshot:
        """All the volumes have the snapshot, taken at one moment.

        Raises VolumeNotFound, DomainNotFound, DomainForeign, VolumeInUse, StorageExhausted, StorageFailed,
        SnapshotUnsupported, before anything is begun.
        """
        lock = self._locks.of(order.domain_uuid, "domain_uuid") if order.domain_uuid else contextlib.nullcontext()
        async with lock:
            return await _persist(partial(self._take, order))

    async def remove(self, snapshot_id: str, volume_uuids: Sequence[str]) -> None:
        """None of the volumes has the snapshot. Raises VolumeInUse, StorageFailed."""
        for uuid in volume_uuids:
            with contextlib.suppress(VolumeNotFound, SnapshotUnsupported):
                await _persist(partial(self._remove, uuid, snapshot_id))

    async def roll_back(self, snapshot_id: str, volume_uuids: Sequence[str]) -> None:
        """The volumes, which nobody has open, hold what they held then.

        A guest that hibernates has them open, too: what it remembers of them would no longer be so.
        Raises VolumeNotFound, SnapshotNotFound, VolumeInUse, StorageExhausted, StorageFailed.
        """
        for uuid in volume_uuids:
            # Before one of them is touched.
            store = await self._stores.of(uuid)
            await store.get(uuid, snapshot_id)
            path = await store.path_of(uuid)
            if self._find_sleeper is not None and (sleeper := await self._find_sleeper(path)):
                raise VolumeInUse(f"volume {uuid}: domain {sleeper} hibernates with it; stop it for good first")
        for uuid in volume_uuids:
            await (await self._stores.of(uuid)).roll_back(uuid, snapshot_id)

    async def _take(self, order: SnapshotOrder) -> TakenSnapshot:
        stores = {uuid: await self._stores.of(uuid) for uuid in order.volume_uuids}
        found = [await store.find(uuid, order.snapshot_id) for uuid, store in stores.items()]
        present = tuple(item for item in found if item is not None)
        if len(present) == len(order.volume_uuids):
            return TakenSnapshot(present)
        for item in list_partial(found):
            log.info("snapshot.leftover_removed", uuid=item.volume_uuid, snapshot=item.snapshot_id)
            await self._remove(item.volume_uuid, order.snapshot_id)
        for uuid, store in stores.items():
            if isinstance(store, HeldSnapshots):
                await store.abandon(uuid, order.snapshot_id)
        if not order.domain_uuid or not await self._live.is_active(order.domain_uuid):
            for uuid, store in stores.items():
                await store.take(uuid, order.snapshot_id)
            return TakenSnapshot(await _list(order, stores))
        return await self._take_live(order, stores)

    async def _take_live(self, order: SnapshotOrder, stores: Mapping[str, SnapshotStore]) -> TakenSnapshot:
        disks = await self._find_disks(order, stores)
        if not order.quiesces:
            paused_seconds = await self._transact(order, disks, "crash")
            return TakenSnapshot(await _list(order, stores), paused_seconds=paused_seconds)
        began = time.monotonic()
        async with self._freezes.frozen(order.domain_uuid) as freeze:
            consistency: Consistency = "crash" if freeze.reason else "file-system"
            held_seconds = await self._transact(order, disks, consistency)
        if freeze.is_broken:
            log.warning("snapshot.thawed_too_soon", snapshot=order.snapshot_id)
            await self.remove(order.snapshot_id, order.volume_uuids)
            held_seconds, consistency = await self._transact(order, disks, "crash"), "crash"
        frozen_seconds = time.monotonic() - began
        paused_seconds = frozen_seconds if consistency == "file-system" else held_seconds
        reason = freeze.reason or (THAWED_TOO_SOON if freeze.is_broken else "")
        return TakenSnapshot(await _list(order, stores), reason, paused_seconds)

    async def _find_disks(self, order: SnapshotOrder, stores: Mapping[str, SnapshotStore]) -> list[_OpenDisk]:
        disks = await self._live.find_disks(order.domain_uuid)
        paths = {uuid: await store.path_of(uuid) for uuid, store in stores.items()}
        if missing := [uuid for uuid, path in paths.items() if path not in disks]:
            raise VolumeInUse(
                f"volume {', '.join(missing)}: the running guest does not have it; try again when it is off"
            )
        return [_OpenDisk(uuid, store, disks[paths[uuid]].node_name) for uuid, store in stores.items()]

    async def _transact(self, order: SnapshotOrder, disks: Sequence[_OpenDisk], consistency: Consistency) -> float:
        """All of them at one moment; how long the guest waited."""
        began = time.monotonic()
        counts = Counter(it.store for it in disks)
        own = [it for it in disks if counts[it.store] <= it.store.most_by_guest]
        names = {it.node_name: it.store.name(it.uuid, order.snapshot_id, consistency) for it in own}
        if len(own) == len(disks):
            await self._live.take(order.domain_uuid, names)
            return time.monotonic() - began
        others = [(it.uuid, it.store) for it in disks if it not in own and isinstance(it.store, HeldSnapshots)]
        async with self._pauses.held(order.domain_uuid) as pause:
            if names:
                await self._live.take(order.domain_uuid, names)
            await _gather(store.begin(uuid, order.snapshot_id) for uuid, store in others)
            held_seconds = time.monotonic() - began
        if pause.is_broken:
            await self.remove(order.snapshot_id, order.volume_uuids)
            raise StorageFailed("the guest had to go on before all of its volumes had the snapshot")
        await _gather(store.complete(uuid, order.snapshot_id, consistency) for uuid, store in others)
        return held_seconds

    async def _remove(self, uuid: str, snapshot_id: str) -> None:
        store = await self._stores.of(uuid)
        if isinstance(store, HeldSnapshots):
            await store.remove(uuid, snapshot_id)
            return
        found = await store.find(uuid, snapshot_id)
        if found is None:
            return
        with store.leaving(uuid, snapshot_id):
            user = await self._live.find_user(await store.path_of(uuid))
            if user is None:
                await store.remove(uuid, snapshot_id)
            else:
                await self._live.remove(user, found.name)


async def _list(order: SnapshotOrder, stores: Mapping[str, SnapshotStore]) -> tuple[VolumeSnapshot, ...]:
    return tuple([await store.get(uuid, order.snapshot_id) for uuid, store in stores.items()])


async def _gather(calls: Iterable[Awaitable[None]]) -> None:
    """All at once; when it raises what one has raised, all have ended."""
    failures = [it for it in await asyncio.gather(*calls, return_exceptions=True) if it is not None]
    if failures:
        raise failures[0]


async def _persist(attempt: Callable[[], Awaitable[T]]) -> T:
    """Tries again when the guest has ended, or begun to run, since it was looked at."""
    for _ in range(_ATTEMPTS - 1):
        with contextlib.suppress(DomainStateConflict):
            return await attempt()
    return await attempt()
