"""USB devices on trees that look like /sys of real machines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from protos.agent.v1.host_pb2 import Device
from tests.unit.agent.device_builder import Node
from tests.unit.agent.sysfs_builder import Machine

XHCI = "pci0000:00/0000:00:14.0"
STICK = "0951:1666"


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(Machine(tmp_path))


def test_a_stick_is_known_by_its_port_and_told_by_its_names(node: Node) -> None:
    node.add_usb(
        "1-4.2", STICK, number=12, manufacturer="Kingston", product="DataTraveler 3.0", serial="KX1", speed=480
    )
    assert node.discover() == [
        Device(
            id="usb-0000:00:14.0-0-4.2",
            kind="usb",
            attributes={"vendor": "0951", "product": "1666"},
            numa_node=-1,
            details={
                "name": "1-4.2",
                "bus": "1",
                "port": "4.2",
                "device": "12",
                "vendor_name": "Kingston",
                "product_name": "DataTraveler 3.0",
                "serial": "KX1",
                "speed_mbps": "480",
            },
        )
    ]


def test_one_that_has_no_names_is_told_by_those_of_udev(node: Node) -> None:
    node.add_usb("1-4", "1a86:7523")
    node.udev["1-4"] = {"ID_VENDOR_FROM_DATABASE": "QinHeng Electronics", "ID_MODEL_FROM_DATABASE": "CH340 converter"}
    (device,) = node.discover()
    assert (device.details["vendor_name"], device.details["product_name"]) == ("QinHeng Electronics", "CH340 converter")
    assert "serial" not in device.details


def test_the_same_port_has_one_identity_whatever_numbers_its_bus_gets(node: Node) -> None:
    """Buses are numbered in the order in which controllers were found."""
    node.add_usb("3-1", STICK, controller=XHCI)
    node.add_usb("4-1", STICK, controller=XHCI)
    node.add_usb("1-1", STICK, controller="pci0000:80/0000:80:02.0/0000:81:00.0")
    node.machine.directory(f"devices/{XHCI}/phy0")
    identities = {device.details["name"]: device.id for device in node.discover()}
    assert identities == {
        "3-1": "usb-0000:00:14.0-0-1",
        "4-1": "usb-0000:00:14.0-1-1",
        "1-1": "usb-0000:81:00.0-0-1",
    }


@pytest.mark.parametrize(
    ("device_class", "interfaces", "takes_input", "is_told"),
    [
        ("09", [("09", "00")], False, False),
        ("00", [("03", "01"), ("03", "00")], True, False),
        ("00", [("03", "02")], True, False),
        ("00", [("08", "50"), ("03", "01")], False, False),
        ("00", [("03", "00")], True, False),
        ("00", [("03", "00")], False, True),
        ("00", [("01", "00"), ("03", "00")], True, True),
        ("ff", [("ff", "00")], False, True),
        ("00", [], False, True),
    ],
    ids=["hub", "keyboard", "mouse", "console of a BMC", "tablet", "licence key", "headset", "serial", "unconfigured"],
)
def test_hubs_and_what_people_type_with_are_left_out(
    node: Node, device_class: str, interfaces: Sequence[tuple[str, str]], takes_input: bool, is_told: bool
) -> None:
    path = node.add_usb("1-4", "0627:0001", device_class=device_class, interfaces=interfaces)
    if takes_input:
        node.machine.directory(f"devices/{path}/1-4:1.{len(interfaces) - 1}/0003:0627:0001.0002/input/input7")
    assert len(node.discover()) == is_told


def test_root_hubs_and_interfaces_are_no_devices(node: Node) -> None:
    node.machine.write("bus/usb/devices/usb1/devnum", 1)
    node.machine.write("bus/usb/devices/1-0:1.0/bInterfaceClass", "09")
    assert node.discover() == []


def test_one_that_goes_away_meanwhile_is_left_out(node: Node) -> None:
    node.machine.link("bus/usb/devices/1-4", f"devices/{XHCI}/usb1/1-4")
    assert node.discover() == []


class TestUse:
    """Who has it already."""

    def test_a_stick_that_the_host_has_mounted(self, node: Node) -> None:
        path = node.add_usb("1-4", STICK)
        node.add("sdb", f"{path}/1-4:1.0/host7/target7:0:0/7:0:0:0", dev="8:16")
        assert node.reason("usb-0000:00:14.0-0-4") == ""
        node.mounted = {"8:16"}
        assert node.reason("usb-0000:00:14.0-0-4") == "the host's disk sdb is mounted"

    def test_a_network_card_that_carries_a_network_of_the_host_even_behind_a_hub(self, node: Node) -> None:
        hub = node.add_usb("1-4", "05e3:0610", device_class="09", number=2)
        path = node.add_usb("1-4.1", "0bda:8153", interfaces=[("ff", "00")])
        assert path.startswith(hub)
        node.machine.add_nic("enx00", device=f"{path}/1-4.1:1.0")
        node.addresses = {"enx00": ["10.0.0.5/24"]}
        assert node.reason() == "network interface enx00 has the host's address 10.0.0.5/24"

    @pytest.mark.parametrize("name", ["usb 1:5", "usb 0951:1666"])
    def test_a_guest_that_has_it_by_its_place_or_by_its_kind(self, node: Node, name: str) -> None:
        node.add_usb("1-4", STICK)
        node.guests = {name: "somebody's", "usb 1:6": "another"}
        assert node.reason() == "used by domain somebody's"

    def test_that_nobody_can_tell_which_guest_has_it(self, node: Node) -> None:
        node.add_usb("1-4", STICK)
        node.guests = None
        assert node.reason() == "libvirt, which knows the devices of guests, is away"
