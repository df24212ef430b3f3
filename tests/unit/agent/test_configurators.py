"""Each configurator against its golden file, and the whole against libvirt's own schema and test driver."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import libvirt
import pytest
from lxml import etree

from agent.configure.affinity import configure_affinity
from agent.configure.cloud_init import configure_cloud_init
from agent.configure.console import configure_console
from agent.configure.disk import configure_disks, device_name
from agent.configure.disk_limit import DiskLimit
from agent.configure.firmware import configure_firmware
from agent.configure.graphics import configure_graphics
from agent.configure.growth import configure_growth
from agent.configure.guest_agent import configure_guest_agent
from agent.configure.host_cpu import HostCell, HostCpus
from agent.configure.host_device import configure_host_devices, mark_device, read_mark
from agent.configure.host_profile import HostProfile
from agent.configure.identity import configure_identity
from agent.configure.io_thread import configure_io_threads
from agent.configure.machine import configure_machine
from agent.configure.memory import configure_memory
from agent.configure.nic import configure_nics
from agent.configure.numa import configure_numa
from agent.configure.optical import configure_optical_drives
from agent.configure.pcie import configure_pcie
from agent.configure.pipeline import CONFIGURATORS, Configurator, build_domain
from agent.configure.processor import configure_processor
from agent.configure.rng import configure_rng
from agent.configure.tpm import configure_tpm
from agent.domainxml.disk import DiskSource
from agent.domainxml.domain import Domain
from agent.domainxml.element import format_document, parse_document
from agent.domainxml.metadata import AssignedDevice
from agent.domainxml.tuning import EmulatorPin
from agent.errors import AgentError, CapabilityMissing, CpuPinned, CpusExhausted, RequestInvalid
from agent.storage.base import RbdSource
from protos.agent.v1.domain_pb2 import (
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
from tests.unit.agent.assigned_device import (
    CARD,
    DISK,
    PORT,
    SOURCES,
    VGPU,
    WISHES,
    a_device,
)
from tests.unit.agent.guest_builder import (
    DATA_VOLUME_UUID,
    GIB,
    ISO_ID,
    SUBNET_ID,
    VOLUME_UUID,
    AVolume,
    a_cell,
    a_drive,
    a_host,
    a_seed,
    a_spec,
    host_cpus,
)

GOLDEN = Path(__file__).parents[2] / "data" / "domainxml"
# Set this to write the golden files anew, then read the difference.
UPDATE = "NODEWRIGHT_UPDATE_GOLDEN"
SCHEMA = Path("/usr/share/libvirt/schemas/domain.rng")

_TWO_MIB = 2 * 1024**2
# A value that only a newer coordinator would know.
_UNKNOWN: Any = 9
_SECOND_NIC = Nic(port_id="port-2", mac_address="52:54:00:00:00:02", subnet_id=SUBNET_ID)
_DISKS = [
    Disk(volume_uuid=VOLUME_UUID, bus=DiskBus.DISK_BUS_VIRTIO, boot_index=1),
    Disk(volume_uuid=DATA_VOLUME_UUID, bus=DiskBus.DISK_BUS_SCSI, boot_index=2, read_only=True),
]
_SATA_DRIVE = OpticalDrive(number=2, bus=DiskBus.DISK_BUS_SATA)
_BUSES = (DiskBus.DISK_BUS_VIRTIO, DiskBus.DISK_BUS_SCSI, DiskBus.DISK_BUS_SATA)


def _many_disks(*buses: DiskBus) -> tuple[list[Disk], HostProfile]:
    """Disks on these buses, and a node that has their volumes."""
    uuids = [f"{index:08x}-7e64-4a7e-9c60-0e2a4a7a7d12" for index in range(len(buses))]
    disks = [Disk(volume_uuid=uuid, bus=bus) for uuid, bus in zip(uuids, buses, strict=True)]
    return disks, a_host(volumes={uuid: AVolume(Path(f"/srv/agent/volumes/{uuid}.qcow2")) for uuid in uuids})


def _with_seed(domain: Domain, spec: DomainSpec, host: HostProfile) -> Domain:
    return configure_cloud_init(configure_disks(domain, spec, host), spec, host)


def _with_room(domain: Domain, spec: DomainSpec, host: HostProfile) -> Domain:
    return configure_growth(configure_processor(configure_memory(domain, spec, host), spec, host), spec, host)


def _with_io_threads(domain: Domain, spec: DomainSpec, host: HostProfile) -> Domain:
    return configure_io_threads(configure_disks(domain, spec, host), spec, host)


def _with_ports(domain: Domain, spec: DomainSpec, host: HostProfile) -> Domain:
    """A guest without a screen, and so without USB."""
    headless = configure_graphics(domain, DomainSpec(), host)
    return configure_pcie(configure_host_devices(headless, spec, host), spec, host)


_SIXTEEN_SCSI, _SIXTEEN_SCSI_HOST = _many_disks(*[DiskBus.DISK_BUS_SCSI] * 16)
_EQUIPPED, _EQUIPPED_HOST = a_spec(host_devices=WISHES), a_host(host_devices=SOURCES)
_MIXED, _MIXED_HOST = _many_disks(*_BUSES * 7)

# On two of the node's cells, with both threads of a core on each: CPUs 0 and 8, 4 and 12.
_DEDICATED = a_spec(vcpus=4, cells=[a_cell(0, 0, 8), a_cell(1, 4, 12)], has_virtual_numa=True)
# Without SMT to speak of: its pins are halves of cores.
_HALVES = a_spec(cells=[a_cell(0, 1, 2, memory_bytes=2 * GIB)])
_FLOATING = a_spec(vcpus=3, cells=[a_cell(1, vcpus=3, memory_bytes=2 * GIB)])
_NEIGHBOUR = host_cpus({4: "ecs-neighbour", 12: "ecs-neighbour"})

# Of one volume several guests have a share; both types are limited.
_SHARING_HOST = a_host(
    volumes={
        **a_host().volumes,
        DATA_VOLUME_UUID: AVolume(Path("/srv/agent/volumes/data.raw"), "raw", shared=True, volume_type="hdd"),
    },
    disk_limits={
        "hdd": DiskLimit(total_iops=500, total_bytes_per_second=50 * 1024**2, burst_factor=3, burst_seconds=60),
        "ssd": DiskLimit(read_iops=4000, write_iops=2000),
    },
)
CASES: dict[str, tuple[Configurator, DomainSpec, HostProfile]] = {
    "identity": (configure_identity, a_spec(), a_host()),
    "machine": (configure_machine, a_spec(), a_host()),
    "memory": (configure_memory, a_spec(), a_host()),
    "memory-huge-pages": (configure_memory, a_spec(huge_page_bytes=_TWO_MIB), a_host()),
    "memory-locked": (configure_memory, a_spec(memory_locked=True), a_host()),
    "memory-locked-huge-pages": (
        configure_memory,
        a_spec(memory_locked=True, huge_page_bytes=_TWO_MIB),
        a_host(),
    ),
    "identity-cells": (configure_identity, _DEDICATED, a_host()),
    "processor-threads": (configure_processor, _DEDICATED, a_host()),
    "processor-halves": (configure_processor, _HALVES, a_host()),
    "numa-virtual": (configure_numa, _DEDICATED, a_host()),
    "numa-hidden": (configure_numa, a_spec(cells=[a_cell(0), a_cell(1)]), a_host()),
    "growth": (_with_room, a_spec(max_vcpus=8, max_memory_bytes=16 * GIB), a_host()),
    "growth-vcpus": (_with_room, a_spec(max_vcpus=8), a_host()),
    "growth-none": (configure_growth, a_spec(max_vcpus=1), a_host()),
    "numa-none": (configure_numa, a_spec(), a_host()),
    "affinity-dedicated": (configure_affinity, _DEDICATED, a_host()),
    "affinity-cell": (configure_affinity, _FLOATING, a_host(cpus=_NEIGHBOUR)),
    "affinity-floating": (configure_affinity, a_spec(), a_host(cpus=_NEIGHBOUR)),
    "affinity-everywhere": (configure_affinity, a_spec(), a_host()),
    "processor-passthrough": (configure_processor, a_spec(), a_host()),
    "processor-emulated": (configure_processor, a_spec(), a_host(domain_type="qemu")),
    "processor-custom": (
        configure_processor,
        a_spec(cpu_mode=CpuMode.CPU_MODE_CUSTOM, cpu_model="EPYC"),
        a_host(),
    ),
    "processor-conservative": (configure_processor, a_spec(cpu_mode=CpuMode.CPU_MODE_CUSTOM), a_host()),
    "processor-256": (configure_processor, a_spec(vcpus=256), a_host()),
    "firmware-bios": (configure_firmware, a_spec(), a_host()),
    "firmware-uefi": (configure_firmware, a_spec(firmware=Firmware.FIRMWARE_UEFI), a_host()),
    "firmware-secure-boot": (configure_firmware, a_spec(firmware=Firmware.FIRMWARE_UEFI_SECURE_BOOT), a_host()),
    "tpm-none": (configure_tpm, a_spec(), a_host()),
    "tpm-1.2": (configure_tpm, a_spec(tpm=TpmModel.TPM_MODEL_1_2), a_host()),
    "tpm-2.0": (configure_tpm, a_spec(tpm=TpmModel.TPM_MODEL_2_0), a_host()),
    "disks": (configure_disks, a_spec(disks=_DISKS), a_host()),
    "disks-shared": (configure_disks, a_spec(disks=_DISKS), _SHARING_HOST),
    "io-threads": (_with_io_threads, a_spec(vcpus=4, disks=_MIXED[:4]), _MIXED_HOST),
    "io-threads-none": (configure_io_threads, a_spec(vcpus=3), a_host()),
    "disks-page-cache": (configure_disks, a_spec(), a_host(direct_io=False)),
    "disks-16-scsi": (_with_seed, a_spec(disks=_SIXTEEN_SCSI), _SIXTEEN_SCSI_HOST),
    "disks-mixed": (_with_seed, a_spec(disks=_MIXED), _MIXED_HOST),
    "cloud-init": (configure_cloud_init, a_spec(), a_host()),
    "optical-drives": (
        configure_optical_drives,
        a_spec(optical_drives=[a_drive(0, ISO_ID, boot_index=2), a_drive(1), _SATA_DRIVE]),
        a_host(),
    ),
    "nics": (configure_nics, a_spec(nics=[*a_spec().nics, _SECOND_NIC]), a_host()),
    "graphics": (configure_graphics, a_spec(), a_host()),
    "graphics-none": (configure_graphics, DomainSpec(), a_host()),
    "console": (configure_console, a_spec(), a_host()),
    "guest-agent": (configure_guest_agent, a_spec(), a_host()),
    "rng": (configure_rng, a_spec(), a_host()),
    "identity-devices": (configure_identity, _EQUIPPED, _EQUIPPED_HOST),
    "host-devices": (configure_host_devices, _EQUIPPED, _EQUIPPED_HOST),
    "host-devices-ports": (_with_ports, _EQUIPPED, _EQUIPPED_HOST),
    "pcie": (configure_pcie, a_spec(), a_host(spare_pcie_ports=2)),
}

WHOLE: dict[str, DomainSpec] = {
    "plain": a_spec(),
    "secure": a_spec(firmware=Firmware.FIRMWARE_UEFI_SECURE_BOOT, tpm=TpmModel.TPM_MODEL_2_0),
    "uefi-tpm-1.2": a_spec(firmware=Firmware.FIRMWARE_UEFI, tpm=TpmModel.TPM_MODEL_1_2),
    "custom-cpu": a_spec(cpu_mode=CpuMode.CPU_MODE_CUSTOM),
    "many": a_spec(vcpus=256, disks=_DISKS, nics=[*a_spec().nics, _SECOND_NIC], huge_page_bytes=_TWO_MIB),
    "16-scsi": a_spec(disks=_SIXTEEN_SCSI),
    "mixed": a_spec(disks=_MIXED),
    "dedicated": _DEDICATED,
    "locked": a_spec(cells=[a_cell(0, 1, 2, memory_bytes=2 * GIB)], memory_locked=True, huge_page_bytes=_TWO_MIB),
    "floating-cell": _FLOATING,
    "equipped": _EQUIPPED,
    "bare": DomainSpec(uuid=a_spec().uuid, name="bare", vcpus=1, memory_bytes=GIB),
}
_VOLUMES = {**a_host().volumes, **_MIXED_HOST.volumes}


@pytest.mark.parametrize("name", CASES)
def test_a_configurator_writes_its_golden_elements(name: str) -> None:
    configure, spec, host = CASES[name]
    written = format_document(configure(Domain(host.domain_type), spec, host))
    golden = GOLDEN / f"{name}.xml"
    if UPDATE in os.environ:
        golden.write_text(written)
    assert written == golden.read_text()


def test_every_configurator_has_a_golden_file() -> None:
    assert {configure for configure, _, _ in CASES.values()} - {
        _with_seed,
        _with_ports,
        _with_room,
        _with_io_threads,
    } == set(CONFIGURATORS)


def test_a_disk_that_is_shared_and_limited_is_valid_and_never_in_a_page_cache() -> None:
    schema = etree.RelaxNG(etree.parse(SCHEMA))
    spec = a_spec(disks=_DISKS, vcpus=4)
    document = etree.fromstring(format_document(build_domain(spec, _SHARING_HOST)))
    assert schema.validate(document), schema.error_log
    with pytest.raises(CapabilityMissing, match="page cache"):
        build_domain(spec, replace(_SHARING_HOST, direct_io=False))


@pytest.mark.parametrize(
    ("name", "domain_type"), [*((name, "kvm") for name in WHOLE), *((name, "qemu") for name in WHOLE if name != "many")]
)
def test_a_whole_domain_is_valid_by_the_schema_of_libvirt(name: str, domain_type: str) -> None:
    spec = WHOLE[name]
    schema = etree.RelaxNG(etree.parse(SCHEMA))
    document = etree.fromstring(
        format_document(build_domain(spec, a_host(domain_type=domain_type, volumes=_VOLUMES, host_devices=SOURCES)))
    )
    assert schema.validate(document), schema.error_log


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_domain_survives_formatting_and_parsing(name: str) -> None:
    domain = build_domain(WHOLE[name], a_host(volumes=_VOLUMES, host_devices=SOURCES))
    assert parse_document(Domain, format_document(domain)) == domain


@pytest.fixture(scope="module")
def test_driver() -> Iterator[libvirt.virConnect]:
    handle = libvirt.open("test:///default")
    yield handle
    handle.close()


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_domain_is_defined_by_the_test_driver(name: str, test_driver: libvirt.virConnect) -> None:
    # The driver knows no firmware descriptions, and hence takes no domain that asks libvirt to choose one.
    spec = DomainSpec()
    spec.CopyFrom(WHOLE[name])
    spec.firmware = Firmware.FIRMWARE_BIOS
    host = a_host(domain_type="test" if spec.vcpus < 256 else "kvm", volumes=_VOLUMES, host_devices=SOURCES)
    document = format_document(build_domain(spec, host))
    document = document.replace('<domain type="kvm">', '<domain type="test">')
    domain = test_driver.defineXMLFlags(document, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
    assert domain.UUIDString() == spec.uuid
    domain.undefine()


@pytest.mark.parametrize(
    ("cells", "topology"),
    [
        # Both threads of two cores: in the guest, too.
        ([a_cell(0, 0, 8, 1, 9)], (1, 2, 2)),
        # The same CPUs, but no two in a row are one core.
        ([a_cell(0, 0, 1, 8, 9)], (1, 4, 1)),
        # The second core is half of one.
        ([a_cell(0, 0, 8, 1)], (1, 3, 1)),
        ([a_cell(0, vcpus=4)], (1, 4, 1)),
        # A socket for each cell.
        ([a_cell(0, 0, 8, 1, 9), a_cell(1, 4, 12, 5, 13)], (2, 2, 2)),
        # Cells of different size are whole sockets as well.
        ([a_cell(0, 0, 8), a_cell(1, 4, 12, 5, 13)], (3, 1, 2)),
        ([a_cell(0, vcpus=3), a_cell(1, vcpus=4)], (7, 1, 1)),
    ],
)
def test_a_guest_is_arranged_like_what_it_has_of_the_node(cells: list[Any], topology: tuple[int, int, int]) -> None:
    vcpus = sum(cell.vcpus for cell in cells)
    spec = a_spec(vcpus=vcpus, memory_bytes=len(cells) * GIB, cells=cells, has_virtual_numa=True)
    cpu = build_domain(spec, a_host()).cpu
    assert cpu is not None
    assert cpu.topology is not None
    assert (cpu.topology.sockets, cpu.topology.cores, cpu.topology.threads) == topology
    # Only CPUs of AMD need to be told that their threads are to be seen.
    assert bool(cpu.features) == (topology[2] > 1)
    other = build_domain(spec, a_host(cpu_vendor="Intel")).cpu
    assert other is not None
    assert not other.features


@pytest.mark.parametrize(
    ("cell_vcpus", "needs_iommu"), [((127, 127), False), ((128, 127), False), ((129, 129), True), ((85, 85, 85), True)]
)
def test_the_numbers_of_cpus_have_gaps_that_may_need_interrupt_remapping(
    cell_vcpus: tuple[int, ...], needs_iommu: bool
) -> None:
    cells = [a_cell(number, vcpus=vcpus) for number, vcpus in enumerate(cell_vcpus)]
    spec = a_spec(vcpus=sum(cell_vcpus), memory_bytes=len(cells) * GIB, cells=cells, has_virtual_numa=True)
    node = HostCpus(tuple(HostCell(number, (frozenset((number,)),)) for number in range(3)))
    assert (build_domain(spec, a_host(cpus=node)).devices.iommu is not None) == needs_iommu


def test_the_password_of_the_screen_is_cut_to_what_the_protocol_takes_and_never_printed() -> None:
    domain = build_domain(a_spec(graphics=Graphics(vnc_password="hush-hush-too-long")), a_host())
    assert domain.devices.graphics[0].password == "hush-hus"
    assert "hush-hus" not in repr(domain)


def test_a_guest_keeps_free_root_ports_however_many_devices_it_starts_with() -> None:
    def free_ports(spec: DomainSpec) -> int:
        devices = build_domain(spec, a_host(spare_pcie_ports=5)).devices
        ports = sum(controller.model == "pcie-root-port" for controller in devices.controllers)
        others = sum(c.type in ("scsi", "virtio-serial") or c.model == "qemu-xhci" for c in devices.controllers)
        virtio_disks = sum(disk.target.bus == "virtio" for disk in devices.disks)
        return ports - others - virtio_disks - len(devices.interfaces) - len(devices.rngs) - 1  # the balloon

    assert free_ports(WHOLE["bare"]) == free_ports(WHOLE["plain"]) == free_ports(WHOLE["many"]) == 5


def test_disks_are_named_like_the_kernel_names_them() -> None:
    assert [device_name("vd", index) for index in (0, 1, 25, 26, 27, 701, 702)] == [
        "vda",
        "vdb",
        "vdz",
        "vdaa",
        "vdab",
        "vdzz",
        "vdaaa",
    ]


REFUSED: dict[str, tuple[DomainSpec, type[AgentError], str]] = {
    "uuid in capitals": (a_spec(uuid=a_spec().uuid.upper()), RequestInvalid, "uuid"),
    "no uuid": (a_spec(uuid=""), RequestInvalid, "uuid"),
    "name with a slash": (a_spec(name="../x"), RequestInvalid, "name"),
    "no CPU": (a_spec(vcpus=0), RequestInvalid, "vcpus"),
    "too many CPUs": (a_spec(vcpus=289), RequestInvalid, "vcpus"),
    "no memory": (a_spec(memory_bytes=0), RequestInvalid, "memory_bytes"),
    "half a page": (a_spec(memory_bytes=3 * 1024**2, huge_page_bytes=_TWO_MIB), RequestInvalid, "memory_bytes"),
    "title with a line break": (a_spec(title="a\nb"), RequestInvalid, "title"),
    "label with a null": (a_spec(labels={"a": "\0"}), RequestInvalid, "labels"),
    "unknown volume": (a_spec(disks=[Disk(volume_uuid=a_spec().uuid)]), RequestInvalid, "volume_uuid"),
    "volume twice": (a_spec(disks=[*a_spec().disks] * 2), RequestInvalid, "volume_uuid"),
    "unknown bus": (a_spec(disks=[Disk(volume_uuid=VOLUME_UUID, bus=_UNKNOWN)]), RequestInvalid, "bus"),
    "unknown firmware": (a_spec(firmware=_UNKNOWN), RequestInvalid, "firmware"),
    "multicast MAC": (
        a_spec(nics=[Nic(port_id="p", mac_address="53:54:00:12:34:56", subnet_id=SUBNET_ID)]),
        RequestInvalid,
        "mac_address",
    ),
    "unknown subnet": (
        a_spec(nics=[Nic(port_id="p", mac_address="52:54:00:12:34:56", subnet_id="snet-x")]),
        RequestInvalid,
        "subnet_id",
    ),
    "hash with a line break": (
        a_spec(cloud_init=a_seed(password_hash="$6$a$b\nroot::0")),
        RequestInvalid,
        "password_hash",
    ),
    "key with a line break": (a_spec(cloud_init=a_seed(ssh_public_keys=["a\nb"])), RequestInvalid, "ssh_public_keys"),
    "host name with a space": (a_spec(cloud_init=a_seed(hostname="a b")), RequestInvalid, "hostname"),
    "CPU model that is not here": (
        a_spec(cpu_mode=CpuMode.CPU_MODE_CUSTOM, cpu_model="Icelake-Server"),
        CapabilityMissing,
        "cpu_model",
    ),
    "cells with too few CPUs": (a_spec(cells=[a_cell(0, memory_bytes=2 * GIB)]), RequestInvalid, r"cells\.vcpus"),
    "a cell without CPUs": (
        a_spec(cells=[a_cell(0, vcpus=2), a_cell(1, vcpus=0)]),
        RequestInvalid,
        r"cells\.vcpus",
    ),
    "cells with too little memory": (a_spec(cells=[a_cell(0, vcpus=2)]), RequestInvalid, r"cells\.memory_bytes"),
    "a cell with half a page": (
        a_spec(
            huge_page_bytes=_TWO_MIB, cells=[a_cell(0, memory_bytes=GIB - 1024), a_cell(1, memory_bytes=GIB + 1024)]
        ),
        RequestInvalid,
        r"cells\.memory_bytes",
    ),
    "a cell twice": (a_spec(cells=[a_cell(0), a_cell(0)]), RequestInvalid, "host_cell"),
    "a cell that is not here": (a_spec(cells=[a_cell(0), a_cell(2)]), RequestInvalid, "host_cell"),
    "half pinned": (a_spec(cells=[a_cell(0, 1), a_cell(1)]), RequestInvalid, "pinned_cpu_ids"),
    "too many pins": (
        a_spec(cells=[GuestCell(vcpus=2, memory_bytes=2 * GIB, pinned_cpu_ids=[0, 1, 2])]),
        RequestInvalid,
        "pinned_cpu_ids",
    ),
    "a CPU twice": (a_spec(cells=[a_cell(0, 3, 3, memory_bytes=2 * GIB)]), RequestInvalid, "pinned_cpu_ids"),
    "a CPU of another cell": (a_spec(cells=[a_cell(0, 3, 4, memory_bytes=2 * GIB)]), RequestInvalid, "pinned_cpu_ids"),
    "virtual NUMA without cells": (a_spec(has_virtual_numa=True), RequestInvalid, "has_virtual_numa"),
    "a device without a UUID": (a_spec(host_devices=[a_device(1, "x", uuid="")]), RequestInvalid, "host_devices.uuid"),
    "a device's UUID in capitals": (
        a_spec(host_devices=[a_device(1, "x", uuid=CARD.uuid.upper())]),
        RequestInvalid,
        "host_devices.uuid",
    ),
    "a device without an id": (a_spec(host_devices=[a_device(1, "")]), RequestInvalid, "device_id"),
    "a device that is not prepared": (a_spec(host_devices=[CARD]), RequestInvalid, "host_devices.uuid"),
    "one UUID for two devices": (
        a_spec(host_devices=[a_device(1, "x"), a_device(1, "y")]),
        RequestInvalid,
        "host_devices.uuid: given twice",
    ),
    "a whole device twice": (
        a_spec(host_devices=[a_device(1, "x"), a_device(2, "x")]),
        RequestInvalid,
        "device_id: given twice",
    ),
    "a place in the boot order twice": (
        a_spec(host_devices=[a_device(1, "x", boot_index=1)]),
        RequestInvalid,
        "boot_index: given twice",
    ),
    "the MAC of a port again": (
        a_spec(host_devices=[a_device(1, "x", mac_address="52:54:00:12:34:56")]),
        RequestInvalid,
        "mac_address: given twice",
    ),
    "a function's multicast MAC": (
        a_spec(host_devices=[a_device(1, "x", mac_address="53:54:00:12:34:56")]),
        RequestInvalid,
        "mac_address: a multicast",
    ),
    "a VLAN without a MAC": (
        a_spec(host_devices=[a_device(1, "x", vlan_id=4)]),
        RequestInvalid,
        "mac_address: needed",
    ),
    "a VLAN that is none": (
        a_spec(host_devices=[a_device(1, "x", mac_address="52:54:00:aa:00:04", vlan_id=4095)]),
        RequestInvalid,
        "vlan_id",
    ),
    "a whole vGPU": (
        a_spec(host_devices=[a_device(1, "x", vgpu_type_id="nvidia-222", native=True)]),
        RequestInvalid,
        "native: not of a vGPU",
    ),
    "a vGPU to start from": (
        a_spec(host_devices=[a_device(1, "x", vgpu_type_id="nvidia-222", boot_index=7)]),
        RequestInvalid,
        "boot_index: not of a vGPU",
    ),
    "another architecture": (
        a_spec(architecture=Architecture.ARCHITECTURE_AARCH64),
        CapabilityMissing,
        "architecture",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_a_guest_is_refused_by_the_name_of_its_field(name: str) -> None:
    spec, error, field = REFUSED[name]
    with pytest.raises(error, match=field):
        build_domain(spec, a_host())


@pytest.mark.parametrize(
    ("spec", "host", "field"),
    [
        (a_spec(firmware=Firmware.FIRMWARE_UEFI), a_host(firmwares=frozenset(("bios",))), "firmware"),
        (a_spec(tpm=TpmModel.TPM_MODEL_2_0), a_host(tpm_versions=frozenset()), "tpm"),
        (a_spec(cpu_mode=CpuMode.CPU_MODE_CUSTOM), a_host(cpu_models=frozenset()), "cpu_model"),
        (a_spec(vcpus=256), a_host(domain_type="qemu"), "vcpus"),
        (a_spec(host_devices=[CARD]), a_host(host_devices=SOURCES, machine="pc-i440fx-7.2"), "host_devices"),
        (a_spec(), a_host(machine="pc-q35-6.0", machines=frozenset(("q35", "pc-q35-7.2"))), "machine"),
    ],
)
def test_a_node_refuses_what_it_lacks(spec: DomainSpec, host: HostProfile, field: str) -> None:
    with pytest.raises(CapabilityMissing, match=field):
        build_domain(spec, host)


def test_a_cpu_of_another_guest_is_refused_with_the_name_of_its_owner() -> None:
    with pytest.raises(CpuPinned, match=r"pinned_cpu_ids: CPU 4 is pinned by ecs-neighbour"):
        build_domain(_DEDICATED, a_host(cpus=_NEIGHBOUR))


@pytest.mark.parametrize(
    ("spec", "pinned"),
    [(a_spec(), range(16)), (_FLOATING, (4, 5, 6, 7, 12, 13, 14, 15))],
)
def test_a_guest_that_has_nowhere_to_float_is_refused(spec: DomainSpec, pinned: Iterable[int]) -> None:
    with pytest.raises(CpusExhausted, match="is pinned by another guest"):
        build_domain(spec, a_host(cpus=host_cpus(dict.fromkeys(pinned, "ecs-neighbour"))))


@pytest.mark.parametrize(
    ("others", "emulator"),
    [
        ((), {2, 3, 8, 9, 10, 11}),
        # Nothing is left of its own cell.
        ((2, 3, 8, 9, 10, 11), {4, 5, 6, 7, 12, 13, 14, 15}),
        # Nothing is left at all.
        ((2, 3, *range(4, 16)), {0, 1}),
    ],
)
def test_the_rest_of_qemu_stays_off_the_pins_while_it_can(others: tuple[int, ...], emulator: set[int]) -> None:
    spec = a_spec(cells=[a_cell(0, 0, 1, memory_bytes=2 * GIB)])
    domain = build_domain(spec, a_host(cpus=host_cpus(dict.fromkeys(others, "ecs-neighbour"))))
    assert domain.cpu_tune is not None
    assert domain.cpu_tune.emulator_pin == EmulatorPin(frozenset(emulator))


def test_a_disk_of_the_node_needs_no_pci_express() -> None:
    host = a_host(host_devices=SOURCES, machine="pc-i440fx-7.2")
    assert configure_host_devices(Domain("kvm"), a_spec(host_devices=[DISK]), host).devices.disks


def test_an_address_is_for_functions_of_network_cards_only() -> None:
    wish = a_device(1, "0000:3b:00.0", mac_address="52:54:00:aa:00:04")
    with pytest.raises(RequestInvalid, match=r"mac_address: .* is no function of a network card"):
        build_domain(a_spec(host_devices=[wish]), a_host(host_devices=SOURCES))


def test_a_whole_mediated_device_is_not_started_from() -> None:
    wish = a_device(2, "mdev-mtty", boot_index=5)
    with pytest.raises(RequestInvalid, match="boot_index"):
        build_domain(a_spec(host_devices=[wish]), a_host(host_devices=SOURCES))


def test_a_card_takes_one_port_and_the_others_keep_theirs_when_it_comes() -> None:
    without = build_domain(a_spec(), a_host()).devices.controllers
    with_card = build_domain(a_spec(host_devices=[CARD, VGPU, PORT]), a_host(host_devices=SOURCES)).devices
    ports = [c for c in with_card.controllers if c.model == "pcie-root-port"]
    assert len(ports) == sum(c.model == "pcie-root-port" for c in without) + 3
    card = [hostdev for hostdev in with_card.hostdevs if hostdev.address]
    assert [(h.address and (h.address.bus, h.address.function)) for h in card] == [
        (f"0x{len(ports):02x}", f"0x{number}") for number in range(3)
    ]


def test_a_virtual_iommu_tells_devices_what_the_guest_maps() -> None:
    spec = a_spec(vcpus=256, host_devices=[CARD])
    iommu = build_domain(spec, a_host(host_devices=SOURCES)).devices.iommu
    assert iommu is not None
    assert iommu.driver is not None
    assert iommu.driver.caching_mode


def test_what_was_asked_for_is_in_the_metadata_and_comes_back() -> None:
    for wish in WISHES:
        mark = mark_device(wish)
        assert read_mark(parse_document(AssignedDevice, format_document(mark))) == wish


def test_a_block_device_is_opened_as_one_and_past_the_page_cache() -> None:
    source = AVolume(Path(f"/dev/fast/nw-{VOLUME_UUID}"), format="raw", kind="block")
    host = a_host(volumes={VOLUME_UUID: source}, direct_io=False)
    [disk] = configure_disks(Domain("kvm"), a_spec(disks=_DISKS[:1]), host).devices.disks
    assert (disk.type, disk.source) == ("block", DiskSource(device=str(source.path)))
    assert disk.driver is not None
    assert (disk.driver.type, disk.driver.cache, disk.driver.io, disk.driver.discard) == (
        "raw",
        "none",
        "native",
        "unmap",
    )


def test_an_image_in_ceph_is_opened_with_a_key_that_only_libvirt_has() -> None:
    access = RbdSource(Path("/etc/ceph/ceph.conf"), "nodewright", "6b1e8c1e-7e64-4a7e-9c60-0e2a4a7a7d11")
    source = AVolume(Path(f"guests/nw-{VOLUME_UUID}"), format="raw", kind="network", rbd=access)
    [disk] = configure_disks(
        Domain("kvm"), a_spec(disks=_DISKS[:1]), a_host(volumes={VOLUME_UUID: source})
    ).devices.disks
    assert (disk.type, disk.driver and disk.driver.cache) == ("network", "writeback")
    assert disk.source is not None
    assert "".join(map(str.strip, format_document(disk.source).splitlines())) == (
        f'<source protocol="rbd" name="guests/nw-{VOLUME_UUID}"><config file="/etc/ceph/ceph.conf"/>'
        '<auth username="nodewright"><secret type="ceph" uuid="6b1e8c1e-7e64-4a7e-9c60-0e2a4a7a7d11"/></auth></source>'
    )
