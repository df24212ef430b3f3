"""Which disks are offered to guests, on trees that look like /sys of real machines: one that is in use never is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.devices.base import Surroundings
from agent.devices.block_use import BlockUse, read_block_use
from agent.devices.inventory import discover_devices
from agent.facts.sysfs import Sysfs, read_udev_properties
from protos.agent.v1.host_pb2 import Device
from tests.unit.agent.device_builder import BLANK, Node
from tests.unit.agent.sysfs_builder import Machine

GIB = 1024**3
AHCI = "pci0000:00/0000:00:17.0"
SATA = f"{AHCI}/ata3/host2/target2:0:0/2:0:0:0"
SAS = "pci0000:40/0000:40:01.1/0000:41:00.0/host0/port-0:0/end_device-0:0/target0:0:0/0:0:3:0"
NVME = "pci0000:20/0000:20:03.1/0000:21:00.0/nvme/nvme0"
VIRTIO = "pci0000:00/0000:00:04.0/virtio1"


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(Machine(tmp_path))


class TestIdentity:
    """What a disk is, and by what it is known."""

    def test_a_sata_disk_that_nobody_uses_is_offered(self, node: Node) -> None:
        node.add("sdb", SATA, device__vendor="ATA     ")
        node.machine.write("class/block/sdb/queue/rotational", 1)
        node.machine.write(f"devices/{AHCI}/numa_node", 1)
        assert node.discover() == [
            Device(
                id="wwn-0x5000c500a1b2c3d4",
                kind="disk",
                attributes={"model": "ST8000NM", "media": "hdd", "interface": "sata"},
                details={
                    "name": "sdb",
                    "address": "2:0:0:0",
                    "pci_address": "0000:00:17.0",
                    "wwn": "0x5000c500a1b2c3d4",
                    "serial": "ZC1A2B3C",
                },
                numa_node=1,
                size_bytes=8 * GIB,
            )
        ]

    def test_an_nvme_disk_is_known_without_udev_knowing_its_name(self, node: Node) -> None:
        udev = {"USEC_INITIALIZED": "1"}
        node.add("nvme0n1", NVME, udev=udev, wwid="eui.0025385b71b0a1c2", device__transport="pcie")
        node.machine.write(f"devices/{NVME}/model", "SAMSUNG MZQL23T8HCLS-00A07   ")
        node.machine.write("devices/pci0000:20/0000:20:03.1/0000:21:00.0/numa_node", -1)
        (device,) = node.discover()
        assert (device.id, device.numa_node, device.withheld_reason) == ("wwn-eui.0025385b71b0a1c2", -1, "")
        assert dict(device.attributes) == {
            "model": "SAMSUNG MZQL23T8HCLS-00A07",
            "media": "ssd",
            "interface": "nvme",
        }
        assert dict(device.details) == {
            "name": "nvme0n1",
            "pci_address": "0000:21:00.0",
            "wwn": "eui.0025385b71b0a1c2",
        }

    def test_an_nvme_disk_with_several_controllers_is_where_the_first_is(self, node: Node) -> None:
        node.machine.write(f"devices/{NVME}/transport", "pcie")
        node.add("nvme0n1", "virtual/nvme-subsystem/nvme-subsys0", hidden=0)
        node.machine.link("devices/virtual/nvme-subsystem/nvme-subsys0/nvme0", f"devices/{NVME}")
        (device,) = node.discover()
        assert (device.attributes["interface"], device.details["pci_address"]) == ("nvme", "0000:21:00.0")

    @pytest.mark.parametrize(
        ("path", "udev", "vendor", "interface"),
        [
            (SAS, {}, "SEAGATE", "sas"),
            (SAS, {"ID_BUS": "ata"}, "ATA", "sata"),
            (SAS, {}, "ATA", "sata"),
            (f"{VIRTIO}/host1/target1:0:0/1:0:0:0", {}, "QEMU", "virtio"),
        ],
    )
    def test_the_interface_of_a_scsi_disk_is_that_of_its_transport(
        self, node: Node, path: str, udev: dict[str, str], vendor: str, interface: str
    ) -> None:
        node.add("sdc", path, udev={**BLANK, **udev}, device__vendor=vendor)
        (device,) = node.discover()
        assert device.attributes["interface"] == interface
        assert device.attributes.get("vendor", "ATA") == vendor
        assert not device.withheld_reason

    @pytest.mark.parametrize(
        ("udev", "identity"),
        [
            ({"ID_WWN": "0x5000", "ID_WWN_WITH_EXTENSION": "0x5000a", "ID_SERIAL_SHORT": "S"}, "wwn-0x5000a"),
            ({"ID_SERIAL_SHORT": "S 1  2", "ID_PATH": "pci-0000:00:04.0"}, "serial-S_1_2"),
            ({"ID_PATH": "pci-0000:00:04.0"}, "path-pci-0000:00:04.0"),
        ],
    )
    def test_it_is_known_by_what_stays_with_it_longest(self, node: Node, udev: dict[str, str], identity: str) -> None:
        node.add("vdb", VIRTIO, udev={"USEC_INITIALIZED": "1", **udev})
        (device,) = node.discover()
        assert (device.id, device.attributes["interface"], device.withheld_reason) == (identity, "virtio", "")

    def test_a_disk_without_an_identity_is_withheld(self, node: Node) -> None:
        node.add("vdb", VIRTIO, udev={"USEC_INITIALIZED": "1"})
        (device,) = node.discover()
        assert (device.id, device.withheld_reason) == ("name-vdb", "has no identity that outlasts a reboot")

    def test_two_disks_with_one_identity_are_one_that_nobody_gets(self, node: Node) -> None:
        node.add("sdb", SAS)
        node.add("sdc", SATA)
        assert node.reason() == "2 devices have this identity"

    def test_the_order_does_not_depend_on_the_names_of_the_kernel(self, node: Node) -> None:
        node.add("sdb", SAS, udev={**BLANK, "ID_WWN": "0x2"})
        node.add("sdc", SATA, udev={**BLANK, "ID_WWN": "0x1"})
        assert [device.id for device in node.discover()] == ["wwn-0x1", "wwn-0x2"]


class TestUse:
    """What keeps a disk from being offered."""

    @pytest.mark.parametrize(
        ("known", "reason"),
        [
            ({"ID_FS_TYPE": "ext4"}, "holds data (ext4)"),
            ({"ID_FS_TYPE": "linux_raid_member", "ID_FS_USAGE": "raid"}, "holds data (linux_raid_member)"),
            ({"ID_FS_TYPE": "LVM2_member"}, "holds data (LVM2_member)"),
            ({"ID_FS_TYPE": "crypto_LUKS"}, "holds data (crypto_LUKS)"),
            ({"ID_FS_USAGE": "other"}, "holds data (other)"),
            ({"ID_PART_TABLE_TYPE": "gpt"}, "has a partition table (gpt)"),
        ],
    )
    def test_what_udev_finds_on_it(self, node: Node, known: dict[str, str], reason: str) -> None:
        node.add("sdb", SATA, udev={**BLANK, **known})
        assert node.reason() == reason

    def test_that_udev_has_not_looked_yet(self, node: Node) -> None:
        node.add("sdb", SATA, udev={"ID_WWN": "0x5000"})
        assert node.reason() == "udev has not looked at it"

    @pytest.mark.parametrize(
        ("attribute", "reason"), [("ro", "read-only"), ("removable", "removable"), ("hidden", None)]
    )
    def test_what_the_kernel_says_of_it(self, node: Node, attribute: str, reason: str | None) -> None:
        changes: dict[str, Any] = {attribute: 1}
        node.add("sdb", SATA, **changes)
        assert [device.withheld_reason for device in node.discover()] == ([reason] if reason else [])

    @pytest.mark.parametrize(
        ("name", "path", "attributes", "reason"),
        [
            ("sdb", "platform/host5/session1/target5:0:0/5:0:0:1", {}, "its interface is iscsi"),
            ("sdb", f"{AHCI}/host6/rport-6:0-0/target6:0:0/6:0:0:1", {}, "its interface is fibre channel"),
            ("sdb", f"{AHCI}/usb1/1-1/1-1:1.0/host7/target7:0:0/7:0:0:0", {}, "its interface is usb"),
            (
                "nvme1n1",
                "virtual/nvme-fabrics/ctl/nvme1",
                {"device__transport": "tcp"},
                "its interface is nvme over tcp",
            ),
            ("mmcblk0", "platform/mmc_host/mmc0/mmc0:0001", {}, "its interface is unknown"),
        ],
    )
    def test_that_it_is_not_a_local_disk_of_a_server(
        self, node: Node, name: str, path: str, attributes: dict[str, Any], reason: str
    ) -> None:
        node.add(name, path, **attributes)
        (device,) = node.discover()
        assert device.withheld_reason == reason
        assert "interface" not in device.attributes

    def test_a_mount_of_the_disk_itself(self, node: Node) -> None:
        node.add("sdb", SATA, dev="8:16")
        node.mounted = {"8:16"}
        assert node.reason() == "mounted"

    def test_a_mount_by_name_of_a_file_system_over_several_disks(self, node: Node) -> None:
        node.add("sdb", SATA, dev="8:16")
        node.mounted = {"0:45", "sdb"}
        assert node.reason() == "mounted"

    def test_a_partition_that_nobody_uses(self, node: Node) -> None:
        self._partition(node)
        assert node.reason() == "has partitions"

    def test_a_mount_of_a_partition(self, node: Node) -> None:
        self._partition(node)
        node.mounted = {"8:17"}
        assert node.reason() == "mounted"

    def test_a_volume_group_on_a_partition_and_a_mount_on_that(self, node: Node) -> None:
        self._partition(node)
        node.machine.add_block("dm-3", size_gib=1, dev="254:3")
        node.machine.write("class/block/sdb1/holders/dm-3", "")
        assert node.reason() == "used by dm-3"
        node.mounted = {"254:3"}
        assert node.reason() == "mounted"

    def test_a_raid_on_the_disk_and_swap_on_that(self, node: Node) -> None:
        node.add("sdb", SATA)
        node.machine.add_block("md0", size_gib=1)
        node.machine.write("class/block/sdb/holders/md0", "")
        assert node.reason() == "used by md0"
        node.swaps = {"md0"}
        assert node.reason() == "used as swap"

    def test_a_guest_that_has_it_whoever_made_that(self, node: Node) -> None:
        node.add("sdb", SATA)
        node.guests = {"sdb": "somebody's"}
        assert node.reason() == "used by domain somebody's"

    def test_that_nobody_can_tell_which_guest_has_it(self, node: Node) -> None:
        node.add("sdb", SATA)
        node.guests = None
        assert node.reason() == "libvirt, which knows the disks of guests, is away"

    def test_what_is_no_disk_is_not_told_of(self, node: Node) -> None:
        for name in ("loop0", "zram0", "ram1", "dm-0", "md127", "nbd3", "rbd0", "sr0", "fd0"):
            node.add(name, f"somewhere/{name}")
        node.machine.add_block("sdb", size_gib=0, device=SATA)
        assert node.discover() == []

    def _partition(self, node: Node) -> None:
        node.add("sdb", SATA, dev="8:16")
        node.machine.write("class/block/sdb/sdb1/partition", 1)
        node.machine.write("class/block/sdb/sdb1/dev", "8:17")
        home = node.machine.sysfs.resolve("class/block/sdb/sdb1").relative_to(node.machine.root)
        node.machine.link("class/block/sdb1", str(home))


class TestBlockUse:
    """Mounts and swap as the kernel lists them."""

    def test_mounts_are_known_by_number_and_by_name(self, tmp_path: Path) -> None:
        (tmp_path / "self").mkdir()
        (tmp_path / "self/mountinfo").write_text(
            "27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw\n"
            "30 27 0:45 / /srv/a\\040b rw - btrfs /dev/null-disk rw,ssd\n"
            "31 27 0:26 / /proc rw - proc proc rw\n"
            "half a line -\n"
        )
        header = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority"
        (tmp_path / "swaps").write_text(f"{header}\n/dev/dm-1               partition\t8388604\t0\t-2\n")
        use = read_block_use(tmp_path, {})
        assert {"254:0", "0:45", "vda", "null-disk"} <= use.mounted
        assert use.swaps == {"dm-1"}

    def test_a_system_that_lists_nothing_has_nothing(self, tmp_path: Path) -> None:
        assert read_block_use(tmp_path, None) == BlockUse(frozenset(), frozenset(), None)


def test_the_disk_that_this_machine_runs_from_is_never_offered() -> None:
    """Whatever this machine is, and whether udev runs on it."""
    use = read_block_use(Path("/proc"), {})
    disks = [
        device for device in discover_devices(Surroundings(Sysfs(), read_udev_properties, use)) if device.kind == "disk"
    ]
    for device in disks:
        assert device.id
        if Sysfs().read("class/block/vda/dev") in use.mounted:
            assert device.withheld_reason
