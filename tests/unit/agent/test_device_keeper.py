"""Devices are made ready for guests, kind by kind, on trees that look like /sys and answer as a kernel does."""

from __future__ import annotations

import asyncio
import errno
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from agent.devices.journal import DeviceJournal, Entry, Making
from agent.devices.source import BlockSource, MdevSource, NetworkFunctionSource, PciSource, UsbSource
from agent.durable_file import write_file
from agent.errors import (
    DeviceBusy,
    DeviceFailed,
    DeviceFaulty,
    DeviceInUse,
    DeviceNotFound,
    DeviceWithheld,
    HypervisorUnavailable,
    RequestInvalid,
)
from protos.agent.v1.device_pb2 import HostDevice
from protos.agent.v1.host_pb2 import Device
from tests.unit.agent.device_builder import BLANK
from tests.unit.agent.device_kernel import (
    A100,
    DEVICE,
    DOMAIN,
    FOREIGN,
    OTHER_DEVICE,
    OTHER_DOMAIN,
    T4,
    VIRTUAL,
    Rig,
    add_a100,
    add_split_t4,
    list_mdevs,
    read_type,
    set_type,
    wish,
)

THIRD_DOMAIN = "0a6a1c50-7fb4-4b0a-9d0e-5a4f6b1c2d03"
THIRD_DEVICE = "5b0e3f0c-2a30-5d65-8c44-0a2b6f3c1d03"
CARD = "0000:65:00"
NIC = "0000:5e:00.0"
VF = "0000:5e:00.2"
DISK = "wwn-0x5000c500a1b2c3d4"
LINK = "/dev/disk/by-id/wwn-0x5000c500a1b2c3d4"
STICK = "usb-0000:00:14.0-0-4"
SAS = "pci0000:40/0000:40:01.1/0000:41:00.0/host0/port-0:0/end_device-0:0/target0:0:0/0:0:3:0"
NVME = "0000:21:00.0"
NVME_PATH = f"pci0000:20/{NVME}/nvme/nvme0"


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def add_network_card(rig: Rig, **card: object) -> None:
    rig.node.add_pci(NIC, "8086:1521", "020000", group=5, driver="igb", sriov_totalvfs=8, **card)  # type: ignore[arg-type]
    rig.node.machine.add_nic("ens9f0", device=rig.node.paths[NIC], carrier=1, flags="0x1002")
    rig.node.add_virtual_functions(NIC, ["0000:5e:00.1", VF], "8086:1520", "020000", first_group=6, driver="igbvf")


def add_sas_disk(rig: Rig, name: str = "sdb", links: str = f"/dev/disk/by-path/pci-x {LINK}") -> None:
    rig.node.add(name, SAS, udev=BLANK | {"DEVLINKS": links}, dev="8:16")


def add_nvme_disk(rig: Rig) -> None:
    rig.node.add_pci(NVME, "144d:a80a", "010802", group=12, driver="nvme", parent="pci0000:20", driver_override="")
    links = {"DEVLINKS": "/dev/disk/by-id/nvme-eui.01"}
    rig.node.add("nvme0n1", NVME_PATH, udev=BLANK | links, dev="259:0", device__transport="pcie")


