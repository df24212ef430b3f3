"""Volumes and the guests that have them: attached, detached and grown while guests run or are off."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

import structlog

from agent.configure.disk import build_disk
from agent.configure.host_profile import HostProfile, VolumeSource
from agent.configure.optical import build_drive, make_key
from agent.definition import ImageDirectory, find_media
from agent.domain_lock import DomainLocks
from agent.domainxml.disk import Disk, DiskPlace
from agent.errors import AgentError
from agent.handover import Handovers
from agent.hypervisor.disk_change import DiskPlugs
from agent.hypervisor.events import DEVICE_REMOVED, DomainEvents
from agent.storage.base import Resize, Volume
from protos.agent.v1 import domain_pb2

log = structlog.get_logger(__name__)


class GrowingVolumes(Protocol):
    """The volumes of the node, as far as guests have them."""

    async def describe_volume(self, uuid: str) -> VolumeSource:
        """Where the volume is. Raises VolumeNotFound."""

    async def grow_volume(self, uuid: str, size_bytes: int, resize: Resize) -> Volume:
        """See StorageBackend."""


# UUIDs of the volume and of the domain.
CheckVolume = Callable[[str, str], Awaitable[None]]


async def _admit(_volume_uuid: str, _domain_uuid: str) -> None:
    """QEMU sees to it."""


class DiskAttachments:
    """Gives volumes to guests and takes them back; every call may be repeated."""

    def __init__(
        self,
        plugs: DiskPlugs,
        volumes: GrowingVolumes,
        images: ImageDirectory,
        profile: Callable[[], Awaitable[HostProfile]],
        locks: DomainLocks,
        *,
        check_volume: CheckVolume = _admit,
    ) -> None:
        """`check_volume` refuses a volume that another guest has open where QEMU would not."""
        self._plugs = plugs
        self._volumes = volumes
        self._images = images
        self._profile = profile
        self._locks = locks
        self._check_volume = check_volume
        self._handovers = Handovers(locks)
        # What guests were asked to let go of, and have not: they may still do so when they hear it.
        self._refused: set[tuple[str, str]] = set()

    async def attach(self, domain_uuid: str, disk: domain_pb2.Disk) -> None:
        """The guest has the volume, plugged in when it runs.

        Raises DomainNotFound, DomainForeign, VolumeNotFound, VolumeInUse, DevicePlugUnsafe, RequestInvalid.
        """
        source = await self._volumes.describe_volume(disk.volume_uuid)
        await self._check_volume(disk.volume_uuid, domain_uuid)
        host = replace(await self._profile(), volumes={disk.volume_uuid: source})

        def build(disks: Sequence[Disk], known: Mapping[str, DiskPlace]) -> Disk:
            return build_disk(disk, replace(host, disk_places=known), disks)

        plug = partial(self._plugs.attach, domain_uuid, build)
        await self._handovers.attach(domain_uuid, disk.volume_uuid, plug)

    async def detach(self, domain_uuid: str, volume_uuid: str, *, grace_seconds: float) -> None:
        """The guest does not have the volume, nor will have it after a start. Raises DeviceStillAttached."""
        self._refused.add((domain_uuid, volume_uuid))
        await self._handovers.detach(
            domain_uuid,
            volume_uuid,
            grace_seconds=grace_seconds,
            unplug=partial(self._plugs.unplug, domain_uuid, volume_uuid),
            forget=partial(self._plugs.forget, domain_uuid, volume_uuid),
        )
        self._refused.discard((domain_uuid, volume_uuid))

    async def insert(self, domain_uuid: str, drive: domain_pb2.OpticalDrive, *, force: bool) -> None:
        """The guest's drive has the image in it, or nothing.

        Raises DomainNotFound, DomainForeign, ImageNotFound, DevicePlugUnsafe, MediumLocked unless it is forced.
        """
        host = replace(await self._profile(), images=await find_media(self._images, [drive]))

        def build(disks: Sequence[Disk], known: Mapping[str, DiskPlace]) -> Disk:
            return build_drive(drive, replace(host, disk_places=known), disks)

        key = make_key(drive.number)
        await self._handovers.attach(
            domain_uuid, key, partial(self._plugs.change_medium, domain_uuid, build, force=force)
        )

    async def restore(self, domain_uuid: str) -> None:
        """What the guest has let go of too late is plugged in again: everybody was told that it keeps it."""
        for domain, volume in [pair for pair in self._refused if pair[0] == domain_uuid]:
            # Not while the guest is asked once more.
            async with self._handovers.lock(domain, volume), self._locks.of(domain):
                if (domain, volume) not in self._refused:
                    continue
                # libvirt may have forgotten its key.
                await self._volumes.describe_volume(volume)
                if not await self._plugs.replug(domain, volume):
                    self._refused.discard((domain, volume))

    async def grow(self, volume_uuid: str, size_bytes: int, domain_uuid: str) -> Volume:
        """The volume has at least this size, and the guest, if one is named and runs, sees it.

        Raises VolumeNotFound, RequestInvalid when it would shrink, StorageExhausted, VolumeInUse.
        """

        async def resize(size_bytes: int) -> bool:
            return bool(domain_uuid) and await self._plugs.resize(domain_uuid, volume_uuid, size_bytes)

        async with self._handovers.lock(domain_uuid, volume_uuid):
            return await self._volumes.grow_volume(volume_uuid, size_bytes, resize)


class DiskReturn:
    """Notices guests that let go of a disk after it was said that they keep it."""

    def __init__(self, attachments: DiskAttachments, events: DomainEvents) -> None:
        self._attachments = attachments
        self._events = events

    async def run(self) -> None:
        """Looks at what guests let go of, until it is cancelled."""
        async with self._events.subscribe() as changes:
            while True:
                change = await changes.get()
                if change.kind == DEVICE_REMOVED:
                    try:
                        await self._attachments.restore(change.uuid)
                    except AgentError as error:
                        log.warning("disk.not_restored", domain=change.uuid, reason=error.message)
