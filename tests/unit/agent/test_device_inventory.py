"""The devices of a large machine together."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agent.devices.change import DeviceWatch
from agent.devices.survey import DeviceSurvey
from agent.facts.memory import Memory
from protos.agent.v1.host_pb2 import Device
from tests.unit.agent.device_builder import Node
from tests.unit.agent.large_node import FOREIGN_MDEV, build_large_node
from tests.unit.agent.sysfs_builder import Machine

_CARD = "0000:40:00.0"
_FUNCTION = "0000:40:01.2"
_T4 = "0000:10:00.0"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Node:
    return build_large_node(tmp_path_factory.mktemp("large"))


async def _read(node: Node, memory: Memory | None = None) -> dict[str, Device]:
    survey = DeviceSurvey(node.machine.sysfs, lambda _, name: node.udev.get(name, {}), procfs=node.machine.root)
    return {device.id: device for device in await survey.discover(await survey.look_anyway(memory))}


async def test_a_large_machine_is_read_in_a_second(node: Node) -> None:
    began = time.process_time()
    devices = await _read(node)
    seconds = time.process_time() - began
    counts = Counter(device.kind for device in devices.values() if not device.withheld_reason)
    assert counts == {"gpu": 16, "vf": 512, "disk": 60, "usb": 40}
    frameworks = Counter(device.details["vgpu_framework"] for device in devices.values() if device.kind == "gpu")
    assert frameworks == {"mdev": 8, "vendor-vfio": 8}
    assert [(vgpu.id, vgpu.type_id) for vgpu in devices[_T4].vgpus] == [(FOREIGN_MDEV, "nvidia-222")]
    assert [one.available_instances for one in devices[_T4].vgpu_types] == [15, 8]
    assert (devices[_CARD].withheld_reason, devices[_CARD].details["sriov_enabled"]) == (
        "has 64 virtual functions, which would go with it",
        "64",
    )
    assert seconds < 1


async def test_after_an_event_only_its_device_is_read_anew(node: Node) -> None:
    memory = Memory()
    before = await _read(node, memory)
    home = node.machine.root / f"bus/pci/devices/{_FUNCTION}"
    (home / "driver").unlink()
    (node.machine.root / "class/net/ens0f0v2").unlink()
    assert await _read(node, memory) == before, "nobody has told of it"
    memory.forget({"0000:40:01.0", _FUNCTION, "networks"})
    began = time.process_time()
    after = await _read(node, memory)
    seconds = time.process_time() - began
    assert "driver" not in after[_FUNCTION].details
    assert {key for key in before if before[key] != after[key]} == {_FUNCTION}
    assert after == await _read(node), "as somebody sees it who knows nothing"
    assert seconds < 0.25  # 0.07 s on a quiet machine, see tests.bench.discovery


async def test_what_comes_goes_and_is_used_needs_no_look_at_the_rest(node: Node) -> None:
    memory = Memory()
    before = await _read(node, memory)
    node.add_usb("1-12.1", "0781:5581", number=99)
    (node.machine.root / f"bus/pci/devices/{_CARD}/virtfn63").unlink()
    (node.machine.root / "bus/pci/devices/0000:40:08.7").unlink()
    # A volume group over a disk: its event tells of the device mapper's device alone.
    node.machine.directory("class/block/sdc/holders/dm-7")
    memory.forget({"usb1", "1-12", "1-12.1", "0000:40:08.7", "dm-7"})
    after = await _read(node, memory)
    disk = next(device.id for device in after.values() if device.details.get("name") == "sdc")
    assert after.keys() - before.keys() == {"usb-0000:00:14.0-0-12.1"}
    assert before.keys() - after.keys() == {"0000:40:08.7"}
    assert {key for key in before.keys() & after.keys() if before[key] != after[key]} == {_CARD, disk}
    assert (after[_CARD].details["sriov_enabled"], after[disk].withheld_reason) == ("63", "used by dm-7")
    assert after == await _read(node)


async def test_when_time_is_over_or_somebody_asks_everything_is_read_anew() -> None:
    watch = DeviceWatch()
    for notice in (False, True):
        memory = await watch.wait(0.01)
        memory.recall("sda", "disk", lambda: 1)
        if notice:
            watch.notice()
        known = await asyncio.wait_for(watch.wait(0.01), 10)
        assert known.recall("sda", "disk", lambda: 2) == 2


def test_a_driver_that_says_what_nobody_expects_hides_nothing_else(tmp_path: Path) -> None:
    node = Node(Machine(tmp_path))
    node.add_pci("0000:3b:00.0", "10de:1eb8", "no class", group=1)
    node.add_usb("1-4", "0951:1666")
    with capture_logs() as logs:
        assert [device.kind for device in node.discover()] == ["usb"]
    assert {log["kind"] for log in logs} == {"discover_gpus", "discover_network_cards"}
    assert {log["event"] for log in logs} == {"devices.unreadable"}