class TestWhole:
    """PCI functions as they are."""

    async def test_a_gpu_comes_with_its_companions(self, rig: Rig) -> None:
        rig.node.add_graphics_card(CARD)
        source = await rig.keeper.prepare(DOMAIN, wish(f"{CARD}.0"))
        assert source == PciSource(tuple(f"{CARD}.{number}" for number in range(4)), managed=True)
        (entry,) = rig.entries()
        assert dict(entry.making.drivers)[f"{CARD}.1"] == "snd_hda_intel"
        assert (entry.made, rig.kernel.writes) == (True, [])

    async def test_the_drivers_of_the_first_time_count(self, rig: Rig) -> None:
        rig.node.add_t4()
        await rig.keeper.prepare(DOMAIN, wish(T4))
        rig.kernel.bind(T4, "vfio-pci")
        rig.domains = {DOMAIN: [f"pci {T4}"]}
        assert await rig.keeper.prepare(DOMAIN, wish(T4)) == PciSource((T4,))
        assert [dict(entry.making.drivers) for entry in rig.entries()] == [{T4: "nvidia"}]

    @pytest.mark.parametrize("kind", ["nic", "gpu-vf", "infiniband"])
    async def test_other_functions_come_as_they_are(self, rig: Rig, kind: str) -> None:
        classes = {"nic": "020000", "gpu-vf": "030000", "infiniband": "020700"}
        rig.node.add_pci(NIC, "1002:74a1", classes[kind], group=5, driver="some", sriov_totalvfs=1)
        if kind == "gpu-vf":
            rig.node.add_virtual_functions(NIC, [VF], "1002:74b5", "030000", first_group=6)
        address = VF if kind == "gpu-vf" else NIC
        assert (await rig.find(address)).kind == kind
        assert await rig.keeper.prepare(DOMAIN, wish(address)) == PciSource((address,))

    async def test_a_function_that_has_left_the_node_lets_no_guest_start(self, rig: Rig) -> None:
        rig.node.add_t4()
        await rig.keeper.prepare(DOMAIN, wish(T4))
        (rig.node.machine.root / f"bus/pci/devices/{T4}").unlink()
        with pytest.raises(DeviceFaulty, match="is gone from the node"):
            await rig.keeper.check_ready(DOMAIN)
        gone = await rig.find(T4)
        assert (gone.kind, gone.fault, gone.attributes["product"]) == ("gpu", "is gone from the node", "1eb8")


class TestRefused:
    """What no guest gets."""

    async def test_a_device_that_is_withheld_is_refused_with_the_reason(self, rig: Rig) -> None:
        rig.node.add_t4(group=None)
        with pytest.raises(DeviceWithheld, match="is in no IOMMU group"):
            await rig.keeper.prepare(DOMAIN, wish(T4))
        assert rig.entries() == []

    async def test_a_device_of_another_domain_is_refused_but_not_one_of_its_own(self, rig: Rig) -> None:
        rig.node.add_t4()
        rig.domains = {OTHER_DOMAIN: [f"pci {T4}"]}
        with pytest.raises(DeviceInUse, match="used by domain vm-02"):
            await rig.keeper.prepare(DOMAIN, wish(T4))
        assert await rig.keeper.prepare(OTHER_DOMAIN, wish(T4)) == PciSource((T4,))

    async def test_what_another_guest_is_about_to_get_is_refused(self, rig: Rig) -> None:
        rig.node.add_t4()
        await rig.keeper.prepare(OTHER_DOMAIN, wish(T4))
        with pytest.raises(DeviceInUse, match=f"given to domain {OTHER_DOMAIN}"):
            await rig.keeper.prepare(DOMAIN, wish(T4, OTHER_DEVICE))

    async def test_what_another_domain_has_taken_meanwhile_lets_no_guest_start(self, rig: Rig) -> None:
        rig.node.add_t4()
        await rig.keeper.prepare(DOMAIN, wish(T4))
        rig.domains = {DOMAIN: [f"pci {T4}"], "a-person": [f"pci {T4}"]}
        with pytest.raises(DeviceInUse, match="used by domain vm-on"):
            await rig.keeper.check_ready(DOMAIN)

    async def test_a_faulty_device_is_refused(self, rig: Rig) -> None:
        rig.node.add_t4(aer_dev_fatal="Undefined 0\nTOTAL_ERR_FATAL 1")
        with pytest.raises(DeviceFaulty, match="PCIe: fatal error"):
            await rig.keeper.prepare(DOMAIN, wish(T4))

    async def test_a_device_that_is_not_there_is_not_found(self, rig: Rig) -> None:
        with pytest.raises(DeviceNotFound, match=T4):
            await rig.keeper.prepare(DOMAIN, wish(T4))

    async def test_without_libvirt_nobody_knows(self, rig: Rig) -> None:
        rig.node.add_t4()
        rig.domains = None
        with pytest.raises(HypervisorUnavailable):
            await rig.keeper.prepare(DOMAIN, wish(T4))

    @pytest.mark.parametrize(
        ("asked", "field"),
        [
            (HostDevice(device_id=T4), "device.uuid"),
            (HostDevice(device_id=T4, uuid=DEVICE.upper()), "device.uuid"),
            (HostDevice(uuid=DEVICE), "device.device_id"),
            (wish(T4, mac_address="53:54:00:12:34:56"), "device.mac_address"),
            (wish(T4, mac_address="52:54:00:12:34"), "device.mac_address"),
            (wish(T4, vlan_id=4095), "device.vlan_id"),
            (wish(T4, vlan_id=7), "device.mac_address, vlan_id, trusted"),
            (wish(T4, trusted=True), "device.mac_address, vlan_id, trusted"),
            (wish(T4, wipe_on_release=True), "device.native, wipe_on_release"),
        ],
    )
    async def test_a_wrong_field_is_named(self, rig: Rig, asked: HostDevice, field: str) -> None:
        rig.node.add_t4()
        with pytest.raises(RequestInvalid, match=field):
            await rig.keeper.prepare(DOMAIN, asked)
        assert rig.entries() == []

    async def test_a_uuid_names_one_device_for_all_time(self, rig: Rig) -> None:
        rig.node.add_t4()
        rig.node.add_t4("0000:5e:00.0", group=43)
        await rig.keeper.prepare(DOMAIN, wish(T4))
        with pytest.raises(RequestInvalid, match=r"device\.device_id"):
            await rig.keeper.prepare(DOMAIN, wish("0000:5e:00.0"))


