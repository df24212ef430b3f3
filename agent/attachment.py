"""Volumes and the guests that have them: attached, detached and grown while guests run or are off."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from agent.configure.disk import build_disk
from agent.configure.host_profile import HostProfile, VolumeSource
from agent.detachment import Detachments
from agent.domain_lock import DomainLocks
from agent.domainxml.disk import Disk, DiskPlace
from agent.hypervisor.disk_change import DiskPlugs
from agent.storage.base import Resize, Volume
from protos.agent.v1 import domain_pb2


class GrowingVolumes(Protocol):
    """The volumes of the node, as far as guests have them."""

    async def describe_volume(self, uuid: str) -> VolumeSource:
        """Where the volume is. Raises VolumeNotFound."""

    async def grow_volume(self, uuid: str, size_bytes: int, resize: Resize) -> Volume:
        """See StorageBackend."""


class DiskAttachments:
    """Gives volumes to guests and takes them back; every call may be repeated."""

    def __init__(
        self,
        plugs: DiskPlugs,
        volumes: GrowingVolumes,
        profile: Callable[[], Awaitable[HostProfile]],
        locks: DomainLocks,
    ) -> None:
        self._plugs = plugs
        self._volumes = volumes
        self._profile = profile
        self._locks = locks
        self._detachments = Detachments(locks)

    async def attach(self, domain_uuid: str, disk: domain_pb2.Disk) -> None:
        """The guest has the volume, plugged in when it runs.

        Raises DomainNotFound, DomainForeign, VolumeNotFound, VolumeInUse, DevicePlugUnsafe, RequestInvalid.
        """
        source = await self._volumes.describe_volume(disk.volume_uuid)
        host = replace(await self._profile(), volumes={disk.volume_uuid: source})

        def build(disks: Sequence[Disk], known: Mapping[str, DiskPlace]) -> Disk:
            return build_disk(disk, replace(host, disk_places=known), disks)

        async with self._detachments.lock(domain_uuid, disk.volume_uuid), self._locks.of(domain_uuid):
            await self._plugs.attach(domain_uuid, build)

    async def detach(self, domain_uuid: str, volume_uuid: str, *, grace_seconds: float) -> None:
        """The guest does not have the volume, nor will have it after a start. Raises DeviceStillAttached."""
        await self._detachments.detach(
            domain_uuid,
            volume_uuid,
            grace_seconds=grace_seconds,
            unplug=partial(self._plugs.unplug, domain_uuid, volume_uuid),
            forget=partial(self._plugs.forget, domain_uuid, volume_uuid),
        )

    async def grow(self, volume_uuid: str, size_bytes: int, domain_uuid: str) -> Volume:
        """The volume has at least this size, and the guest, if one is named and runs, sees it.

        Raises VolumeNotFound, RequestInvalid when it would shrink, StorageExhausted, VolumeInUse.
        """

        async def resize(size_bytes: int) -> bool:
            return bool(domain_uuid) and await self._plugs.resize(domain_uuid, volume_uuid, size_bytes)

        async with self._detachments.lock(domain_uuid, volume_uuid):
            return await self._volumes.grow_volume(volume_uuid, size_bytes, resize)
