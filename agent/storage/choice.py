"""The backends of a node as one: a new volume goes where its type says, others are found where they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import structlog

from agent.errors import AgentError, CapabilityMissing
from agent.storage.base import Resize, StorageBackend, StorageCapacity, Volume, VolumeSource, VolumeSpec
from agent.storage.directory import DirectoryBackend
from agent.storage.lvm import LvmBackend

# Of volumes that flavors bring along: they are in a group of their own, or not at all.
ELASTIC_TYPE: Final = "elasticity"

log = structlog.get_logger(__name__)


class StorageChoice:
    """The directory, and the volume groups by type of volume. A StorageBackend, too."""

    def __init__(self, directory: DirectoryBackend, groups: Mapping[str, LvmBackend]) -> None:
        self._directory = directory
        self._by_type = groups
        # One backend may serve several types.
        self._groups = list(dict.fromkeys(groups.values()))

    async def prepare(self) -> None:
        """What a crash left half-made in the groups is gone, except in those that are away."""
        for group in self._groups:
            try:
                await group.prepare()
            except AgentError as error:
                log.warning("volume_group.not_prepared", reason=error.message)

    async def ensure_volume(self, spec: VolumeSpec) -> Volume:
        """See StorageBackend; a volume that is there stays where it is, whatever its type is mapped to now.

        So none is made while a group is away that may have it: StorageFailed.
        """
        home: StorageBackend | None = await self._find_home(spec.uuid)
        if home is None and spec.volume_type == ELASTIC_TYPE and ELASTIC_TYPE not in self._by_type:
            raise CapabilityMissing("volume_type: this node has no volume group for elastic local disks")
        home = home or self._by_type.get(spec.volume_type) or self._directory
        return await home.ensure_volume(spec)

    async def grow_volume(self, uuid: str, size_bytes: int, resize: Resize) -> Volume:
        """See StorageBackend."""
        return await (await self._home(uuid)).grow_volume(uuid, size_bytes, resize)

    async def ensure_removed(self, uuid: str) -> None:
        """See StorageBackend: also where it is half made."""
        if await self._directory.find_volume(uuid) is None:
            for group in self._groups:
                await group.ensure_removed(uuid)
        await self._directory.ensure_removed(uuid)

    async def list_volumes(self) -> list[Volume]:
        """See StorageBackend."""
        volumes = await self._directory.list_volumes()
        for group in self._groups:
            volumes += await group.list_volumes()
        return volumes

    async def describe_volume(self, uuid: str) -> VolumeSource:
        """See StorageBackend."""
        return await (await self._home(uuid)).describe_volume(uuid)

    async def capacity(self) -> StorageCapacity:
        """See StorageBackend: of all of them together, those left out that are away."""
        found = [await self._directory.capacity()]
        # That for elastic local disks is counted by itself.
        for group in self._groups:
            if group is self._by_type.get(ELASTIC_TYPE):
                continue
            try:
                found.append(await group.capacity())
            except AgentError as error:
                log.warning("volume_group.away", reason=error.message)
        return StorageCapacity(sum(it.total_bytes for it in found), sum(it.free_bytes for it in found))

    async def local_bytes(self) -> int:
        """What elastic local disks can take, those that are there included; 0 where none are made, or none now."""
        group = self._by_type.get(ELASTIC_TYPE)
        if group is None:
            return 0
        try:
            free_bytes, made = (await group.capacity()).free_bytes, await group.list_volumes()
        except AgentError as error:
            log.warning("volume_group.away", reason=error.message)
            return 0
        # What others have in the group is theirs.
        return free_bytes + sum(volume.allocated_bytes for volume in made)

    async def storage_id(self) -> str:
        """See StorageBackend: the directory's. Groups are never shared."""
        return await self._directory.storage_id()

    async def volumes_backed_by(self, image_id: str) -> list[str]:
        """UUIDs of the volumes that need the image: a logical volume holds all of its own."""
        return await self._directory.volumes_backed_by(image_id)

    async def _home(self, uuid: str) -> StorageBackend:
        # The directory tells best that there is no such volume.
        return await self._find_home(uuid) or self._directory

    async def _find_home(self, uuid: str) -> StorageBackend | None:
        if await self._directory.find_volume(uuid) is not None:
            return self._directory
        for group in self._groups:
            if await group.find_volume(uuid) is not None:
                return group
        return None