class TestSeveral:
    """Devices of one guest."""

    async def test_one_look_at_the_node_does_for_all(self, rig: Rig) -> None:
        add_network_card(rig)
        add_sas_disk(rig)
        wishes = [wish(VF, mac_address="52:54:00:12:34:56"), wish(DISK, OTHER_DEVICE)]
        assert await rig.keeper.prepare_all(DOMAIN, wishes) == {
            DEVICE: NetworkFunctionSource(VF, "52:54:00:12:34:56"),
            OTHER_DEVICE: BlockSource(Path(LINK)),
        }
        assert rig.looks == 1


class TestMediated:
    """vGPUs and others by mediated devices."""

    async def test_a_vgpu_is_made_and_a_foreign_one_stays(self, rig: Rig) -> None:
        add_split_t4(rig.node)
        source = await rig.keeper.prepare(DOMAIN, wish(T4, vgpu_type_id="nvidia-222"))
        assert source == MdevSource(DEVICE, "vfio-pci")
        assert list_mdevs(rig.node) == [DEVICE, FOREIGN]
        await rig.keeper.prepare(DOMAIN, wish(T4, vgpu_type_id="nvidia-222"))
        assert list_mdevs(rig.node) == [DEVICE, FOREIGN]
        await rig.release()
        assert (list_mdevs(rig.node), rig.entries()) == ([FOREIGN], [])

    async def test_several_guests_have_one_gpu_until_it_is_full(self, rig: Rig) -> None:
        add_split_t4(rig.node)
        await rig.keeper.prepare(DOMAIN, wish(T4, vgpu_type_id="nvidia-222"))
        await rig.keeper.prepare(OTHER_DOMAIN, wish(T4, OTHER_DEVICE, vgpu_type_id="nvidia-222"))
        with pytest.raises(DeviceInUse, match="no nvidia-222 left"):
            await rig.keeper.prepare(THIRD_DOMAIN, wish(T4, THIRD_DEVICE, vgpu_type_id="nvidia-222"))

    async def test_what_was_made_for_one_guest_is_counted_before_the_next_is_made(self, rig: Rig) -> None:
        add_split_t4(rig.node)
        wishes = [wish(T4, uuid, vgpu_type_id="nvidia-222") for uuid in (DEVICE, OTHER_DEVICE, THIRD_DEVICE)]
        with pytest.raises(DeviceInUse, match="no nvidia-222 left"):
            await rig.keeper.prepare_all(DOMAIN, wishes)
        assert list_mdevs(rig.node) == sorted([DEVICE, OTHER_DEVICE, FOREIGN])

    async def test_a_device_of_the_same_uuid_that_somebody_else_made_is_left_alone(self, rig: Rig) -> None:
        add_split_t4(rig.node)
        with pytest.raises(DeviceInUse, match="made by somebody else"):
            await rig.keeper.prepare(DOMAIN, wish(T4, FOREIGN, vgpu_type_id="nvidia-222"))
        await rig.release()
        assert list_mdevs(rig.node) == [FOREIGN]

    async def test_of_a_gpu_with_virtual_functions_one_with_room_is_taken(self, rig: Rig) -> None:
        add_a100(rig.node)
        for number, address in enumerate(VIRTUAL):
            rig.node.machine.directory("class/mdev_bus")
            rig.node.add_mdev_type(address, "nvidia-471", "A100-4C", mib=4096, most=20, available=int(number == 2))
            for name in ("creatable_vgpu_types", "current_vgpu_type"):
                (rig.node.machine.root / f"bus/pci/devices/{address}/nvidia/{name}").unlink()
        assert await rig.keeper.prepare(DOMAIN, wish(A100, vgpu_type_id="nvidia-471")) == MdevSource(DEVICE)
        assert list_mdevs(rig.node, VIRTUAL[2]) == [DEVICE]

    async def test_any_type_of_any_parent(self, rig: Rig) -> None:
        rig.node.paths["mtty"] = "virtual/mtty/mtty"
        rig.node.add_mdev_type("mtty", "mtty-1", "Single port serial", mib=0, most=0, available=23)
        rig.node.machine.write("class/mdev_bus/mtty/mdev_supported_types/mtty-1/device_api", "vfio-pci")
        assert await rig.keeper.prepare(DOMAIN, wish("mdev-mtty", vgpu_type_id="mtty-1")) == MdevSource(DEVICE)
        assert list_mdevs(rig.node, "mtty") == [DEVICE]

    async def test_what_the_driver_refuses_is_told(self, rig: Rig) -> None:
        add_split_t4(rig.node)
        rig.kernel.refusals["create"] = errno.ENOSPC
        with pytest.raises(DeviceFailed, match="No space left"):
            await rig.keeper.prepare(DOMAIN, wish(T4, vgpu_type_id="nvidia-222"))
        await rig.release()
        assert (list_mdevs(rig.node), rig.entries()) == ([FOREIGN], [])

    @pytest.mark.parametrize(
        ("type_id", "reason"), [("", "is split now"), ("nvidia-9", "makes nvidia-222, nvidia-223 now")]
    )
    async def test_only_what_the_gpu_makes(self, rig: Rig, type_id: str, reason: str) -> None:
        add_split_t4(rig.node)
        with pytest.raises(DeviceWithheld, match=reason):
            await rig.keeper.prepare(DOMAIN, wish(T4, vgpu_type_id=type_id))

    async def test_a_gpu_that_is_not_split_makes_none(self, rig: Rig) -> None:
        rig.node.add_t4()
        with pytest.raises(DeviceWithheld, match="is not split now"):
            await rig.keeper.prepare(DOMAIN, wish(T4, vgpu_type_id="nvidia-222"))


