"""From what is asked to a domain in libvirt, and back to nothing: configurators, seeds and libvirt together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from agent.assignment import Assignments
from agent.configure.check import check_spec
from agent.configure.host_profile import HostProfile, NetworkSource, VolumeSource
from agent.configure.pipeline import build_domain
from agent.domainxml.element import format_document
from agent.errors import DomainForeign, DomainGenerationStale, GuestIncompatible
from agent.hypervisor.affinity import Affinities
from agent.hypervisor.description import GuestDescription
from agent.hypervisor.disk_change import DiskPlugs
from agent.hypervisor.guest import Guests
from agent.storage.image_cache import CachedImage
from agent.storage.seed import Seeds
from protos.agent.v1.domain_pb2 import DomainSpec, OpticalDrive


class VolumeDirectory(Protocol):
    """Knows the volumes of the node."""

    async def describe_volume(self, uuid: str) -> VolumeSource:
        """Where the volume is."""


class SubnetDirectory(Protocol):
    """Knows the virtual networks of the node."""

    async def describe_subnet(self, subnet_id: str) -> NetworkSource:
        """The network of a subnet."""


class ImageDirectory(Protocol):
    """Knows the images of the node."""

    async def find(self, image_id: str) -> CachedImage | None:
        """The verified image."""


class HaGuests(Protocol):
    """Knows which guests must not run without a lease."""

    def set_guest(self, uuid: str, *, ha_enabled: bool) -> None:
        """Is told before libvirt is. Raises LeaseFailed."""

    def forget(self, uuid: str) -> None:
        """The guest is gone for good."""


# Path of the image ("POOL/IMAGE"), UUID of the domain.
CheckImage = Callable[[Path, str], Awaitable[None]]


# By the UUID of a volume.
Unlock = Callable[[str], Awaitable[None]]


async def _stay_locked(_volume_uuid: str) -> None:
    """Nothing is encrypted."""


async def _admit(_path: Path, _domain_uuid: str) -> None:
    """Nothing is in Ceph."""


class Definitions:
    """Makes and removes the definitions of guests; both may be repeated at any time."""

    def __init__(
        self,
        guests: Guests,
        affinities: Affinities,
        seeds: Seeds,
        profile: Callable[[], Awaitable[HostProfile]],
        *,
        volumes: VolumeDirectory,
        images: ImageDirectory,
        subnets: SubnetDirectory,
        ha_guests: HaGuests,
        assignments: Assignments,
        disks: DiskPlugs,
        check_image: CheckImage = _admit,
        unlock: Unlock = _stay_locked,
    ) -> None:
        """`check_image` refuses a domain's image in Ceph that another guest, on whatever node, has open.

        `unlock`: guests can open that encrypted volume.
        """
        self._guests = guests
        self._affinities = affinities
        self._seeds = seeds
        self._profile = profile
        self._volumes = volumes
        self._images = images
        self._subnets = subnets
        self._ha_guests = ha_guests
        self._assignments = assignments
        self._disks = disks
        self._check_image = check_image
        self._unlock = unlock

    async def ensure_defined(self, spec: DomainSpec) -> GuestDescription:
        """libvirt holds the definition and the seed is on disk; a running guest keeps running.

        When it pins CPUs, all other guests have made room. Raises RequestInvalid, CapabilityMissing, CpuPinned,
        CpusExhausted, DomainForeign, DomainGenerationStale, and what the directories and the provider of devices raise.
        """
        check_spec(spec)
        known = await self._guests.find(spec.uuid)
        if known is not None and known.foreign:
            raise DomainForeign(f"domain {known.name} ({spec.uuid}) was not created by Nodewright")
        if known is not None and known.generation > spec.generation:
            # Before devices are prepared for what is overtaken.
            raise DomainGenerationStale(f"domain {spec.uuid} has generation {known.generation}, not {spec.generation}")
        host = await self._host_for(spec)
        if known is not None:
            # Disks that are there stay where they are, whatever was detached before them.
            host = replace(host, disk_places=await self._disks.read_places(spec.uuid))
        host = replace(host, host_devices=await self._assignments.prepare(spec.uuid, spec.host_devices))
        # The hardware that a guest was installed on does not change when QEMU is upgraded, or is another node's.
        host = replace(host, machine=(known and known.machine) or spec.machine or host.machine)
        pins = frozenset(cpu for cell in spec.cells for cpu in cell.pinned_cpu_ids)
        async with self._affinities.defining(spec.uuid, spec.name, pins) as cpus:
            return await self._define(spec, replace(host, cpus=cpus))

    async def check_startable(self, uuid: str) -> None:
        """The guest can be started, with all of its devices, which its definition names as they are now.

        Raises CpusExhausted when other guests have pinned all CPUs that it could float on, DomainNotFound,
        DomainForeign, VolumeInUse, VolumeKeyUnavailable, and what the provider of its devices raises.
        """
        await self._affinities.check_startable(uuid)
        for path in await self._disks.read_images(uuid):
            await self._check_image(path, uuid)
        for volume_uuid in await self._disks.read_encrypted(uuid):
            await self._unlock(volume_uuid)
        await self._assignments.make_ready(uuid)

    async def ensure_removed(self, uuid: str) -> None:
        """No domain, NVRAM, TPM state, seed nor serial log of this UUID is left. Ends a running guest.

        CPUs that it had pinned are everybody's again.
        """
        await self._guests.remove(uuid)
        self._ha_guests.forget(uuid)
        await self._affinities.settle()
        await self.remove_files(uuid)

    async def remove_files(self, uuid: str) -> None:
        """No seed nor serial log of this UUID is left."""
        host = await self._profile()
        self._seeds.ensure_removed(uuid)
        await asyncio.to_thread(_remove_logs, host.serial_log(uuid))

    async def prepare_incoming(self, spec: DomainSpec, machine: str) -> str:
        """The definition that a guest from another node will have here, as libvirt's XML; its files are there.

        Its vGPUs are made, and stay until they are released. Raises what `ensure_defined` raises, GuestIncompatible for
        a guest with other devices of its node; libvirt gets the definition from the source.
        """
        check_spec(spec)
        if not all(wish.vgpu_type_id for wish in spec.host_devices):
            raise GuestIncompatible(
                "spec.host_devices: of devices of its node a guest that runs takes only vGPUs along"
            )
        host = await self._host_for(spec)
        if any(source.kind == "block" for source in host.volumes.values()):
            raise GuestIncompatible("spec.disks: no disk of a guest that runs is moved into a logical volume")
        host = replace(host, host_devices=await self._assignments.prepare(spec.uuid, spec.host_devices))
        host = replace(host, machine=machine or host.machine, cpus=await self._affinities.look(spec.uuid))
        domain = build_domain(spec, host)
        await self._make_files(spec, host)
        # It is not here yet, whatever was here under this UUID before.
        self._ha_guests.set_guest(spec.uuid, ha_enabled=spec.ha_enabled)
        return format_document(domain)

    async def read_profile(self) -> HostProfile:
        """The node, before any guest."""
        return await self._profile()

    async def _make_files(self, spec: DomainSpec, host: HostProfile) -> None:
        host.serial_log_directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        if spec.HasField("cloud_init"):
            await self._seeds.ensure(spec.uuid, spec.cloud_init, [nic.mac_address for nic in spec.nics])

    async def _define(self, spec: DomainSpec, host: HostProfile) -> GuestDescription:
        domain = build_domain(spec, host)
        await self._make_files(spec, host)
        if spec.ha_enabled:
            self._ha_guests.set_guest(spec.uuid, ha_enabled=True)
        description = await self._guests.define(domain, generation=spec.generation)
        # What libvirt does not know yet must not be unguarded.
        self._ha_guests.set_guest(spec.uuid, ha_enabled=spec.ha_enabled)
        if not spec.HasField("cloud_init"):
            self._seeds.ensure_removed(spec.uuid)
        return description

    async def _host_for(self, spec: DomainSpec) -> HostProfile:
        host = await self._profile()
        volumes = {disk.volume_uuid: await self._volumes.describe_volume(disk.volume_uuid) for disk in spec.disks}
        networks = {nic.subnet_id: await self._subnets.describe_subnet(nic.subnet_id) for nic in spec.nics}
        images = await find_media(self._images, spec.optical_drives)
        return replace(host, volumes=volumes, networks=networks, images=images)


async def find_media(images: ImageDirectory, drives: Iterable[OpticalDrive]) -> dict[str, Path]:
    """Files of what is to be in the drives, as far as they are on the node, by image id."""
    wanted = {drive.image.image_id for drive in drives if drive.HasField("image")}
    found = [image for image_id in wanted if (image := await images.find(image_id)) is not None]
    return {image.ref.image_id: image.path for image in found if image.ref.format == "iso"}


def _remove_logs(log: Path) -> None:
    """virtlogd keeps older parts as NAME.0, NAME.1 …"""
    for path in (log, *log.parent.glob(f"{log.name}.*")):
        path.unlink(missing_ok=True)
