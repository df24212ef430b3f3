"""What configurators know about the node, besides what the guest is asked to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from agent.configure.disk_limit import DiskLimit
from agent.configure.host_cpu import HostCpus
from agent.devices.source import DeviceSource
from agent.domainxml.disk import DiskPlace
from agent.storage.base import RbdSource

DomainType = Literal["kvm", "qemu", "test"]
FirmwareName = Literal["bios", "uefi", "uefi-secure-boot"]


class VolumeSource(Protocol):
    """What a volume is on this node."""

    @property
    def path(self) -> Path:
        """The file that QEMU opens."""

    @property
    def format(self) -> Literal["qcow2", "raw"]:
        """Its format, which QEMU is told and never guesses."""

    @property
    def kind(self) -> Literal["file", "block", "network"]:
        """A file, a block device, or an image in Ceph."""

    @property
    def rbd(self) -> RbdSource | None:
        """How QEMU gets at it in Ceph."""

    @property
    def shared(self) -> bool:
        """Whether other guests, here or on other nodes, may have it at the same time."""

    @property
    def volume_type(self) -> str:
        """Kind of storage that it was ordered with."""

    @property
    def encrypted(self) -> bool:
        """Whether QEMU needs the passphrase that libvirt has under the volume's UUID."""


class NetworkSource(Protocol):
    """What a subnet is on this node."""

    @property
    def name(self) -> str:
        """The libvirt network that guests are plugged into."""


@dataclass(frozen=True)
class HostProfile:
    """The node as configurators see it."""

    domain_type: DomainType
    serial_log_directory: Path
    seed_directory: Path
    architecture: str = "x86_64"
    machine: str = "q35"
    # Names of all machines that guests may have here; empty: anything goes.
    machines: frozenset[str] = frozenset()
    emulator: str | None = None
    # Named CPU models that guests can run with here.
    cpu_models: frozenset[str] = frozenset()
    # libvirt's name of who made the node's CPU: "Intel", "AMD"; empty when it does not know.
    cpu_vendor: str = ""
    firmwares: frozenset[FirmwareName] = frozenset(("bios",))
    tpm_versions: frozenset[str] = frozenset()
    vnc_address: str = "127.0.0.1"
    # PCIe root ports that stay free in a new guest, for devices that are plugged into it while it runs.
    spare_pcie_ports: int = 16
    # Whether the file system of the volumes can pass the page cache by.
    direct_io: bool = False
    # Of the guest that is being configured: the CPUs that it may use beside the others, its volumes by volume UUID, its
    # networks by subnet id, its devices of the node by HostDevice.uuid, the places that its disks have by Disk.key.
    cpus: HostCpus = field(default_factory=HostCpus)
    volumes: Mapping[str, VolumeSource] = field(default_factory=dict)
    networks: Mapping[str, NetworkSource] = field(default_factory=dict)
    host_devices: Mapping[str, DeviceSource] = field(default_factory=dict)
    disk_places: Mapping[str, DiskPlace] = field(default_factory=dict)
    # What its disks may do at most, by type of volume.
    disk_limits: Mapping[str, DiskLimit] = field(default_factory=dict)
    # Files of the images that are to be in its drives, by image id.
    images: Mapping[str, Path] = field(default_factory=dict)

    def serial_log(self, uuid: str) -> Path:
        """The file that keeps what a guest writes to its serial console."""
        return self.serial_log_directory / f"{uuid}.log"

    def seed(self, uuid: str) -> Path:
        """The cloud-init image of a guest."""
        return self.seed_directory / f"{uuid}.iso"
