"""GPUs on trees that look like /sys of real machines: what they are, and when guests can have them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.devices.base import Versions
from protos.agent.v1.host_pb2 import Device, Vgpu, VgpuType
from tests.unit.agent.device_builder import Node
from tests.unit.agent.sysfs_builder import Machine

MIB = 1024**2
GIB = 1024**3
T4 = "0000:3b:00.0"
CARD = "0000:65:00.0"
A100 = "0000:81:00.0"
UUID = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"
HBA = "pci0000:40/0000:40:01.1/0000:41:00.0"


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(Machine(tmp_path))


def add_a100(node: Node, *, count: int = 4, first_group: int = 90, **functions: Any) -> list[str]:
    """A GPU with virtual functions; answers their addresses."""
    ids = "10de:20b5"
    node.add_pci(A100, ids, "030200", group=80, driver="nvidia", parent="pci0000:80/0000:80:01.1", sriov_totalvfs=20)
    addresses = [f"0000:81:00.{number}" for number in range(4, 4 + count)]
    node.add_virtual_functions(A100, addresses, ids, "030200", first_group=first_group, driver="nvidia", **functions)
    return addresses


class TestWhole:
    """GPUs that guests get as they are."""

    def test_a_gpu_is_known_by_its_ids_and_told_by_its_name(self, node: Node) -> None:
        node.add_t4(numa_node=1, reset_method="flr bus", subsystem_vendor="0x10de", subsystem_device="0x12a2")
        assert node.discover() == [
            Device(
                id=T4,
                kind="gpu",
                attributes={"vendor": "10de", "product": "1eb8", "mode": "passthrough"},
                numa_node=1,
                details={
                    "address": T4,
                    "vendor_name": "NVIDIA Corporation",
                    "product_name": "TU104GL [Tesla T4]",
                    "subsystem": "10de:12a2",
                    "class": "030200",
                    "driver": "nvidia",
                    "iommu_group": "42",
                    "reset_methods": "flr bus",
                },
            )
        ]

    def test_a_gpu_without_a_driver_is_offered_too(self, node: Node) -> None:
        node.add_t4(driver="")
        (device,) = node.discover()
        assert ("driver" in device.details, device.withheld_reason) == (False, "")

    def test_the_other_functions_of_a_card_go_with_it(self, node: Node) -> None:
        node.add_graphics_card()
        (device,) = node.discover("gpu")
        assert device.details["companions"] == "0000:65:00.1,0000:65:00.2,0000:65:00.3"
        assert not device.withheld_reason

    def test_cards_of_the_same_model_are_alike_to_the_scheduler(self, node: Node) -> None:
        node.add_t4(T4, group=42)
        node.add_t4("0000:5e:00.0", group=43, reset_method="bus")
        first, second = node.discover("gpu")
        assert first.attributes == second.attributes

    @pytest.mark.parametrize(
        ("ids", "class_code", "kinds"),
        [
            ("19e5:d802", "120000", ["gpu"]),
            ("1002:74a1", "120000", ["gpu"]),
            ("10ee:5000", "120000", []),
            ("8086:56c0", "038000", ["gpu"]),
            ("10de:1af1", "068000", []),
        ],
    )
    def test_accelerators_are_gpus_when_their_maker_makes_such(
        self, node: Node, ids: str, class_code: str, kinds: list[str]
    ) -> None:
        node.add_pci(T4, ids, class_code, group=1)
        assert [device.kind for device in node.discover()] == kinds

    @pytest.mark.parametrize(
        ("ids", "boot_vga", "reason"),
        [
            ("1a03:2000", 0, "a display of a BMC or of a hypervisor, not a GPU"),
            ("1a03:2000", 1, "a display of a BMC or of a hypervisor, not a GPU"),
            ("1234:1111", 0, "a display of a BMC or of a hypervisor, not a GPU"),
            ("10de:1eb8", 1, "the host's own display"),
            ("10de:1eb8", 0, ""),
        ],
    )
    def test_what_the_host_shows_itself_with_is_withheld(
        self, node: Node, ids: str, boot_vga: int, reason: str
    ) -> None:
        node.add_pci(T4, ids, "030000", group=1, boot_vga=boot_vga)
        (device,) = node.discover()
        assert device.withheld_reason == reason
        assert device.kind == ("gpu" if ids.startswith("10de") else "display")


class TestIsolation:
    """IOMMU groups, and who is in them."""

    def test_without_an_iommu_nothing_is_offered(self, node: Node) -> None:
        node.add_t4(group=None)
        assert node.reason() == "is in no IOMMU group: the IOMMU is off, or does not reach it"

    def test_a_group_that_isolates_nothing_is_none(self, node: Node) -> None:
        node.add_t4(group=42)
        node.machine.write("kernel/iommu_groups/42/name", "vfio-noiommu")
        assert node.reason() == "is in no IOMMU group: the IOMMU is off, or does not reach it"

    def test_bridges_in_the_group_do_not_matter(self, node: Node) -> None:
        node.add_t4(group=42)
        node.add_pci("0000:3a:00.0", "8086:2030", "060400", group=42, driver="pcieport", parent="pci0000:3a")
        assert node.reason(T4) == ""

    def test_a_stranger_in_the_group_is_named(self, node: Node) -> None:
        node.add_t4(group=42)
        node.add_pci("0000:3c:00.0", "8086:a182", "010601", group=42, driver="ahci")
        assert node.reason(T4) == "shares IOMMU group 42 with 0000:3c:00.0, a storage controller"

    def test_a_stranger_that_the_host_needs_is_named_before_others(self, node: Node) -> None:
        node.add_t4(group=42)
        for address in ("0000:3c:00.0", "0000:41:00.0"):
            parent = "pci0000:40/0000:40:01.1" if address.startswith("0000:41") else "pci0000:00"
            node.add_pci(address, "1000:0097", "010700", group=42, parent=parent)
        node.add("sda", f"{HBA}/host0/port-0:0/end_device-0:0/target0:0:0/0:0:3:0", dev="8:0")
        node.mounted = {"8:0"}
        assert node.reason(T4) == "shares IOMMU group 42 with 0000:41:00.0: the host's disk sda is mounted"

    def test_the_group_of_a_companion_counts_as_well(self, node: Node) -> None:
        node.add_graphics_card(usb_group=31)
        assert node.reason(CARD) == ""
        node.add_pci("0000:66:00.0", "8086:1572", "020000", group=31)
        assert node.reason(CARD) == "shares IOMMU group 31 with 0000:66:00.0, a network card"

    def test_two_cards_in_one_group_are_given_to_nobody(self, node: Node) -> None:
        node.add_t4(T4, group=42)
        node.add_t4("0000:3c:00.0", group=42)
        assert node.reason(T4) == "shares IOMMU group 42 with 0000:3c:00.0, a display"
        assert node.reason("0000:3c:00.0") == f"shares IOMMU group 42 with {T4}, a display"


class TestUse:
    """Who has it already."""

    def test_a_companion_that_the_host_boots_from_keeps_the_card(self, node: Node) -> None:
        node.add_graphics_card()
        usb = "pci0000:64/0000:64:00.0/0000:65:00.2/usb3/3-1/3-1:1.0/host7/target7:0:0/7:0:0:0"
        node.add("sdz", usb, dev="8:96")
        node.mounted = {"8:96"}
        assert node.reason(CARD) == "the host's disk sdz is mounted"

    @pytest.mark.parametrize("function", [0, 1])
    def test_a_guest_that_has_a_part_of_it(self, node: Node, function: int) -> None:
        node.add_graphics_card()
        node.guests = {f"pci 0000:65:00.{function}": "somebody's"}
        assert node.reason(CARD) == "used by domain somebody's"

    @pytest.mark.parametrize(
        ("driver", "reason"),
        [
            ("vfio-pci", ""),
            ("uio_pci_generic", "bound to uio_pci_generic, for a program of the host"),
            ("igb_uio", "bound to igb_uio, for a program of the host"),
            ("nvidia", ""),
        ],
    )
    def test_a_program_that_may_have_it_without_libvirt(self, node: Node, driver: str, reason: str) -> None:
        node.add_t4(driver=driver)
        assert node.reason() == reason

    def test_that_nobody_can_tell_which_guest_has_it(self, node: Node) -> None:
        node.add_t4()
        node.guests = None
        assert node.reason() == "libvirt, which knows the devices of guests, is away"


class TestMediated:
    """vGPUs as mediated devices."""

    def test_a_gpu_with_types_is_split(self, node: Node) -> None:
        node.add_t4()
        node.add_mdev_type(T4, "nvidia-222", "GRID T4-1B", mib=1024, most=16, available=14, uuids=[UUID.upper()])
        node.add_mdev_type(T4, "nvidia-223", "GRID T4-2B", mib=2048, most=8, available=0)
        (device,) = node.discover()
        assert dict(device.attributes) == {"vendor": "10de", "product": "1eb8", "mode": "vgpu"}
        assert (device.shareable, device.size_bytes, device.withheld_reason) == (True, 16 * GIB, "")
        assert device.details["vgpu_framework"] == "mdev"
        assert list(device.vgpu_types) == [
            VgpuType(
                id="nvidia-222",
                name="GRID T4-1B",
                framebuffer_bytes=1024 * MIB,
                maximum_instances=16,
                available_instances=14,
            ),
            VgpuType(id="nvidia-223", name="GRID T4-2B", framebuffer_bytes=2048 * MIB, maximum_instances=8),
        ]
        assert list(device.vgpus) == [Vgpu(id=UUID, type_id="nvidia-222")]

    def test_neither_an_iommu_nor_strangers_in_its_group_matter(self, node: Node) -> None:
        """A mediated device has a group of its own."""
        node.add_t4(group=None)
        node.add_mdev_type(T4, "nvidia-222", "GRID T4-1B", mib=1024, most=16, available=16)
        assert node.reason() == ""

    def test_a_driver_that_describes_a_type_in_other_words_tells_no_sizes(self, node: Node) -> None:
        node.add_pci("0000:00:02.0", "8086:591b", "030000", group=1, driver="i915")
        node.add_mdev_type("0000:00:02.0", "i915-GVTg_V5_4", "", mib=0, most=0, available=1)
        base = "bus/pci/devices/0000:00:02.0/mdev_supported_types/i915-GVTg_V5_4"
        node.machine.write(f"{base}/description", "low_gm_size: 128MB\nhigh_gm_size: 512MB\nfence: 4\nweight: 4")
        (device,) = node.discover()
        assert list(device.vgpu_types) == [VgpuType(id="i915-GVTg_V5_4", name="i915-GVTg_V5_4", available_instances=1)]
        assert device.size_bytes == 0

    def test_types_of_virtual_functions_are_those_of_their_gpu(self, node: Node) -> None:
        """Each function of an A40 makes one."""
        for number, address in enumerate(add_a100(node)):
            uuids = [UUID] if number == 1 else []
            available = 0 if uuids else 1
            node.add_mdev_type(
                address, "nvidia-471", "NVIDIA A100-4C", mib=4096, most=20, available=available, uuids=uuids
            )
        (device,) = node.discover()
        (found,) = device.vgpu_types
        assert (found.available_instances, found.maximum_instances) == (3, 20)
        assert [vgpu.id for vgpu in device.vgpus] == [UUID]
        assert (device.details["sriov_total"], device.details["sriov_enabled"]) == ("20", "4")

    def test_a_gpu_that_a_guest_has_as_a_whole_is_not_split(self, node: Node) -> None:
        node.add_t4()
        node.add_mdev_type(T4, "nvidia-222", "GRID T4-1B", mib=1024, most=16, available=16)
        node.guests = {f"pci {T4}": "somebody's"}
        assert node.reason() == "used by domain somebody's"


class TestVendorVfio:
    """vGPUs as virtual functions that the driver gives a type."""

    CREATABLE = "ID    : vGPU Name\n471   : NVIDIA A100-4C\n472   : NVIDIA A100-5C\n"

    def test_types_are_those_that_free_functions_can_get(self, node: Node) -> None:
        addresses = add_a100(node, nvidia__creatable_vgpu_types=self.CREATABLE, nvidia__current_vgpu_type=0)
        node.machine.write(f"bus/pci/devices/{addresses[0]}/nvidia/current_vgpu_type", 472)
        node.machine.write(f"bus/pci/devices/{addresses[1]}/nvidia/creatable_vgpu_types", "ID    : vGPU Name")
        (device,) = node.discover()
        assert (device.kind, device.shareable, device.details["vgpu_framework"]) == ("gpu", True, "vendor-vfio")
        assert [(one.id, one.name, one.available_instances) for one in device.vgpu_types] == [
            ("nvidia-471", "NVIDIA A100-4C", 2),
            ("nvidia-472", "NVIDIA A100-5C", 2),
        ]
        assert list(device.vgpus) == [Vgpu(id="0000:81:00.4", type_id="nvidia-472")]
        assert device.withheld_reason == ""

    @pytest.mark.parametrize(
        ("name", "size_bytes"),
        [
            ("NVIDIA A100-4C", 4 * GIB),
            ("NVIDIA A100-1-5CME", 5 * GIB),
            ("NVIDIA L40-48Q", 48 * GIB),
            ("GRID M10-0B", GIB // 2),
            ("NVIDIA something", 0),
        ],
    )
    def test_sizes_are_read_from_names(self, node: Node, name: str, size_bytes: int) -> None:
        add_a100(node, count=1, nvidia__creatable_vgpu_types=f"ID : vGPU Name\n1 : {name}")
        (device,) = node.discover()
        assert [one.framebuffer_bytes for one in device.vgpu_types] == [size_bytes]

    def test_it_needs_an_iommu_for_its_functions(self, node: Node) -> None:
        addresses = add_a100(node, nvidia__creatable_vgpu_types=self.CREATABLE)
        (node.machine.root / f"bus/pci/devices/{addresses[2]}/iommu_group").unlink()
        assert node.reason().startswith("its virtual functions are in no IOMMU group")

    @pytest.mark.parametrize(("version", "driver"), [("10.0.0", "nvidia"), ("", "nvidia"), ("9.0.0", "vfio-pci")])
    def test_a_libvirt_that_knows_the_driver_gives_its_functions_to_guests(
        self, node: Node, version: str, driver: str
    ) -> None:
        addresses = add_a100(node, count=1, nvidia__creatable_vgpu_types=self.CREATABLE)
        node.versions = Versions(libvirt=version)
        link = node.machine.root / f"bus/pci/devices/{addresses[0]}/driver"
        link.unlink()
        link.symlink_to(node.machine.root / f"bus/pci/drivers/{driver}")
        assert node.reason() == ""

    @pytest.mark.parametrize("version", ["9.0.0", "9.10.0"])
    def test_an_older_libvirt_would_refuse_them_when_the_guest_starts(self, node: Node, version: str) -> None:
        add_a100(node, nvidia__creatable_vgpu_types=self.CREATABLE)
        node.versions = Versions(libvirt=version)
        assert node.reason() == f"libvirt {version} gives no function of driver nvidia to guests: 10.0.0 does"
        # As a whole, and by mediated devices, GPUs go to guests under any.
        node.add_t4()
        node.add_mdev_type(T4, "nvidia-222", "GRID T4-1B", mib=1024, most=16, available=16)
        assert node.reason(T4) == ""

    def test_functions_that_are_not_there_yet_do_no_harm(self, node: Node) -> None:
        addresses = add_a100(node, nvidia__creatable_vgpu_types=self.CREATABLE)
        (node.machine.root / f"bus/pci/devices/{addresses[3]}").unlink()
        (device,) = node.discover()
        assert [one.available_instances for one in device.vgpu_types] == [3, 3]


class TestMigration:
    """Whether guests that run can take their vGPUs along."""

    ABLE = Versions(libvirt="10.0.0", qemu="8.2.2", kernel="6.8.0-45-generic")

    @pytest.fixture(params=["mdev", "vendor-vfio"])
    def split(self, node: Node, request: pytest.FixtureRequest) -> Node:
        """A node that is able, with a GPU that is split."""
        node.versions = self.ABLE
        node.machine.write("module/nvidia/version", "550.90.05")
        if request.param == "mdev":
            node.add_t4()
            node.add_mdev_type(T4, "nvidia-222", "GRID T4-1B", mib=1024, most=16, available=16)
        else:
            add_a100(node, nvidia__creatable_vgpu_types=TestVendorVfio.CREATABLE)
        return node

    def test_nodes_with_drivers_of_one_release_are_alike(self, split: Node) -> None:
        (device,) = split.discover()
        assert device.attributes["vgpu_migration"] == "nvidia 550"
        assert "vgpu_migration_obstacle" not in device.details

    @pytest.mark.parametrize(
        ("versions", "obstacle"),
        [
            ({"qemu": "7.2.0"}, "QEMU 7.2.0 moves no guest with vGPUs: 8.1 does"),
            ({"qemu": ""}, "QEMU (unknown) moves no guest with vGPUs: 8.1 does"),
            ({"kernel": "5.15.0-25-generic"}, "Linux 5.15.0-25-generic moves no guest with vGPUs: 5.18 does"),
            ({"libvirt": "8.5.0"}, "libvirt 8.5.0 moves no guest with vGPUs: 8.6 does"),
        ],
    )
    def test_what_is_too_old_keeps_guests(self, split: Node, versions: dict[str, str], obstacle: str) -> None:
        split.versions = replace(self.ABLE, **versions)
        (device,) = split.discover()
        assert device.details["vgpu_migration_obstacle"] == obstacle
        assert "vgpu_migration" not in device.attributes

    def test_so_does_the_node_s_configuration(self, split: Node) -> None:
        split.versions, split.may_move_vgpus = self.ABLE, False
        (device,) = split.discover()
        assert "vgpu_migration)" in device.details["vgpu_migration_obstacle"]
        assert "vgpu_migration" not in device.attributes

    def test_so_does_a_driver_of_which_nobody_knows_what_it_understands(self, split: Node) -> None:
        (split.machine.root / "module/nvidia/version").unlink()
        (device,) = split.discover()
        assert device.details["vgpu_migration_obstacle"].startswith("the driver nvidia tells no version")

    def test_a_gpu_that_guests_have_as_a_whole_says_nothing_of_it(self, node: Node) -> None:
        node.versions = self.ABLE
        node.add_t4()
        (device,) = node.discover()
        assert not {"vgpu_migration", "vgpu_migration_obstacle"} & {*device.attributes, *device.details}


class TestVirtualFunctions:
    """GPUs that are split by themselves, without vGPU types."""

    def test_they_are_of_a_kind_of_their_own(self, node: Node) -> None:
        """Who asks for a whole GPU must not get one, though its ids may be the same."""
        addresses = add_a100(node, count=2)
        gpu, *virtual = node.discover()
        assert (gpu.kind, gpu.withheld_reason) == ("gpu", "has 2 virtual functions, which would go with it")
        assert [(device.kind, device.id, device.withheld_reason) for device in virtual] == [
            ("gpu-vf", address, "") for address in addresses
        ]
        assert virtual[0].details["physical_function"] == A100