class TestVendorVfio:
    """vGPUs by virtual functions that get a type."""

    async def test_a_free_function_gets_the_type_and_loses_it(self, rig: Rig) -> None:
        add_a100(rig.node)
        set_type(rig.node, VIRTUAL[0], 472)
        source = await rig.keeper.prepare(DOMAIN, wish(A100, vgpu_type_id="nvidia-471"))
        assert source == PciSource((VIRTUAL[1],), managed=False)
        assert [read_type(rig.node, address) for address in VIRTUAL] == [472, 471, 0, 0]
        await rig.release()
        assert [read_type(rig.node, address) for address in VIRTUAL] == [472, 0, 0, 0]

    async def test_a_function_of_another_guest_is_never_taken(self, rig: Rig) -> None:
        add_a100(rig.node)
        rig.domains = {"a-person": [f"pci {VIRTUAL[0]}"]}
        await rig.keeper.prepare(DOMAIN, wish(A100, vgpu_type_id="nvidia-471"))
        set_type(rig.node, VIRTUAL[1], 0)  # before its guest starts the first time, somebody resets the driver
        await rig.keeper.prepare(OTHER_DOMAIN, wish(A100, OTHER_DEVICE, vgpu_type_id="nvidia-471"))
        assert [entry.making.addresses for entry in rig.entries()] == [(VIRTUAL[1],), (VIRTUAL[2],)]

    async def test_a_type_that_somebody_else_has_given_to_our_function_stays(self, rig: Rig) -> None:
        add_a100(rig.node)
        await rig.keeper.prepare(DOMAIN, wish(A100, vgpu_type_id="nvidia-471"))
        set_type(rig.node, VIRTUAL[0], 472)
        with pytest.raises(DeviceInUse, match="vGPU type nvidia-472"):
            await rig.keeper.check_ready(DOMAIN)
        await rig.release()
        assert read_type(rig.node, VIRTUAL[0]) == 472

    async def test_a_full_gpu(self, rig: Rig) -> None:
        add_a100(rig.node)
        for address in VIRTUAL:
            set_type(rig.node, address, 471)
        with pytest.raises(DeviceInUse, match="no nvidia-471 left"):
            await rig.keeper.prepare(DOMAIN, wish(A100, vgpu_type_id="nvidia-471"))


