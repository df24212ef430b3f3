"""The devices of a large machine together."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.unit.agent.device_builder import BLANK, Node
from tests.unit.agent.sysfs_builder import Machine


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """With 16 GPUs, 512 virtual functions, 60 disks and 40 USB devices."""
    node = Node(Machine(tmp_path))
    for number in range(16):
        bus = f"{0x10 + number:02x}"
        gpu = f"0000:{bus}:00.0"
        node.add_pci(gpu, "10de:2330", "030200", group=1000 + number, parent=f"pci0000:{bus}", sriov_totalvfs=16)
        functions = [f"0000:{bus}:{place // 8:02x}.{place % 8}" for place in range(8, 24)]
        creatable = "ID    : vGPU Name\n" + "\n".join(f"{700 + kind} : NVIDIA H100-{2**kind}C" for kind in range(7))
        node.add_virtual_functions(
            gpu,
            functions,
            "10de:2330",
            "030200",
            first_group=2000 + 16 * number,
            nvidia__creatable_vgpu_types=creatable,
        )
    for number in range(8):
        bus = f"{0x40 + number:02x}"
        card = f"0000:{bus}:00.0"
        node.add_pci(card, "15b3:1021", "020000", group=1100 + number, parent=f"pci0000:{bus}", sriov_totalvfs=32)
        functions = [f"0000:{bus}:{place // 8:02x}.{place % 8}" for place in range(8, 40)]
        node.add_virtual_functions(card, functions, "15b3:101e", "020000", first_group=3000 + 32 * number)
    hba = node.add_pci("0000:80:00.0", "1000:0097", "010700", group=1, parent="pci0000:80")
    for number in range(60):
        place = f"{hba}/host0/port-0:{number}/end_device-0:{number}/target0:0:{number}/0:0:{number}:0"
        node.add(f"sd{chr(97 + number // 26)}{chr(97 + number % 26)}", place, udev={**BLANK, "ID_WWN": f"0x{number}"})
    for number in range(40):
        node.add_usb(f"1-1.{number}", "0951:1666", number=number + 2)
    return node


def test_a_large_machine_is_read_in_a_second(node: Node) -> None:
    began = time.process_time()
    devices = node.discover()
    seconds = time.process_time() - began
    assert Counter(device.kind for device in devices) == {"gpu": 16, "nic": 8, "vf": 256, "disk": 60, "usb": 40}
    gpu = next(device for device in devices if device.kind == "gpu")
    assert [one.available_instances for one in gpu.vgpu_types] == [16] * 7
    assert seconds < 1


def test_a_driver_that_says_what_nobody_expects_hides_nothing_else(tmp_path: Path) -> None:
    node = Node(Machine(tmp_path))
    node.add_pci("0000:3b:00.0", "10de:1eb8", "no class", group=1)
    node.add_usb("1-4", "0951:1666")
    with capture_logs() as logs:
        assert [device.kind for device in node.discover()] == ["usb"]
    assert {log["kind"] for log in logs} == {"discover_gpus", "discover_network_cards"}
    assert {log["event"] for log in logs} == {"devices.unreadable"}
