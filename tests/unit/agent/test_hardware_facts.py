"""What a machine is, read from trees that look like /sys of real ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.cpu_list import format_cpu_list, parse_cpu_list
from agent.facts.cpu import collect_cpu
from agent.facts.disk import collect_disks
from agent.facts.nic import collect_nics
from agent.facts.numa import collect_numa
from agent.facts.sysfs import Sysfs, read_udev_properties
from protos.agent.v1.host_pb2 import BlockDevice, CpuCore, CpuFacts, HugePages, NetworkInterface, NumaNode
from tests.unit.agent.network_namespace import network_namespaces
from tests.unit.agent.sysfs_builder import Machine

GIB = 1024**3
CPUINFO = """processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC 9654 96-Core Processor
cpu MHz\t\t: 1500.000

processor\t: 1
vendor_id\t: Somebody
model name\t: Something else
"""
SCSI_HOST = "pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def cpuinfo(tmp_path: Path) -> Path:
    path = tmp_path / "cpuinfo"
    path.write_text(CPUINFO)
    return path


def nothing(_subsystem: str, _name: str) -> Mapping[str, str]:
    """udev knows nothing."""
    return {}


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("", []), ("0", [0]), ("0-3", [0, 1, 2, 3]), ("0-1,8,10-11", [0, 1, 8, 10, 11])],
)
def test_lists_of_cpus_are_those_of_the_kernel(text: str, numbers: list[int]) -> None:
    assert parse_cpu_list(text) == numbers
    assert format_cpu_list(reversed(numbers)) == text


class TestProcessor:
    """Model and topology."""

    def test_two_sockets_with_threads_are_counted(self, machine: Machine, cpuinfo: Path) -> None:
        machine.add_processors(sockets=2, cores=4, threads=2)
        machine.write("devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", 3707812)
        assert collect_cpu(machine.sysfs, libvirt_model="EPYC-Genoa", cpuinfo=cpuinfo) == CpuFacts(
            model_name="AMD EPYC 9654 96-Core Processor",
            vendor="AuthenticAMD",
            libvirt_model="EPYC-Genoa",
            sockets=2,
            cores_per_socket=4,
            threads_per_core=2,
            logical_cpus=16,
            frequency_mhz=3707,
        )

    def test_only_what_is_online_counts(self, machine: Machine, cpuinfo: Path) -> None:
        machine.add_processors(sockets=2, cores=4, threads=2, online="0-3")
        facts = collect_cpu(machine.sysfs, libvirt_model="", cpuinfo=cpuinfo)
        assert (facts.sockets, facts.cores_per_socket, facts.threads_per_core, facts.logical_cpus) == (1, 4, 1, 4)

    def test_dies_that_count_their_cores_alike_are_told_apart(self, machine: Machine, cpuinfo: Path) -> None:
        machine.add_processors(sockets=2, cores=2, threads=1)
        for number in range(4):
            machine.write(f"devices/system/cpu/cpu{number}/topology/physical_package_id", 0)
        facts = collect_cpu(machine.sysfs, libvirt_model="", cpuinfo=cpuinfo)
        assert (facts.sockets, facts.cores_per_socket, facts.threads_per_core) == (1, 4, 1)

    def test_a_kernel_that_tells_no_topology_has_one_socket(self, machine: Machine, cpuinfo: Path) -> None:
        machine.write("devices/system/cpu/online", "0-1")
        facts = collect_cpu(machine.sysfs, libvirt_model="", cpuinfo=cpuinfo)
        assert (facts.sockets, facts.cores_per_socket, facts.threads_per_core) == (1, 2, 1)
        assert facts.frequency_mhz == 0

    def test_a_processor_without_a_name_has_none(self, machine: Machine, tmp_path: Path) -> None:
        """As on ARM."""
        cpuinfo = tmp_path / "cpuinfo"
        cpuinfo.write_text("processor\t: 0\nCPU implementer\t: 0x41\n\n")
        machine.add_processors(sockets=1, cores=2, threads=1)
        facts = collect_cpu(machine.sysfs, libvirt_model="", cpuinfo=cpuinfo)
        assert (facts.model_name, facts.vendor, facts.logical_cpus) == ("", "", 2)


class TestNuma:
    """Cells, their memory and huge pages."""

    def test_two_cells_with_huge_pages_are_told(self, machine: Machine) -> None:
        for number, cpus in ((0, "0-3,8-11"), (1, "4-7,12-15")):
            machine.add_numa_node(number, cpus, memory_gib=64)
            pages = f"devices/system/node/node{number}/hugepages"
            machine.add_huge_pages(pages, 1048576, total=4 + number, free=1)
            machine.add_huge_pages(pages, 2048, total=512, free=500)
        machine.write("devices/system/node/online", "0-1")
        machine.add_processors(sockets=2, cores=4, threads=2)
        first, second = collect_numa(machine.sysfs, cpu_ids=[*range(16)], memory_bytes=0)
        assert first == NumaNode(
            id=0,
            cpu_ids=[0, 1, 2, 3, 8, 9, 10, 11],
            cores=[CpuCore(cpu_ids=[number, number + 8]) for number in range(4)],
            memory_bytes=64 * GIB,
            huge_pages=[
                HugePages(page_size_bytes=2 * 1024**2, total_pages=512, free_pages=500),
                HugePages(page_size_bytes=GIB, total_pages=4, free_pages=1),
            ],
        )
        assert (second.id, second.cpu_ids[0], second.huge_pages[1].total_pages) == (1, 4, 5)

    def test_threads_that_are_offline_are_left_out(self, machine: Machine) -> None:
        machine.add_processors(sockets=1, cores=3, threads=2, online="0-3")
        machine.add_numa_node(0, "0-5", memory_gib=1)
        (node,) = collect_numa(machine.sysfs, cpu_ids=[0, 1, 2, 3], memory_bytes=0)
        assert list(node.cpu_ids) == [0, 1, 2, 3]
        assert [list(core.cpu_ids) for core in node.cores] == [[0, 3], [1], [2]]

    def test_cells_are_in_the_order_of_their_numbers(self, machine: Machine) -> None:
        for number in (10, 2, 0):
            machine.add_numa_node(number, str(number), memory_gib=1)
        assert [node.id for node in collect_numa(machine.sysfs, cpu_ids=[], memory_bytes=0)] == [0, 2, 10]

    def test_a_cell_may_have_memory_alone(self, machine: Machine) -> None:
        machine.add_numa_node(0, "", memory_gib=128)
        (node,) = collect_numa(machine.sysfs, cpu_ids=[1], memory_bytes=7)
        assert (list(node.cpu_ids), node.memory_bytes) == ([], 128 * GIB)

    def test_a_machine_without_cells_is_one(self, machine: Machine) -> None:
        machine.add_huge_pages("kernel/mm/hugepages", 2048, total=16, free=8)
        assert collect_numa(machine.sysfs, cpu_ids=[0, 1], memory_bytes=4 * GIB) == [
            NumaNode(
                id=0,
                cpu_ids=[0, 1],
                cores=[CpuCore(cpu_ids=[0]), CpuCore(cpu_ids=[1])],
                memory_bytes=4 * GIB,
                huge_pages=[HugePages(page_size_bytes=2 * 1024**2, total_pages=16, free_pages=8)],
            )
        ]


class TestDisk:
    """Whole disks."""

    def test_a_scsi_disk_is_known_by_what_udev_knows(self, machine: Machine) -> None:
        machine.add_block("sda", size_gib=4, device=f"{SCSI_HOST}/0:0:0:0", queue__rotational=1)
        machine.write(f"devices/{SCSI_HOST}/0:0:0:0/type", 0)
        known = {
            ("block", "sda"): {
                "ID_MODEL": "ST4000NM0033",
                "ID_SERIAL_SHORT": "Z1Z0ABCD",
                "ID_WWN": "0x5000c500",
                "ID_WWN_WITH_EXTENSION": "0x5000c5007b0a1b2c",
            }
        }
        assert collect_disks(machine.sysfs, lambda *device: known[device]) == [
            BlockDevice(
                name="sda",
                size_bytes=4 * GIB,
                rotational=True,
                model="ST4000NM0033",
                serial="Z1Z0ABCD",
                wwn="0x5000c5007b0a1b2c",
                scsi_address="0:0:0:0",
            )
        ]

    def test_an_nvme_disk_is_known_by_what_the_kernel_knows(self, machine: Machine) -> None:
        controller = "pci0000:00/0000:01:00.0/nvme/nvme0"
        machine.add_block("nvme0n1", size_gib=8, device=controller, queue__rotational=0, wwid="eui.0025385b71b0a1c2")
        machine.write(f"devices/{controller}/model", "SAMSUNG MZQL23T8HCLS-00A07   ")
        machine.write(f"devices/{controller}/serial", "S64HNE0R900001")
        assert collect_disks(machine.sysfs, nothing) == [
            BlockDevice(
                name="nvme0n1",
                size_bytes=8 * GIB,
                rotational=False,
                model="SAMSUNG MZQL23T8HCLS-00A07",
                serial="S64HNE0R900001",
                wwn="eui.0025385b71b0a1c2",
            )
        ]

    def test_a_virtual_disk_has_its_serial_beside_its_size(self, machine: Machine) -> None:
        machine.add_block("vda", size_gib=1, device="pci0000:00/0000:00:04.0/virtio1", serial="root-disk")
        (disk,) = collect_disks(machine.sysfs, lambda *_: {"ID_WWN": "0x5000"})
        assert (disk.serial, disk.wwn, disk.scsi_address) == ("root-disk", "0x5000", "")

    def test_what_is_no_disk_is_left_out(self, machine: Machine) -> None:
        scsi = f"{SCSI_HOST}/0:0:0:0"
        machine.add_block("sda", size_gib=1, device=scsi)
        machine.add_block("sda1", size_gib=1, device=scsi, partition=1)
        machine.add_block("loop0", size_gib=1)
        machine.add_block("zram0", size_gib=1)
        machine.add_block("sdb", size_gib=0, device="pci0000:00/usb1/host1/target1:0:0/1:0:0:0")
        assert [disk.name for disk in collect_disks(machine.sysfs, nothing)] == ["sda"]

    def test_a_cd_drive_is_no_disk_although_it_has_a_size(self, machine: Machine) -> None:
        machine.add_block("sr0", size_gib=1, device=f"{SCSI_HOST}/0:0:0:0")
        machine.write(f"devices/{SCSI_HOST}/0:0:0:0/type", 5)
        assert collect_disks(machine.sysfs, nothing) == []

    def test_a_disk_with_several_paths_is_one_disk(self, machine: Machine) -> None:
        machine.add_block("nvme0n1", size_gib=8, device="virtual/nvme-subsystem/nvme-subsys0", hidden=0)
        for path in (0, 1):
            controller = f"pci0000:00/0000:0{path}:00.0/nvme/nvme{path}"
            machine.add_block(f"nvme0c{path}n1", size_gib=8, device=controller, hidden=1)
        assert [disk.name for disk in collect_disks(machine.sysfs, nothing)] == ["nvme0n1"]

    def test_a_machine_without_disks_has_none(self, machine: Machine) -> None:
        assert collect_disks(machine.sysfs, nothing) == []


class TestNic:
    """Network interfaces."""

    def test_cards_and_bonds_are_told(self, machine: Machine) -> None:
        card: dict[str, Any] = {"address": "0c:42:a1:00:00:01", "speed": 25000, "operstate": "up", "mtu": 9000}
        machine.add_nic("ens1f0", device="pci0000:00/0000:03:00.0", **card)
        machine.add_nic("bond0", bonding__mode="802.3ad 4", **{**card, "speed": 50000})
        assert collect_nics(machine.sysfs) == [
            NetworkInterface(name=name, mac_address="0c:42:a1:00:00:01", speed_mbps=speed, link_up=True, mtu_bytes=9000)
            for name, speed in (("bond0", 50000), ("ens1f0", 25000))
        ]

    def test_what_software_made_is_left_out(self, machine: Machine) -> None:
        for name in ("lo", "br0", "vnet0", "nw-2j328au50t3t"):
            machine.add_nic(name, operstate="up")
        machine.write("class/net/bonding_masters", "bond0")
        assert collect_nics(machine.sysfs) == []

    @pytest.mark.parametrize(("speed", "operstate"), [("-1", "down"), ("", "unknown"), (None, "lowerlayerdown")])
    def test_a_card_without_a_link_has_no_speed(self, machine: Machine, speed: str | None, operstate: str) -> None:
        machine.add_nic("eno1", device="pci0000:00/0000:03:00.0", operstate=operstate)
        if speed is None:  # reading it is an error while the card is off
            (machine.root / "class/net/eno1/speed").mkdir()
        else:
            machine.write("class/net/eno1/speed", speed)
        (nic,) = collect_nics(machine.sysfs)
        assert (nic.speed_mbps, nic.link_up) == (0, False)

    def test_addresses_are_those_of_the_interface_with_their_prefixes(self, machine: Machine) -> None:
        for name in ("eth7", "eth8"):
            machine.add_nic(name, device=f"pci0000:00/{name}")
        with network_namespaces(1) as (node,):
            for name, addresses in (("eth7", ("10.0.0.5/23", "fd00::5/56")), ("eth8", ())):
                node.ip("link", "add", name, "type", "bridge")
                for address in addresses:
                    node.ip("address", "add", address, "dev", name)
            node.ip("link", "set", "eth7", "up")
            nics = {nic.name: nic for nic in node.run(lambda: collect_nics(machine.sysfs))}
        local = [address for address in nics["eth7"].addresses if address.startswith("fe80:")]
        assert {*nics["eth7"].addresses} - {*local} == {"10.0.0.5/23", "fd00::5/56"}
        assert all(address.endswith("/64") and "%" not in address for address in local)
        assert list(nics["eth8"].addresses) == []


class TestSysfs:
    """Attributes that drivers leave out."""

    @pytest.mark.parametrize(("text", "number"), [("7", 7), (" 8 \n", 8), ("-1", 0), ("unknown", 0), ("", 0)])
    def test_what_is_no_number_is_nought(self, machine: Machine, text: str, number: int) -> None:
        machine.write("a", text)
        assert machine.sysfs.read_number("a") == number

    def test_what_is_not_there_is_empty(self, machine: Machine) -> None:
        assert (machine.sysfs.read("a/b"), machine.sysfs.names("a"), machine.sysfs.exists("a")) == ("", [], False)
        machine.write("b/c", "text")
        assert (machine.sysfs.read("b"), machine.sysfs.names("b"), machine.sysfs.exists("b")) == ("", ["c"], True)

    def test_entries_of_buses_lead_to_devices(self, machine: Machine) -> None:
        machine.write("devices/pci0000:3a/0000:3a:00.0/0000:3b:00.0/vendor", "0x10de")
        machine.link("bus/pci/devices/0000:3b:00.0", "devices/pci0000:3a/0000:3a:00.0/0000:3b:00.0")
        for find in (machine.sysfs.follow, machine.sysfs.locate):
            assert find("bus/pci/devices/0000:3b:00.0") == Path("devices/pci0000:3a/0000:3a:00.0/0000:3b:00.0")
            assert find("bus/pci/devices/0000:3c:00.0") == Path("bus/pci/devices/0000:3c:00.0")
        assert machine.sysfs.link_name("bus/pci/devices/0000:3b:00.0") == "0000:3b:00.0"
        assert machine.sysfs.link_name("bus/pci/devices/0000:3c:00.0") == ""

    def test_bytes_that_are_no_text_are_replaced(self, machine: Machine) -> None:
        (machine.root / "model").write_bytes(b"disk\xff")
        assert machine.sysfs.read("model") == "disk\ufffd"

    def test_this_machine_can_be_read(self) -> None:
        """Whatever it has: every fact is read without a failure, and what udev does not know is nothing."""
        assert parse_cpu_list(Sysfs().read("devices/system/cpu/online"))
        assert collect_cpu(Sysfs(), libvirt_model="").logical_cpus >= 1
        assert isinstance(collect_disks(Sysfs(), read_udev_properties), list)
        assert isinstance(collect_nics(Sysfs()), list)
        assert read_udev_properties("block", "nobody") == {}