class TestNetworkFunction:
    """Virtual functions of network cards."""

    async def test_the_card_is_up_and_libvirt_gets_address_and_vlan(self, rig: Rig) -> None:
        add_network_card(rig)
        asked = wish(VF, mac_address="52:54:00:12:34:56", vlan_id=7)
        assert await rig.keeper.prepare(DOMAIN, asked) == NetworkFunctionSource(VF, "52:54:00:12:34:56", 7)
        assert rig.node.machine.sysfs.read("class/net/ens9f0/flags") == "0x1003"
        assert rig.ip_calls == []

    async def test_trust_comes_and_goes_with_the_guest(self, rig: Rig) -> None:
        add_network_card(rig)
        await rig.keeper.prepare(DOMAIN, wish(VF, trusted=True))
        await rig.release()
        assert rig.ip_calls == [f"link set dev ens9f0 vf 1 trust {state}" for state in ("on", "off")]

    async def test_a_card_without_a_link_gives_none(self, rig: Rig) -> None:
        add_network_card(rig)
        rig.node.machine.write("class/net/ens9f0/carrier", 0)
        with pytest.raises(DeviceWithheld, match="has no link"):
            await rig.keeper.prepare(DOMAIN, wish(VF))


class TestInfinibandFunction:
    """Virtual functions of InfiniBand adapters."""

    @pytest.mark.parametrize(("guid", "calls"), [("0000:0000:0000:0000", 3), ("", 3), ("b859:9f03:00aa:0002", 0)])
    async def test_one_without_a_guid_gets_one(self, rig: Rig, guid: str, calls: int) -> None:
        rig.node.add_pci(NIC, "15b3:101b", "020700", group=5, driver="mlx5_core", sriov_totalvfs=8)
        rig.node.add_rdma(NIC, "mlx5_0", link_layer="InfiniBand", state="4: ACTIVE")
        rig.node.machine.add_nic("ib0", device=rig.node.paths[NIC], carrier=1)
        functions = ["0000:5e:00.1", VF]
        rig.node.add_virtual_functions(NIC, functions, "15b3:101c", "020700", first_group=6, driver="mlx5_core")
        if guid:
            rig.node.add_rdma(VF, "mlx5_2", link_layer="InfiniBand", state="1: DOWN")
            rig.node.machine.write(f"devices/{rig.node.paths[VF]}/infiniband/mlx5_2/node_guid", guid)
        assert await rig.keeper.prepare(DOMAIN, wish(VF)) == PciSource((VF,), managed=True)
        assert (
            rig.ip_calls
            == [
                "link set dev ib0 vf 1 node_guid 5a:0e:3f:0c:2a:30:5d:65",
                "link set dev ib0 vf 1 port_guid 5a:0e:3f:0c:2a:30:5d:65",
                "link set dev ib0 vf 1 state auto",
            ][:calls]
        )
        rig.ip_calls.clear()
        await rig.release()
        assert rig.entries() == []
        # Nobody is taken for the one who had it before.
        assert sum("guid 00:00:00:00:00:00:00:00" in call for call in rig.ip_calls) == calls * 2 // 3


