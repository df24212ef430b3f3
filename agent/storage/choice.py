"""The backends of a node as one: a new volume goes where its type says, others are found where they are."""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from agent.errors import AgentError
from agent.storage.base import Resize, StorageBackend, StorageCapacity, Volume, VolumeSource, VolumeSpec
from agent.storage.directory import DirectoryBackend
from agent.storage.lvm import LvmBackend

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
        for group in self._groups:
            try:
                found.append(await group.capacity())
            except AgentError as error:
                log.warning("volume_group.away", reason=error.message)
        return StorageCapacity(sum(it.total_bytes for it in found), sum(it.free_bytes for it in found))

    async def storage_id(self) -> str:
        """See StorageBackend: the directory's. Groups are never shared."""
        return await self._directory.storage_id()

    async def volumes_backed_by(self, image_id: str) -> list[str]:
        """UUIDs of the volumes that need the image: a logical volume holds all of its own."""
        return await self._directory.volumes_backed_by(image_id)

    async def find_group(self, uuid: str) -> LvmBackend | None:
        """The volume group that has the volume; None: the directory, or nobody."""
        if await self._directory.find_volume(uuid) is None:
            for group in self._groups:
                if await group.find_volume(uuid) is not None:
                    return group
        return None

    def group_of(self, volume_type: str) -> LvmBackend | None:
        """Where new volumes of this type are made; None: in the directory."""
        return self._by_type.get(volume_type)

    async def get_volume(self, uuid: str) -> Volume:
        """The complete volume. Raises VolumeNotFound."""
        return await (await self.find_group(uuid) or self._directory).get_volume(uuid)

    async def refuse_while_open(self, uuid: str) -> None:
        """Raises VolumeInUse while somebody has it open for writing."""
        if group := await self.find_group(uuid):
            await group.refuse_while_open(uuid)
        else:
            await self._directory.refuse_while_open(uuid, for_writing=True)

    async def _home(self, uuid: str) -> StorageBackend:
        # The directory tells best that there is no such volume.
        return await self._find_home(uuid) or self._directory

    async def _find_home(self, uuid: str) -> StorageBackend | None:
        if await self._directory.find_volume(uuid) is not None:
            return self._directory
        return await self.find_group(uuid)
