"""What the agent finds on a node with hardware of every kind."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from protos.agent.v1.host_pb2 import Device, HostInventory
from tests.hardware.host import NodeHost
from tests.hardware.machine import SPLIT_GPU
from tests.hardware.node import HardwareNode
from tests.hardware.timing import Timings

_NOTICE_SECONDS = 2.0
_MEMORY_MIB = 120


@pytest.fixture(scope="module")
def devices(host: NodeHost, timings: Timings) -> dict[str, Device]:
    """What there is, by id."""
    with timings.measure("discovery", "inventory"):
        inventory = host.read_inventory()
    return {device.id: device for device in inventory.devices}


def _pick(devices: dict[str, Device], kind: str, **attributes: str) -> list[Device]:
    return [one for one in devices.values() if one.kind == kind and attributes.items() <= dict(one.attributes).items()]


@pytest.mark.parametrize(
    ("kind", "attributes", "count"),
    [
        ("nic", {"vendor": "8086", "product": "10d3"}, 1),
        ("gpu", {"vendor": "1002", "mode": "passthrough"}, 1),
        ("gpu", {"vendor": "1002", "mode": "vgpu"}, 1),
        ("mdev", {"model": "mtty"}, 1),
        ("vf", {"vendor": "8086", "product": "10ca"}, 2),
        ("disk", {"media": "hdd", "interface": "sata"}, 1),
        ("disk", {"media": "ssd", "interface": "sata"}, 1),
        ("disk", {"media": "ssd", "interface": "nvme"}, 2),
        ("disk", {"vendor": "MAKER", "model": "DISK"}, 3),
        ("usb", {"vendor": "0403", "product": "6001"}, 1),
        ("usb", {"vendor": "08e6"}, 1),
        ("usb", {"vendor": "46f4", "product": "0001"}, 1),
    ],
    ids=str,
)
def test_offers_what_nobody_uses(
    node: HardwareNode, devices: dict[str, Device], kind: str, attributes: dict[str, str], count: int
) -> None:
    needed = {"mdev": "mdev", "vf": "igb"}.get(kind, "mdev" if attributes.get("mode") == "vgpu" else "")
    if needed in node.preparation.missing:
        pytest.skip(node.preparation.missing[needed])
    found = _pick(devices, kind, **attributes)
    assert len(found) == count
    assert [device.withheld_reason for device in found] == [""] * count


def test_tells_disks_by_what_stays_with_them(devices: dict[str, Device]) -> None:
    disk = devices["wwn-0x5000000000000002"]
    assert (disk.details["address"].split(":", 1)[1], disk.size_bytes) == ("0:1:1", 64 * 1024**2)
    assert {"serial-SATA0", "serial-SATA1"} <= devices.keys()


def test_tells_companions_of_a_gpu(devices: dict[str, Device]) -> None:
    companions = {device.id: device.details.get("companions", "") for device in _pick(devices, "gpu")}
    assert companions == {"0000:02:00.0": "0000:02:00.1", SPLIT_GPU: ""}


def test_withholds_what_the_node_needs(devices: dict[str, Device]) -> None:
    (boot_disk,) = (device for device in devices.values() if device.id == "serial-SYSTEM")
    (card,) = _pick(devices, "nic", vendor="1af4")
    (screen,) = _pick(devices, "display")
    assert boot_disk.withheld_reason == "mounted"
    assert "carries the host's network manage (10.0.2.15/24)" in card.withheld_reason
    assert "not a GPU" in screen.withheld_reason


def test_withholds_a_function_that_shares_its_group(devices: dict[str, Device]) -> None:
    one, other = _pick(devices, "nic", product="100e")
    assert one.withheld_reason == f"shares IOMMU group {one.details['iommu_group']} with {other.id}, a network card"


def test_offers_no_input_device_and_no_hub(devices: dict[str, Device]) -> None:
    assert not _pick(devices, "usb", vendor="0627")
    assert not _pick(devices, "usb", vendor="0409")


@pytest.fixture
def mounted_disk(host: NodeHost) -> Iterator[str]:
    """The id of a disk that was offered until somebody has made a file system on it and mounted it."""
    disk = "/dev/disk/by-id/wwn-0x5000000000000003"
    host.node.run(
        f"dd if={disk} of=/run/saved bs=64M 2>&1; mkfs.ext4 -q -F {disk}; mkdir -p /run/used; mount {disk} /run/used"
    )
    yield "wwn-0x5000000000000003"
    host.node.run(f"umount /run/used; dd if=/run/saved of={disk} bs=64M conv=fsync; rm /run/saved; udevadm settle")


def test_withholds_a_disk_once_it_is_mounted(host: NodeHost, mounted_disk: str) -> None:
    def is_withheld(inventory: HostInventory) -> bool:
        return any(one.id == mounted_disk and one.withheld_reason == "mounted" for one in inventory.devices)

    assert is_withheld(host.read_inventory())


@pytest.mark.parametrize(("what", "identity"), [("stick", "STICK1"), ("nvme", "NVMEPLUGGED")])
def test_tells_of_what_is_plugged_and_pulled(host: NodeHost, timings: Timings, what: str, identity: str) -> None:
    def is_there(inventory: HostInventory) -> bool:
        return any(identity == one.details.get("serial") and one.kind in ("usb", "disk") for one in inventory.devices)

    began = time.monotonic()
    host.read_inventory()
    one_look_seconds = time.monotonic() - began
    plug = {"stick": host.node.plug_stick, "nvme": host.node.plug_nvme}[what]
    plug()
    # What the kernel and udev take on this slow machine is not the agent's.
    host.node.run(
        f"until lsblk --nodeps --noheadings -o SERIAL | grep -q {identity}; do sleep 0.02; done; udevadm settle"
    )
    plugged = host.coordinator.wait_for_inventory(is_there, f"the agent tells of {identity}")
    host.node.unplug(f"{what}-plugged")
    pulled = host.coordinator.wait_for_inventory(lambda inventory: not is_there(inventory), f"{identity} is gone")
    timings.add(f"hotplug {what}", "plugged", plugged)
    timings.add(f"hotplug {what}", "pulled", pulled)
    # Of a machine that others use, too, all of it is slow.
    assert max(plugged, pulled) < _NOTICE_SECONDS + one_look_seconds


def test_reads_the_node_fast_and_keeps_small(host: NodeHost, timings: Timings) -> None:
    with timings.measure("discovery", "again"):
        host.read_inventory()
    memory_mib = host.measure_memory() / 1024**2
    timings.add("discovery", "memory", memory_mib)
    assert memory_mib < _MEMORY_MIB