class TestDisk:
    """Whole disks."""

    async def test_a_disk_comes_by_the_link_that_follows_it(self, rig: Rig) -> None:
        add_sas_disk(rig)
        assert await rig.keeper.prepare(DOMAIN, wish(DISK)) == BlockSource(Path(LINK))
        assert rig.entries()[0].making.path == LINK

    async def test_what_the_guest_writes_to_it_does_not_matter(self, rig: Rig) -> None:
        add_sas_disk(rig)
        await rig.keeper.prepare(DOMAIN, wish(DISK))
        rig.node.udev["sdb"] = dict(rig.node.udev["sdb"]) | {"ID_PART_TABLE_TYPE": "gpt"}
        rig.node.machine.write("class/block/sdb/sdb1/partition", 1)
        rig.node.machine.link("class/block/sdb1", f"devices/{SAS}/block/sdb/sdb1")
        await rig.keeper.check_ready(DOMAIN)
        assert await rig.keeper.prepare(DOMAIN, wish(DISK)) == BlockSource(Path(LINK))
        with pytest.raises(DeviceInUse):
            await rig.keeper.prepare(OTHER_DOMAIN, wish(DISK))

    async def test_the_host_must_not_use_it_while_the_guest_is_off(self, rig: Rig) -> None:
        add_sas_disk(rig)
        await rig.keeper.prepare(DOMAIN, wish(DISK))
        rig.mount("8:16", "/dev/sdb")
        with pytest.raises(DeviceInUse, match="mounted"):
            await rig.keeper.check_ready(DOMAIN)

    async def test_commands_pass_through_where_it_knows_them(self, rig: Rig) -> None:
        add_sas_disk(rig)
        assert await rig.keeper.prepare(DOMAIN, wish(DISK, native=True)) == BlockSource(Path(LINK), scsi_commands=True)

    async def test_a_disk_of_a_hypervisor_knows_none(self, rig: Rig) -> None:
        rig.node.add("vdb", "pci0000:00/0000:00:04.0/virtio1", udev=BLANK | {"DEVLINKS": LINK})
        with pytest.raises(RequestInvalid, match=r"device\.native"):
            await rig.keeper.prepare(DOMAIN, wish(DISK, native=True))

    async def test_without_a_link_it_is_not_given(self, rig: Rig) -> None:
        add_sas_disk(rig, links="")
        with pytest.raises(DeviceWithheld, match="no link below /dev/disk"):
            await rig.keeper.prepare(DOMAIN, wish(DISK))

    async def test_an_nvme_disk_is_a_block_device_or_its_controller(self, rig: Rig) -> None:
        add_nvme_disk(rig)
        source = await rig.keeper.prepare(DOMAIN, wish(DISK))
        assert source == BlockSource(Path("/dev/disk/by-id/nvme-eui.01"))
        await rig.release()
        assert await rig.keeper.prepare(DOMAIN, wish(DISK, native=True)) == PciSource((NVME,))

    async def test_a_disk_whose_controller_a_guest_has_is_still_told_of(self, rig: Rig) -> None:
        add_nvme_disk(rig)
        before = await rig.find(DISK)
        await rig.keeper.prepare(DOMAIN, wish(DISK, native=True))
        rig.kernel.bind(NVME, "vfio-pci")
        (rig.node.machine.root / "class/block/nvme0n1").unlink()
        rig.domains = {DOMAIN: [f"pci {NVME}"]}
        after = await rig.find(DISK)
        assert (after.withheld_reason, after.fault, after.size_bytes) == ("used by domain vm-01", "", before.size_bytes)
        await rig.keeper.check_ready(DOMAIN)
        assert await rig.keeper.prepare(DOMAIN, wish(DISK, native=True)) == PciSource((NVME,))

    async def test_a_controller_that_cannot_be_isolated_stays(self, rig: Rig) -> None:
        add_nvme_disk(rig)
        (rig.node.machine.root / f"bus/pci/devices/{NVME}/iommu_group").unlink()
        with pytest.raises(DeviceWithheld, match="is in no IOMMU group"):
            await rig.keeper.prepare(DOMAIN, wish(DISK, native=True))

    async def test_a_controller_of_several_disks_stays(self, rig: Rig) -> None:
        add_nvme_disk(rig)
        rig.node.add("nvme0n2", NVME_PATH, udev=BLANK | {"ID_WWN": "0x2"}, device__transport="pcie")
        with pytest.raises(DeviceWithheld, match="leads to nvme0n2, too"):
            await rig.keeper.prepare(DOMAIN, wish(DISK, native=True))

    async def test_the_hidden_way_to_a_disk_is_no_other_disk(self, rig: Rig) -> None:
        add_nvme_disk(rig)
        rig.node.add("nvme0c0n1", NVME_PATH, hidden=1, device__transport="pcie")
        assert await rig.keeper.prepare(DOMAIN, wish(DISK, native=True)) == PciSource((NVME,))

    async def test_a_disk_that_was_pulled_but_is_still_defined_is_in_use(self, rig: Rig) -> None:
        add_sas_disk(rig)
        await rig.keeper.prepare(DOMAIN, wish(DISK))
        (rig.node.machine.root / "class/block/sdb").unlink()
        rig.domains = {DOMAIN: [Path(LINK).name]}
        with pytest.raises(DeviceInUse, match="used by domain vm-01"):
            await rig.release()

    async def test_a_disk_that_has_got_another_name_is_the_same(self, rig: Rig) -> None:
        add_sas_disk(rig)
        await rig.keeper.prepare(DOMAIN, wish(DISK))
        (rig.node.machine.root / "class/block/sdb").unlink()
        other = BLANK | {"ID_WWN": "0x1", "DEVLINKS": "/dev/disk/by-id/wwn-0x1"}
        rig.node.add("sdb", SAS.replace("0:0:3:0", "0:0:4:0"), udev=other)
        add_sas_disk(rig, "sdc")
        await rig.keeper.restore()
        assert await rig.keeper.prepare(DOMAIN, wish(DISK)) == BlockSource(Path(LINK))


