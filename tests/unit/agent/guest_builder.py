"""Specifications of guests and profiles of nodes: each is valid, and takes what the test cares about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from agent.configure.host_cpu import HostCell, HostCpus
from agent.configure.host_profile import HostProfile
from agent.storage.base import RbdSource
from protos.agent.v1.domain_pb2 import (
    CloudInit,
    CpuMode,
    Disk,
    DiskBus,
    DomainSpec,
    Firmware,
    Graphics,
    GuestCell,
    Nic,
    OpticalDrive,
    TpmModel,
)
from protos.agent.v1.host_pb2 import Architecture
from protos.agent.v1.storage_pb2 import ImageFormat, ImageRef

GIB = 1024**3
GUEST_UUID = "5b1e8c1e-7e64-4a7e-9c60-0e2a4a7a7d11"
VOLUME_UUID = "0f1e8c1e-7e64-4a7e-9c60-0e2a4a7a7d12"
DATA_VOLUME_UUID = "7f1e8c1e-7e64-4a7e-9c60-0e2a4a7a7d13"
ISO_ID = "img-5dmc7tzc5auj1b"
SUBNET_ID = "snet-2j328au50t3tjwa9zp12"
VNC_PASSWORD = "hush1234"


@dataclass(frozen=True)
class AVolume:
    """A volume on the node."""

    path: Path
    format: Literal["qcow2", "raw"] = "qcow2"
    kind: Literal["file", "block", "network"] = "file"
    rbd: RbdSource | None = None
    shared: bool = False
    volume_type: str = "ssd"
    encrypted: bool = False


@dataclass(frozen=True)
class ANetwork:
    """A subnet's network on the node."""

    name: str = "nw-2j328au50t3t"


def a_spec(**changes: Any) -> DomainSpec:
    """A guest with one disk, one card, a seed and a screen."""
    values: dict[str, Any] = {
        "uuid": GUEST_UUID,
        "name": "ecs-7751tih23uy93g",
        "title": "Web <1> & 网站",
        "architecture": Architecture.ARCHITECTURE_X86_64,
        "vcpus": 2,
        "memory_bytes": 2 * GIB,
        "cpu_mode": CpuMode.CPU_MODE_HOST_PASSTHROUGH,
        "firmware": Firmware.FIRMWARE_BIOS,
        "tpm": TpmModel.TPM_MODEL_NONE,
        "disks": [Disk(volume_uuid=VOLUME_UUID, bus=DiskBus.DISK_BUS_VIRTIO, boot_index=1)],
        "nics": [Nic(port_id="port-3k9d8f7g6h5j4k3l2m", mac_address="52:54:00:12:34:56", subnet_id=SUBNET_ID)],
        "cloud_init": a_seed(),
        "graphics": Graphics(vnc_password=VNC_PASSWORD),
        "labels": {"tenant": "1234567890123456789", "flavor": "flavor-2c4g"},
        "generation": 3,
    }
    return DomainSpec(**{**values, **changes})


def a_seed(**changes: Any) -> CloudInit:
    """A seed with everything in it."""
    values: dict[str, Any] = {
        "hostname": "web-1",
        "password_hash": "$6$salt$hash",
        "ssh_public_keys": ["ssh-ed25519 AAAAC3Nz one@example", "ssh-rsa AAAAB3Nz two: #2"],
        "user_data": b"#!/bin/sh\ntouch /run/ran\n",
        "instance_id": "ecs-7751tih23uy93g",
    }
    return CloudInit(**{**values, **changes})


def a_drive(number: int = 0, image_id: str = "", *, boot_index: int = 0) -> OpticalDrive:
    """A SCSI drive with that image in it, or empty."""
    image = ImageRef(image_id=image_id, sha256="ab" * 32, format=ImageFormat.IMAGE_FORMAT_ISO, size_bytes=1)
    drive = OpticalDrive(number=number, bus=DiskBus.DISK_BUS_SCSI, boot_index=boot_index)
    if image_id:
        drive.image.CopyFrom(image)
    return drive


def a_cell(host_cell: int, *pins: int, vcpus: int = 1, memory_bytes: int = GIB) -> GuestCell:
    """A cell of a guest that has these CPUs for itself, or floats."""
    vcpus = len(pins) or vcpus
    return GuestCell(host_cell=host_cell, vcpus=vcpus, memory_bytes=memory_bytes, pinned_cpu_ids=pins)


def host_cpus(taken: Mapping[int, str] | None = None, *, threads: int = 2, cores: int = 4) -> HostCpus:
    """Two cells, as Linux numbers them: first one thread of every core, then the others."""
    every = range(2 * cores)
    groups = [frozenset(core + thread * len(every) for thread in range(threads)) for core in every]
    return HostCpus((HostCell(0, tuple(groups[:cores])), HostCell(1, tuple(groups[cores:]))), taken or {})


def a_host(**changes: Any) -> HostProfile:
    """A node with KVM, every firmware, both TPMs, and the volumes and networks of `a_spec`."""
    host = HostProfile(
        domain_type="kvm",
        serial_log_directory=Path("/srv/agent/serial"),
        seed_directory=Path("/srv/agent/seeds"),
        emulator="/usr/bin/qemu-system-x86_64",
        cpu_models=frozenset(("qemu64", "Nehalem", "EPYC")),
        cpu_vendor="AMD",
        cpus=host_cpus(),
        firmwares=frozenset(("bios", "uefi", "uefi-secure-boot")),
        tpm_versions=frozenset(("1.2", "2.0")),
        vnc_address="10.0.0.7",
        direct_io=True,
        volumes={
            VOLUME_UUID: AVolume(Path("/srv/agent/volumes/root.qcow2")),
            DATA_VOLUME_UUID: AVolume(Path("/srv/agent/volumes/data.raw"), "raw"),
        },
        networks={SUBNET_ID: ANetwork()},
        images={ISO_ID: Path(f"/srv/agent/images/{ISO_ID}.iso")},
    )
    return replace(host, **changes)
