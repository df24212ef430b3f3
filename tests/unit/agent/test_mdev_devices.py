"""Parents of mediated devices that are no GPUs, as the kernel's sample drivers make them."""

from __future__ import annotations

from pathlib import Path

import pytest

from protos.agent.v1.host_pb2 import Device, Vgpu, VgpuType
from tests.unit.agent.device_builder import Node
from tests.unit.agent.sysfs_builder import Machine

UUID = "83b8f4f2-509f-382f-3c1e-e6bfe0fa2001"
CRYPTO = "0000:6b:00.0"


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(Machine(tmp_path))


def test_a_parent_that_is_no_hardware_is_known_by_its_name(node: Node) -> None:
    node.paths["mtty"] = "virtual/mtty/mtty"
    node.add_mdev_type("mtty", "mtty-1", "Single port serial", mib=0, most=0, available=23, uuids=[UUID])
    node.machine.write("devices/virtual/mtty/mtty/mdev_supported_types/mtty-1/description", "")
    assert node.discover() == [
        Device(
            id="mdev-mtty",
            kind="mdev",
            attributes={"model": "mtty"},
            numa_node=-1,
            shareable=True,
            vgpu_types=[VgpuType(id="mtty-1", name="Single port serial", available_instances=23)],
            vgpus=[Vgpu(id=UUID, type_id="mtty-1")],
        )
    ]


def test_one_on_the_pci_bus_is_known_by_its_address(node: Node) -> None:
    node.add_pci(CRYPTO, "8086:4940", "0b4000", group=9, driver="qat", numa_node=1)
    node.add_mdev_type(CRYPTO, "qat-sym", "Symmetric", mib=0, most=0, available=2)
    (device,) = node.discover()
    assert (device.id, device.kind, device.details["driver"], device.numa_node) == (f"mdev-{CRYPTO}", "mdev", "qat", 1)
    assert (dict(device.attributes), device.withheld_reason) == ({"vendor": "8086", "product": "4940"}, "")
    node.guests = {f"pci {CRYPTO}": "somebody's"}
    assert node.reason() == "used by domain somebody's"


def test_gpus_are_told_as_gpus(node: Node) -> None:
    node.add_t4()
    node.add_mdev_type("0000:3b:00.0", "nvidia-222", "GRID T4-1B", mib=1024, most=16, available=16)
    assert [device.kind for device in node.discover()] == ["gpu"]