class TestUsb:
    """USB devices by port."""

    async def test_the_place_is_that_of_now(self, rig: Rig) -> None:
        path = rig.node.add_usb("1-4", "0951:1666", number=5)
        assert (await rig.discover("usb"))[0].id == STICK
        assert await rig.keeper.prepare(DOMAIN, wish(STICK)) == UsbSource(1, 5)
        rig.node.machine.write(f"devices/{path}/devnum", 9)
        assert await rig.keeper.prepare(DOMAIN, wish(STICK)) == UsbSource(1, 9)

    async def test_an_empty_port_lets_no_guest_start(self, rig: Rig) -> None:
        rig.node.add_usb("1-4", "0951:1666", number=5)
        await rig.keeper.prepare(DOMAIN, wish(STICK))
        (rig.node.machine.root / "bus/usb/devices/1-4").unlink()
        with pytest.raises(DeviceFaulty, match="is gone"):
            await rig.keeper.check_ready(DOMAIN)

    async def test_a_disk_that_was_mounted_while_the_guest_was_off_stays_with_the_host(self, rig: Rig) -> None:
        path = rig.node.add_usb("1-4", "0951:1666", number=5)
        await rig.keeper.prepare(DOMAIN, wish(STICK))
        rig.node.add("sdc", f"{path}/1-4:1.0/host9/target9:0:0/9:0:0:0", udev=BLANK, dev="8:32")
        rig.mount("8:32", "/dev/sdc")
        with pytest.raises(DeviceInUse, match="the host's disk sdc is mounted"):
            await rig.keeper.check_ready(DOMAIN)


