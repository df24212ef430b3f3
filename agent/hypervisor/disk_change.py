"""Disks of guests: plugged in, pulled out and grown, by the guest that runs and by the definition."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import libvirt

from agent.configure.disk import make_serial
from agent.domainxml.disk import DiskPlace
from agent.errors import DomainNotFound
from agent.hypervisor.affinity import Affinities
from agent.hypervisor.connection import Connection
from agent.hypervisor.disk_edit import (
    BuildDisk,
    by_key,
    change_medium,
    define_disk,
    define_drive,
    forget_disk,
    plug_disk,
    read_encrypted,
    read_images,
    read_places,
    replug_disk,
    resize_disk,
)
from agent.hypervisor.events import CHANGED, DomainEvents
from agent.hypervisor.guest import find_owned
from agent.hypervisor.unplug import TIMEOUT_SECONDS, Unplugs


class DiskPlugs:
    """Changes which volumes guests have. Everything may be repeated, and goes on where it was."""

    def __init__(
        self,
        connection: Connection,
        events: DomainEvents,
        affinities: Affinities,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._events = events
        # Changes definitions as well; each is read, changed and written.
        self._affinities = affinities
        self._unplugs = Unplugs(connection, events, monotonic=monotonic)

    async def read_places(self, uuid: str) -> dict[str, DiskPlace]:
        """Where the guest has its disks, by `Disk.key`. Raises DomainNotFound, DomainForeign."""
        return await self._connection.call(lambda handle: read_places(find_owned(handle, uuid)))

    async def read_images(self, uuid: str) -> list[Path]:
        """What the guest will have open in Ceph, "POOL/IMAGE". Raises DomainNotFound, DomainForeign."""
        return await self._connection.call(lambda handle: read_images(find_owned(handle, uuid)))

    async def read_encrypted(self, uuid: str) -> list[str]:
        """UUIDs of encrypted volumes that the guest will have open. Raises DomainNotFound, DomainForeign."""
        return await self._connection.call(lambda handle: read_encrypted(find_owned(handle, uuid)))

    async def attach(self, uuid: str, build: BuildDisk) -> None:
        """The guest has the disk, live when it runs, and by its definition.

        Raises DomainNotFound, DomainForeign, DevicePlugUnsafe when it must be off for this, VolumeInUse,
        RequestInvalid.
        """

        def run(handle: libvirt.virConnect) -> None:
            domain = find_owned(handle, uuid)
            plug_disk(domain, build)
            self._events.announce(domain, CHANGED)

        await self._connection.call(run, timeout_seconds=TIMEOUT_SECONDS)
        async with self._affinities.undisturbed():
            await self._connection.call(lambda handle: define_disk(find_owned(handle, uuid), build))

    async def change_medium(self, uuid: str, build: BuildDisk, *, force: bool) -> None:
        """The drive has in it what is to be there, live when the guest runs, and by its definition.

        Raises DomainNotFound, DomainForeign, DevicePlugUnsafe when the running guest has no such drive, MediumLocked.
        """
        await self._connection.call(
            lambda handle: change_medium(find_owned(handle, uuid), build, force=force), timeout_seconds=TIMEOUT_SECONDS
        )
        async with self._affinities.undisturbed():
            await self._connection.call(lambda handle: define_drive(find_owned(handle, uuid), build))

    async def unplug(self, uuid: str, volume_uuid: str, *, grace_seconds: float) -> None:
        """The guest was asked to let go of the disk, and has. Raises what `Unplugs.unplug` raises."""
        await self._unplugs.unplug(uuid, by_key(make_serial(volume_uuid)), grace_seconds=grace_seconds)

    async def forget(self, uuid: str, volume_uuid: str) -> bool:
        """The definition does not have the disk; False, and nothing changes, while the running guest has it."""

        def run(handle: libvirt.virConnect) -> bool:
            try:
                domain = find_owned(handle, uuid)
            except DomainNotFound:
                return True
            return forget_disk(domain, make_serial(volume_uuid))

        async with self._affinities.undisturbed():
            return await self._connection.call(run)

    async def replug(self, uuid: str, volume_uuid: str) -> bool:
        """A guest that runs has the disk again, if it should have it; whether it should.

        Raises DomainNotFound, DomainForeign, DevicePlugUnsafe.
        """

        def run(handle: libvirt.virConnect) -> bool:
            return replug_disk(find_owned(handle, uuid), make_serial(volume_uuid))

        return await self._connection.call(run, timeout_seconds=TIMEOUT_SECONDS)

    async def resize(self, uuid: str, volume_uuid: str, size_bytes: int) -> bool:
        """The guest that runs sees its disk with this size; False when it is off, gone, or does not have it."""

        def run(handle: libvirt.virConnect) -> bool:
            try:
                domain = find_owned(handle, uuid)
            except DomainNotFound:
                return False
            return resize_disk(domain, make_serial(volume_uuid), size_bytes)

        return await self._connection.call(run, timeout_seconds=TIMEOUT_SECONDS)
