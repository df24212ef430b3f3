"""The snapshots of all volumes of a node, in whatever backend those are."""

from __future__ import annotations

from agent.errors import VolumeNotFound
from agent.storage.choice import StorageChoice
from agent.storage.directory import DirectoryBackend
from agent.storage.lvm import LvmBackend
from agent.storage.lvm_snapshot import LvmSnapshots
from agent.storage.rbd import RbdBackend
from agent.storage.rbd_snapshot import RbdSnapshots
from agent.storage.snapshot import SnapshotStore
from agent.storage.snapshot_file import SnapshotFiles


class VolumeSnapshots:
    """One store a backend."""

    def __init__(self, everywhere: StorageChoice) -> None:
        self._everywhere = everywhere
        self._stores: dict[DirectoryBackend | LvmBackend | RbdBackend, SnapshotStore] = {}

    async def of(self, uuid: str) -> SnapshotStore:
        """Who keeps the volume's. Raises VolumeNotFound, StorageFailed, StorageUnavailable."""
        home = await self._everywhere.find_home(uuid)
        if home is None:
            raise VolumeNotFound(f"volume {uuid} does not exist on this node")
        store = self._stores.get(home)
        if store is None:
            store = self._stores[home] = _make(home)
        return store


def _make(home: DirectoryBackend | LvmBackend | RbdBackend) -> SnapshotStore:
    if isinstance(home, LvmBackend):
        return LvmSnapshots(home)
    return RbdSnapshots(home) if isinstance(home, RbdBackend) else SnapshotFiles(home)
