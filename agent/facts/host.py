"""The node's facts and inventory as the API tells them."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Protocol

import psutil

from agent.cpu_list import parse_cpu_list
from agent.devices.base import GpuMode, Versions
from agent.devices.survey import (
    CompleteDevices,
    DeviceSurvey,
    ReadUsers,
    keep_as_found,
    read_no_users,
    read_no_versions,
)
from agent.facts.cpu import collect_cpu
from agent.facts.disk import collect_disks
from agent.facts.memory import Memory
from agent.facts.nic import collect_nics
from agent.facts.numa import collect_numa
from agent.facts.sysfs import DeviceProperties, Sysfs, read_udev_properties
from agent.storage.base import StorageCapacity
from agent.storage.space import Place
from agent.watchdog.lease import read_boot_id
from protos.agent.v1.host_pb2 import (
    ACCELERATOR_KVM,
    ACCELERATOR_TCG,
    ARCHITECTURE_AARCH64,
    ARCHITECTURE_UNSPECIFIED,
    ARCHITECTURE_X86_64,
    HostFacts,
    HostInventory,
    StoragePlace,
)

_ARCHITECTURES: Final = {"x86_64": ARCHITECTURE_X86_64, "aarch64": ARCHITECTURE_AARCH64}
_NESTED: Final = ("module/kvm_intel/parameters/nested", "module/kvm_amd/parameters/nested")


class HypervisorCapability(Protocol):
    """What facts need to know of libvirt and QEMU."""

    @property
    def domain_type(self) -> str:
        """ "kvm" when guests really run under it."""

    @property
    def accelerator_reason(self) -> str:
        """Why they do not."""

    @property
    def host_cpu_model(self) -> str:
        """libvirt's name of the CPU model that comes nearest."""

    @property
    def libvirt_version(self) -> str:
        """ "major.minor.release"."""

    @property
    def qemu_version(self) -> str:
        """ "major.minor.release"."""

    @property
    def traits(self) -> tuple[str, ...]:
        """Named abilities."""


async def _no_local_storage() -> int:
    return 0


async def _no_storage() -> str:
    return ""


async def _no_places() -> Sequence[Place]:
    return ()


def _no_locks() -> bool:
    return False


@dataclass(frozen=True)
class HostReader:
    """Reads the node. Facts raise HypervisorUnavailable while libvirt is away."""

    machine_uuid: str
    read_capability: Callable[[], Awaitable[HypervisorCapability]]
    read_storage: Callable[[], Awaitable[StorageCapacity]]
    sysfs: Sysfs = Sysfs()  # noqa: RUF009 - frozen
    read_properties: DeviceProperties = read_udev_properties
    read_device_users: ReadUsers = read_no_users
    procfs: Path = Path("/proc")
    # The node's address by network role.
    read_role_addresses: Callable[[], Mapping[str, str]] = dict
    # Identity of the place of volumes; empty: shared with nobody.
    read_storage_id: Callable[[], Awaitable[str]] = _no_storage
    read_boot_id: Callable[[], str] = read_boot_id
    # Whether libvirt locks disks.
    read_disk_locks: Callable[[], bool] = _no_locks
    read_gpu_mode: Callable[[], GpuMode] = GpuMode
    complete_devices: CompleteDevices = keep_as_found
    read_versions: Callable[[], Awaitable[Versions]] = read_no_versions
    # See Surroundings.
    may_move_vgpus: bool = True
    # Bytes for elastic local disks.
    read_local_storage: Callable[[], Awaitable[int]] = _no_local_storage
    # Where volumes are.
    read_places: Callable[[], Awaitable[Sequence[Place]]] = _no_places

    @property
    def survey(self) -> DeviceSurvey:
        """The node's devices."""
        return DeviceSurvey(
            self.sysfs,
            self.read_properties,
            self.read_device_users,
            self.procfs,
            self.read_role_addresses,
            self.read_gpu_mode,
            self.complete_devices,
            self.read_versions,
            self.may_move_vgpus,
        )

    async def facts(self, memory: Memory | None = None) -> HostFacts:
        """Facts of the hardware and the software; without a memory of what is known all of it is read."""
        return await asyncio.to_thread(self._collect, await self.read_capability(), memory or Memory())

    async def inventory(self, memory: Memory | None = None) -> HostInventory:
        """What the node offers to guests at this moment; the same."""
        storage = await self.read_storage()
        return HostInventory(
            vcpus=len(self._online_cpus()),
            memory_bytes=psutil.virtual_memory().total,
            storage_bytes=storage.total_bytes,
            storage_free_bytes=storage.free_bytes,
            storage_id=await self.read_storage_id(),
            local_storage_bytes=await self.read_local_storage(),
            devices=await self.survey.discover(await self.survey.look_anyway(memory)),
            storage_places=[_encode_place(place) for place in await self.read_places()],
        )

    def _collect(self, capability: HypervisorCapability, memory: Memory) -> HostFacts:
        memory_bytes = psutil.virtual_memory().total
        facts = HostFacts(
            hostname=platform.node(),
            machine_uuid=self.machine_uuid,
            architecture=_ARCHITECTURES.get(platform.machine(), ARCHITECTURE_UNSPECIFIED),
            accelerator=ACCELERATOR_KVM if capability.domain_type == "kvm" else ACCELERATOR_TCG,
            accelerator_reason=capability.accelerator_reason,
            cpu=collect_cpu(self.sysfs, libvirt_model=capability.host_cpu_model),
            memory_bytes=memory_bytes,
            numa_nodes=collect_numa(self.sysfs, cpu_ids=self._online_cpus(), memory_bytes=memory_bytes),
            disks=collect_disks(self.sysfs, self.read_properties, memory),
            nics=collect_nics(self.sysfs, memory),
            operating_system=_operating_system(),
            kernel_release=platform.release(),
            libvirt_version=capability.libvirt_version,
            qemu_version=capability.qemu_version,
            agent_version=agent_version(),
            traits=sorted({*capability.traits, *self._nested_trait(), *self._lock_trait()}),
            role_addresses=self.read_role_addresses(),
            boot_id=self.read_boot_id(),
        )
        facts.booted_at.FromSeconds(int(psutil.boot_time()))
        return facts

    def _online_cpus(self) -> list[int]:
        return parse_cpu_list(self.sysfs.read("devices/system/cpu/online")) or list(range(psutil.cpu_count() or 1))

    def _nested_trait(self) -> tuple[str, ...]:
        return ("nested",) if any(self.sysfs.read(path) in ("Y", "1") for path in _NESTED) else ()

    def _lock_trait(self) -> tuple[str, ...]:
        return ("disk-locks",) if self.read_disk_locks() else ()


def _encode_place(place: Place) -> StoragePlace:
    told = StoragePlace(volume_types=sorted(place.volume_types), **(asdict(place.space) if place.space else {}))
    if place.silent_since:
        told.silent_since.FromDatetime(place.silent_since)
    return told


def agent_version() -> str:
    """The version of the installed distribution."""
    try:
        return version("nodewright")
    except PackageNotFoundError:
        return "0"


def _operating_system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return platform.system()
