"""What libvirt and QEMU of this node can do for guests."""

from __future__ import annotations

import asyncio
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import libvirt
from lxml import etree

from agent.configure.host_profile import DomainType, FirmwareName, HostProfile
from agent.devices.base import Versions
from agent.hypervisor.accelerator import detect_accelerator
from agent.hypervisor.connection import Connection, ConnectionState

_MACHINE: Final = "q35"
_TIMEOUT_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Capability:
    """Abilities of the node as configurators and facts need them."""

    domain_type: DomainType
    # Why KVM is not used; empty when it is.
    accelerator_reason: str
    architecture: str
    machine: str
    # Names of all machines that guests may have; empty: anything goes.
    machines: frozenset[str]
    emulator: str | None
    # Named CPU models that guests can run with, and the one nearest to the host's own CPU.
    cpu_models: frozenset[str]
    host_cpu_model: str
    cpu_vendor: str
    firmwares: frozenset[FirmwareName]
    tpm_versions: frozenset[str]
    # "major.minor.release"; empty when there is none.
    libvirt_version: str
    qemu_version: str

    @property
    def traits(self) -> tuple[str, ...]:
        """The named abilities that the node reports."""
        traits = {f"vtpm-{version}" for version in self.tpm_versions}
        traits |= {"kvm"} if self.domain_type == "kvm" else set()
        traits |= {"uefi"} if "uefi" in self.firmwares else set()
        traits |= {"secure-boot"} if "uefi-secure-boot" in self.firmwares else set()
        return tuple(sorted(traits))

    def host_profile(
        self, *, seed_directory: Path, serial_log_directory: Path, vnc_address: str, direct_io: bool
    ) -> HostProfile:
        """The node as configurators see it, before any guest."""
        return HostProfile(
            domain_type=self.domain_type,
            serial_log_directory=serial_log_directory,
            seed_directory=seed_directory,
            architecture=self.architecture,
            machine=self.machine,
            machines=self.machines,
            emulator=self.emulator,
            cpu_models=self.cpu_models,
            cpu_vendor=self.cpu_vendor,
            firmwares=self.firmwares,
            tpm_versions=self.tpm_versions,
            vnc_address=vnc_address,
            direct_io=direct_io,
        )


class CapabilityReader:
    """The node's capability, read anew after every reconnect: libvirt or QEMU may have been upgraded."""

    def __init__(self, connection: Connection, accelerator_cache: Path) -> None:
        self._connection = connection
        self._accelerator_cache = accelerator_cache
        self._known: Capability | None = None
        self._lock = asyncio.Lock()
        connection.add_listener(self._forget)

    async def get(self) -> Capability:
        """The capability; the first call takes seconds, and runs a probe guest when this boot has seen none yet.

        Raises HypervisorUnavailable.
        """
        async with self._lock:
            if self._known is None:
                self._known = await read_capability(self._connection, self._accelerator_cache)
            return self._known

    def _forget(self, _state: ConnectionState) -> None:
        self._known = None


async def read_capability(connection: Connection, accelerator_cache: Path) -> Capability:
    """Asks libvirt, and runs a probe guest when this boot has seen none yet."""
    if connection.uri.startswith("test:"):
        return await _test_driver_capability(connection)
    architecture = platform.machine()
    host = etree.fromstring(await connection.call(lambda handle: handle.getCapabilities()))
    guests = f"guest[os_type='hvm']/arch[@name='{architecture}']"
    emulator = host.findtext(f"{guests}/emulator") or ""
    accelerator = await detect_accelerator(emulator, accelerator_cache)
    domain_type: DomainType = "kvm" if accelerator.kvm else "qemu"
    guest = etree.fromstring(
        await connection.call(
            lambda handle: handle.getDomainCapabilities(emulator, architecture, _MACHINE, domain_type),
            timeout_seconds=_TIMEOUT_SECONDS,
        )
    )
    libvirt_version, qemu_version = await connection.call(_read_versions)
    return Capability(
        domain_type=domain_type,
        accelerator_reason=accelerator.reason,
        architecture=architecture,
        machine=_MACHINE,
        machines=frozenset(machine.text or "" for machine in host.iterfind(f"{guests}/machine")),
        emulator=emulator,
        cpu_models=_cpu_models(guest),
        host_cpu_model=host.findtext("host/cpu/model") or "",
        cpu_vendor=host.findtext("host/cpu/vendor") or "",
        firmwares=_firmwares(guest),
        tpm_versions=_tpm_versions(guest),
        libvirt_version=libvirt_version,
        qemu_version=qemu_version,
    )


async def _test_driver_capability(connection: Connection) -> Capability:
    """libvirt's test driver runs nothing, and takes any definition for its own architecture."""
    libvirt_version, _ = await connection.call(_read_versions)
    return Capability(
        domain_type="test",
        accelerator_reason="libvirt's test driver runs no guests",
        architecture="x86_64",
        machine=_MACHINE,
        machines=frozenset(),
        emulator=None,
        cpu_models=frozenset(("qemu64",)),
        host_cpu_model="",
        cpu_vendor="",
        firmwares=frozenset(("bios",)),
        tpm_versions=frozenset(),
        libvirt_version=libvirt_version,
        qemu_version="",
    )


async def read_versions(connection: Connection) -> Versions:
    """As they are now. Raises HypervisorUnavailable."""
    libvirt_version, qemu_version = await connection.call(_read_versions)
    return Versions(libvirt_version, qemu_version, platform.release())


def _read_versions(handle: libvirt.virConnect) -> tuple[str, str]:
    return _dotted(handle.getLibVersion()), _dotted(handle.getVersion())


def _dotted(version: int) -> str:
    """libvirt writes 9.1.2 as 9001002."""
    major, rest = divmod(version, 1_000_000)
    return f"{major}.{rest // 1000}.{rest % 1000}"


def _cpu_models(guest: etree._Element) -> frozenset[str]:
    found = guest.iterfind("cpu/mode[@name='custom'][@supported='yes']/model[@usable='yes']")
    return frozenset(model.text or "" for model in found)


def _firmwares(guest: etree._Element) -> frozenset[FirmwareName]:
    firmwares: set[FirmwareName] = {"bios"}
    if "efi" in _enumerated(guest, "os/enum[@name='firmware']"):
        firmwares.add("uefi")
        if "yes" in _enumerated(guest, "os/loader/enum[@name='secure']"):
            firmwares.add("uefi-secure-boot")
    return frozenset(firmwares)


def _tpm_versions(guest: etree._Element) -> frozenset[str]:
    if "emulator" not in _enumerated(guest, "devices/tpm[@supported='yes']/enum[@name='backendModel']"):
        return frozenset()
    return frozenset(_enumerated(guest, "devices/tpm/enum[@name='backendVersion']"))


def _enumerated(guest: etree._Element, path: str) -> list[str]:
    return [value.text or "" for value in guest.iterfind(f"{path}/value")]