async def test_a_guest_without_devices_waits_for_no_driver(rig: Rig) -> None:
    async with rig.keeper._decisions, rig.keeper._hold([T4]):
        assert await asyncio.wait_for(rig.keeper.prepare_all(DOMAIN, []), 60) == {}


async def test_one_that_is_not_given_back_keeps_none_of_the_others(rig: Rig) -> None:
    add_sas_disk(rig)
    add_split_t4(rig.node)
    await rig.keeper.prepare(DOMAIN, wish(DISK, wipe_on_release=True))
    await rig.keeper.prepare(DOMAIN, wish(T4, OTHER_DEVICE, vgpu_type_id="nvidia-222"))
    (rig.node.machine.root / "class/block/sdb").unlink()
    with pytest.raises(DeviceNotFound, match="must be wiped"):
        await rig.release()
    assert [entry.device.id for entry in rig.entries()] == [DISK]
    assert list_mdevs(rig.node) == [FOREIGN]


async def test_a_guest_without_devices_is_always_ready(rig: Rig) -> None:
    rig.domains = None
    await rig.keeper.check_ready(DOMAIN)
    assert await rig.release() == []


async def test_what_is_being_given_back_is_not_given(rig: Rig) -> None:
    add_split_t4(rig.node)
    asked = wish(T4, vgpu_type_id="nvidia-222")
    await rig.keeper.prepare(DOMAIN, asked)
    rig.kernel.refusals["remove"] = errno.EBUSY
    with pytest.raises(DeviceFailed):
        await rig.release()
    with pytest.raises(DeviceBusy):
        await rig.keeper.prepare(DOMAIN, asked)
    await rig.keeper.check_ready(DOMAIN)
    assert list_mdevs(rig.node) == [DEVICE, FOREIGN]
    rig.kernel.refusals.clear()
    await rig.release()
    await rig.keeper.prepare(DOMAIN, asked)


def test_changes_of_the_journal_at_one_time_do_not_undo_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several disks of a guest are wiped side by side, and each writes down how far it is."""
    journal, begun, going_on = DeviceJournal(tmp_path), threading.Event(), threading.Event()
    journal.prepare()
    first, second = (
        Entry(DOMAIN, wish(DISK, uuid), Device(id=DISK), Making("block"), made=True) for uuid in (DEVICE, OTHER_DEVICE)
    )
    journal.put(first)
    journal.put(second)

    def write_slowly(path: Path, content: bytes) -> None:
        begun.set()
        going_on.wait(0.5)
        write_file(path, content)

    monkeypatch.setattr("agent.devices.journal.write_file", write_slowly)
    slow = threading.Thread(target=journal.put, args=(replace(first, wiped_bytes=512),))
    slow.start()
    begun.wait(60)
    quick = threading.Thread(target=journal.remove, args=(second,))
    quick.start()
    quick.join(0.2)
    going_on.set()
    slow.join(60)
    quick.join(60)
    again = DeviceJournal(tmp_path)
    again.prepare()
    for one in (journal, again):
        assert [(entry.uuid, entry.wiped_bytes) for entry in one.entries()] == [(DEVICE, 512)]
