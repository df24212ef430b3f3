"""The backends of a node as one: a new volume goes where its type says, others are found where they are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, Literal

import structlog

from agent.errors import AgentError, CapabilityMissing, SnapshotUnsupported, StorageFailed
from agent.storage.base import Resize, StorageBackend, StorageCapacity, Volume, VolumeSource, VolumeSpec
from agent.storage.directory import DirectoryBackend
from agent.storage.lvm import LvmBackend
from agent.storage.rbd import RbdBackend
from agent.storage.space import Place, SpaceMeter

# Stands for all types that are not named.
ANY_TYPE: Final = "*"
_SWEEP_SECONDS: Final = 3600.0

# Of volumes that flavors bring along: they are in a group of their own, or not at all.
ELASTIC_TYPE: Final = "elasticity"

_Place = DirectoryBackend | LvmBackend | RbdBackend

log = structlog.get_logger(__name__)

# By the UUID of a volume.
Unlock = Callable[[str], Awaitable[None]]


async def _stay_locked(_uuid: str) -> None:
    """Nothing is encrypted."""


class StorageChoice:
    """The directory, and volume groups and pools by type of volume. A StorageBackend, too."""

    def __init__(
        self,
        directory: DirectoryBackend,
        groups: Mapping[str, LvmBackend | RbdBackend],
        *,
        unlock: Unlock = _stay_locked,
        forget_key: Unlock = _stay_locked,
    ) -> None:
        """`unlock`: guests can open that encrypted volume. `forget_key`: nobody on the node can any more."""
        self._directory = directory
        self._unlock = unlock
        self._forget_key = forget_key
        self._by_type = groups
        # One backend may serve several types.
        self._groups = list(dict.fromkeys(groups.values()))
        self._meters: dict[_Place, SpaceMeter] = {
            place: SpaceMeter(place, types) for place, types in self._list_places().items()
        }

    async def prepare(self) -> None:
        """What a crash left half-made in the groups is gone, except in those that are away."""
        for group in self._groups:
            try:
                await group.prepare()
            except AgentError as error:
                log.warning("volume_group.not_prepared", reason=error.message)

    async def run(self) -> None:
        """Removes from pools what nobody needs there, until it is cancelled."""
        pools = [group for group in self._groups if isinstance(group, RbdBackend)]
        while True:
            for pool in pools:
                try:
                    await pool.sweep()
                except AgentError as error:
                    log.warning("pool.not_swept", pool=pool.tool.pool, reason=error.message)
            await asyncio.sleep(_SWEEP_SECONDS)

    async def ensure_volume(self, spec: VolumeSpec) -> Volume:
        """See StorageBackend; a volume that is there stays where it is, whatever its type is mapped to now.

        So none is made while a group is away that may have it: StorageFailed.
        """
        home: StorageBackend | None = await self.find_home(spec.uuid)
        if home is None:
            self._check_elastic(spec.volume_type)
        mapped = self._mapped(spec.volume_type)
        chosen = home or mapped or self._directory
        if spec.encrypted and chosen is not self._directory:
            raise CapabilityMissing("encrypted: volumes in LVM and Ceph are not encrypted by the node")
        return await chosen.ensure_volume(spec)

    async def grow_volume(self, uuid: str, size_bytes: int, resize: Resize) -> Volume:
        """See StorageBackend."""
        return await (await self._home(uuid)).grow_volume(uuid, size_bytes, resize)

    async def ensure_removed(self, uuid: str) -> None:
        """See StorageBackend: also where it is half made."""
        if await self._directory.find_volume(uuid) is None:
            for group in self._groups:
                await group.ensure_removed(uuid)
        await self._directory.ensure_removed(uuid)
        await self._forget_key(uuid)

    async def list_volumes(self) -> list[Volume]:
        """See StorageBackend."""
        volumes = await self._directory.list_volumes()
        for group in self._groups:
            volumes += await group.list_volumes()
        return volumes

    async def describe_volume(self, uuid: str) -> VolumeSource:
        """See StorageBackend; guests can open the volume. Raises VolumeKeyRefused, VolumeKeyUnavailable, too."""
        source = await self.locate_source(uuid)
        if source.encrypted:
            await self._unlock(uuid)
        return source

    async def locate_source(self, uuid: str) -> VolumeSource:
        """The same for who does not look into the volume: an encrypted one stays locked."""
        return await (await self._home(uuid)).describe_volume(uuid)

    async def check_volume(self, uuid: str, domain_uuid: str) -> None:
        """The domain may open the volume. Raises VolumeInUse where nothing else keeps two guests from one disk."""
        for pool in [group for group in self._groups if isinstance(group, RbdBackend)]:
            if await pool.has_volume(uuid):
                await pool.refuse_while_others_have(uuid, domain_uuid)

    async def check_image(self, path: Path, domain_uuid: str) -> None:
        """The same, of an image that a definition names. Raises VolumeInUse."""
        for pool in [group for group in self._groups if isinstance(group, RbdBackend)]:
            if (uuid := pool.volume_of(path)) is not None:
                await pool.refuse_while_others_have(uuid, domain_uuid)

    async def capacity(self) -> StorageCapacity:
        """See StorageBackend: of all that new volumes go to, those left out that are away.

        That for elastic local disks is counted by itself.
        """
        places = [place for place in await self.places() if place.volume_types and not place.silent_since]
        # Several places may be in one space.
        spaces = {place.space.pool_id: place.space for place in places if place.space}.values()
        return StorageCapacity(sum(it.total_bytes for it in spaces), sum(it.free_bytes for it in spaces))

    async def places(self) -> list[Place]:
        """Where volumes are, besides elastic local disks; without waiting for what is silent."""
        return list(await asyncio.gather(*(meter.read() for meter in self._meters.values())))

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
        """See StorageBackend: of where volumes of no named type are made, while that is away as it was told last.

        Groups are never shared.
        """
        home = self._by_type.get(ANY_TYPE)
        place = await self._meters[home if isinstance(home, RbdBackend) else self._directory].read()
        return place.space.storage_id if place.space else ""

    async def volumes_backed_by(self, image_id: str) -> list[str]:
        """UUIDs of the volumes that need the image: logical volumes, and pools, hold all of their own."""
        return await self._directory.volumes_backed_by(image_id)

    async def locate(self, uuids: Iterable[str]) -> dict[str, str]:
        """Identities of the places where volumes are, by their UUIDs; without those that are nowhere here.

        Raises StorageFailed while a place is away that may have one.
        """
        homes = {uuid: await self.find_home(uuid) for uuid in uuids}
        return {uuid: await home.storage_id() for uuid, home in homes.items() if home}

    async def find_home(self, uuid: str) -> DirectoryBackend | LvmBackend | RbdBackend | None:
        """The backend that has the volume; None when there is no such."""
        absence: StorageFailed | None = None
        try:
            if await self._directory.find_volume(uuid) is not None:
                return self._directory
        except StorageFailed as error:
            # What is in a group can be had meanwhile.
            absence = error
        for group in self._groups:
            if await group.has_volume(uuid):
                return group
        if absence:
            raise absence
        return None

    async def find_group(self, uuid: str) -> LvmBackend | None:
        """The volume group that has the volume; None: it is elsewhere, or nowhere."""
        home = await self.find_home(uuid)
        return home if isinstance(home, LvmBackend) else None

    def group_of(self, volume_type: str) -> LvmBackend | None:
        """Where copies of this type are made; None: in the directory.

        Raises CapabilityMissing for pools of Ceph, and for elastic local disks where none are made.
        """
        self._check_elastic(volume_type)
        mapped = self._mapped(volume_type)
        if isinstance(mapped, RbdBackend):
            raise CapabilityMissing(f"volume type {volume_type} is in Ceph, where no copies are brought to yet")
        return mapped

    async def get_volume(self, uuid: str) -> Volume:
        """The complete volume, wherever it is. Raises VolumeNotFound."""
        return await (await self.find_home(uuid) or self._directory).get_volume(uuid)

    async def get_movable(self, uuid: str) -> Volume:
        """The same, if it can be sent to another node.

        Raises VolumeNotFound, CapabilityMissing (is in Ceph), SnapshotUnsupported (its snapshots cannot go along).
        """
        home = await self.find_home(uuid)
        if isinstance(home, RbdBackend):
            raise CapabilityMissing(f"volume {uuid} is in Ceph, from where nothing is moved yet")
        if isinstance(home, LvmBackend) and await home.list_snapshots(uuid):
            raise SnapshotUnsupported(f"volume {uuid} has snapshots, which its thin pool keeps: delete them first")
        return await (home or self._directory).get_volume(uuid)

    async def address_of(self, uuid: str) -> tuple[str, Literal["qcow2", "raw"]]:
        """What QEMU's tools call the volume, and its format. Raises VolumeNotFound."""
        home = await self.find_home(uuid)
        source = await (home or self._directory).describe_volume(uuid)
        address = home.tool.address(home.name_of(uuid)) if isinstance(home, RbdBackend) else str(source.path)
        return address, source.format

    async def refuse_while_open(self, uuid: str) -> None:
        """Raises VolumeInUse while somebody has it open for writing."""
        home = await self.find_home(uuid)
        if home is None or isinstance(home, DirectoryBackend):
            await self._directory.refuse_while_open(uuid, for_writing=True)
        else:
            await home.refuse_while_open(uuid)

    def _list_places(self) -> dict[_Place, list[str]]:
        """Where volumes are made, and of which types; the directory may have some in any case."""
        types: dict[_Place, list[str]] = {self._directory: [] if ANY_TYPE in self._by_type else [ANY_TYPE]}
        for volume_type, group in self._by_type.items():
            if group is not self._by_type.get(ELASTIC_TYPE):
                types.setdefault(group, []).append(volume_type)
        return types

    def _check_elastic(self, volume_type: str) -> None:
        if volume_type == ELASTIC_TYPE and ELASTIC_TYPE not in self._by_type:
            raise CapabilityMissing("volume_type: this node has no volume group for elastic local disks")

    def pool_of(self, volume_type: str) -> RbdBackend | None:
        """Where copies of this type are made of what is in Ceph; None: its volumes are elsewhere."""
        mapped = self._mapped(volume_type)
        return mapped if isinstance(mapped, RbdBackend) else None

    def _mapped(self, volume_type: str) -> LvmBackend | RbdBackend | None:
        return self._by_type.get(volume_type) or self._by_type.get(ANY_TYPE)

    async def _home(self, uuid: str) -> StorageBackend:
        # The directory tells best that there is no such volume.
        return await self.find_home(uuid) or self._directory
