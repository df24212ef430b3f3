"""Network cards and InfiniBand adapters on trees that look like /sys of real machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from protos.agent.v1.host_pb2 import Device, RdmaPort
from tests.unit.agent.device_builder import Node
from tests.unit.agent.sysfs_builder import Machine

CARD = "0000:af:00.0"
CONNECTX7 = "15b3:1021"
VIRTUAL = "15b3:101e"
NAMES = ("Mellanox Technologies", "MT2910 Family [ConnectX-7]")
VFS = [f"0000:af:00.{number}" for number in (2, 3)]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(Machine(tmp_path))


def add_card(node: Node, *, link_layer: str = "Ethernet", state: str = "4: ACTIVE", group: int = 70) -> None:
    """A ConnectX with one port, which can have 8 virtual functions."""
    is_infiniband = link_layer == "InfiniBand"
    node.add_pci(
        CARD,
        CONNECTX7,
        "020700" if is_infiniband else "020000",
        group=group,
        driver="mlx5_core",
        parent="pci0000:ae/0000:ae:00.0",
        names=NAMES,
        numa_node=1,
        sriov_totalvfs=8,
        sriov_numvfs=0,
    )
    node.add_rdma(CARD, "mlx5_0", link_layer=link_layer, state=state)
    name = "ib0" if is_infiniband else "ens1f0"
    node.machine.add_nic(name, device=node.paths[CARD], address="b8:59:9f:aa:00:01", carrier=1)


def add_virtual_functions(node: Node, *, class_code: str = "020000", first_group: int = 71) -> None:
    node.add_virtual_functions(CARD, VFS, VIRTUAL, class_code, first_group=first_group, driver="mlx5_core")


class TestEthernet:
    """Cards and their virtual functions."""

    def test_a_card_is_told_with_its_interface_and_what_it_can_be_split_into(self, node: Node) -> None:
        add_card(node)
        (device,) = node.discover()
        assert (device.id, device.kind, device.numa_node, device.withheld_reason) == (CARD, "nic", 1, "")
        assert dict(device.attributes) == {"vendor": "15b3", "product": "1021"}
        told = {"interface", "mac_address", "sriov_total", "sriov_enabled", "rdma_device", "node_guid", "product_name"}
        assert {name: value for name, value in device.details.items() if name in told} == {
            "interface": "ens1f0",
            "mac_address": "b8:59:9f:aa:00:01",
            "sriov_total": "8",
            "sriov_enabled": "0",
            "rdma_device": "mlx5_0",
            "node_guid": "b859:9f03:00aa:0001",
            "product_name": NAMES[1],
        }

    def test_roce_is_told_by_its_ports(self, node: Node) -> None:
        add_card(node)
        (device,) = node.discover()
        assert [(port.number, port.link_layer) for port in device.rdma_ports] == [(1, "Ethernet")]

    def test_virtual_functions_are_offered_and_their_card_is_not(self, node: Node) -> None:
        add_card(node)
        add_virtual_functions(node)
        card, *virtual = node.discover()
        assert card.withheld_reason == "has 2 virtual functions, which would go with it"
        assert [(device.kind, device.id, device.withheld_reason) for device in virtual] == [
            ("vf", address, "") for address in VFS
        ]
        assert dict(virtual[1].attributes) == {"vendor": "15b3", "product": "101e"}
        assert virtual[1].details["number"] == "1"
        assert virtual[1].details["physical_function"] == CARD
        assert virtual[1].details["physical_interface"] == "ens1f0"

    def test_virtual_functions_of_the_hosts_own_card_are_offered(self, node: Node) -> None:
        add_card(node)
        add_virtual_functions(node)
        node.addresses = {"ens1f0": ["10.0.0.5/24"]}
        assert [device.withheld_reason for device in node.discover("vf")] == ["", ""]
        assert node.reason(CARD) == "network interface ens1f0 has the host's address 10.0.0.5/24"

    def test_without_isolation_from_the_hosts_card_they_are_not(self, node: Node) -> None:
        add_card(node, group=71)
        add_virtual_functions(node)
        node.addresses = {"ens1f0": ["10.0.0.5/24"]}
        node.roles = {"10.0.0.5": "manage"}
        assert node.reason(VFS[1]) == ""
        assert node.reason(VFS[0]) == (
            "shares IOMMU group 71 with 0000:af:00.0: "
            "network interface ens1f0 carries the host's network manage (10.0.0.5/24)"
        )

    def test_a_virtual_function_that_the_host_uses_itself_is_not(self, node: Node) -> None:
        add_card(node)
        add_virtual_functions(node)
        node.machine.add_nic("ens1f0v1", device=node.paths[VFS[1]], address="02:00:00:00:00:01")
        node.machine.write("class/net/ens1f0v1/upper_br0/ifindex", 7)
        node.machine.add_nic("br0")
        assert node.reason(VFS[0]) == ""
        assert node.reason(VFS[1]) == "network interface ens1f0v1 is part of br0"

    @pytest.mark.parametrize(("carrier", "reason"), [("0", "ens1f0 has no link"), ("1", ""), ("", "")])
    def test_a_card_without_a_link_gives_no_network(self, node: Node, carrier: str, reason: str) -> None:
        add_card(node)
        node.machine.write("class/net/ens1f0/carrier", carrier)
        assert node.reason(CARD) == reason
        add_virtual_functions(node)
        assert node.reason(VFS[0]) == reason

    def test_the_interface_of_a_virtio_card_is_found(self, node: Node) -> None:
        path = node.add_pci("0000:00:03.0", "1af4:1041", "020000", group=3, driver="virtio-pci")
        node.machine.add_nic("eth0", device=f"{path}/virtio2", address="52:54:00:00:00:01")
        (device,) = node.discover()
        assert device.details["interface"] == "eth0"


class TestHost:
    """What the host does with interfaces."""

    @pytest.mark.parametrize(
        ("addresses", "reason"),
        [
            ({}, ""),
            ({"ens1f0": ["fe80::1/64", "169.254.7.1/16"]}, ""),
            ({"ens1f0": ["fe80::1/64", "fd00::5/64"]}, "network interface ens1f0 has the host's address fd00::5/64"),
        ],
    )
    def test_an_address_that_every_interface_has_is_no_use(
        self, node: Node, addresses: dict[str, list[str]], reason: str
    ) -> None:
        add_card(node)
        node.addresses.update(addresses)
        assert node.reason() == reason

    def test_the_address_of_a_bridge_on_a_bond_is_that_of_its_cards(self, node: Node) -> None:
        add_card(node)
        for lower, upper in (("ens1f0", "bond0"), ("bond0", "br-mgmt")):
            if lower != "ens1f0":
                node.machine.add_nic(lower)
            node.machine.write(f"class/net/{lower}/upper_{upper}/ifindex", 7)
        node.machine.add_nic("br-mgmt")
        assert node.reason() == "network interface ens1f0 is part of bond0"
        node.addresses = {"br-mgmt": ["10.0.0.5/24"]}
        node.roles = {"10.0.0.5": "storage"}
        assert node.reason() == "network interface ens1f0 carries the host's network storage (10.0.0.5/24)"


class TestInfiniband:
    """Adapters."""

    def test_an_adapter_is_told_with_its_ports(self, node: Node) -> None:
        add_card(node, link_layer="InfiniBand")
        (device,) = node.discover()
        assert (device.kind, device.withheld_reason) == ("infiniband", "")
        assert list(device.rdma_ports) == [
            RdmaPort(
                number=1,
                state="ACTIVE",
                link_layer="InfiniBand",
                rate="400 Gb/sec (4X NDR)",
                gid="fe80:0000:0000:0000:b859:9f03:00aa:0001",
            )
        ]

    def test_its_virtual_functions_are_infiniband_too(self, node: Node) -> None:
        add_card(node, link_layer="InfiniBand")
        add_virtual_functions(node)
        assert [(device.kind, device.withheld_reason) for device in node.discover()] == [
            ("infiniband", "has 2 virtual functions, which would go with it"),
            ("infiniband", ""),
            ("infiniband", ""),
        ]

    def test_the_class_tells_while_no_driver_does(self, node: Node) -> None:
        node.add_pci(CARD, CONNECTX7, "020700", group=70, driver="vfio-pci")
        (device,) = node.discover()
        assert (device.kind, device.details["driver"], device.withheld_reason) == ("infiniband", "vfio-pci", "")

    @pytest.mark.parametrize("state", ["1: DOWN", "2: INIT", "3: ARMED"])
    def test_without_an_active_port_neither_it_nor_a_virtual_function_is_offered(self, node: Node, state: str) -> None:
        add_card(node, link_layer="InfiniBand", state=state)
        assert node.reason() == "no port of mlx5_0 is active"
        add_virtual_functions(node)
        assert node.reason(VFS[0]) == "no port of mlx5_0 is active"


def test_devices_of_all_kinds_are_told_in_one_order(node: Node) -> None:
    node.add_t4()
    add_card(node)
    add_virtual_functions(node)
    node.add_graphics_card()

    def key(device: Device) -> tuple[str, str]:
        return device.kind, device.id

    found = node.discover()
    assert found == sorted(found, key=key)
    assert [device.kind for device in found] == ["gpu", "gpu", "nic", "vf", "vf"]
