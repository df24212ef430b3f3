"""Devices of nodes over REST: what they are, who has them, and why they are not offered."""

from typing import Any

import pytest
from sqlmodel import Session

from coordinator.agents.device_report import make_devices
from coordinator.domain.device import DeviceState
from coordinator.runtime import Runtime
from coordinator.services.device import view_device
from coordinator.store.queries.device import GONE, DeviceRow
from coordinator.store.tables import DeviceAllocation, Node, Tenant
from protos.agent.v1 import host_pb2
from tests.api.client import Api
from tests.builders import a_flavor, a_flavor_type, a_node, add, an_instance
from tests.database import BOTH_DATABASES

DEVICES = "/api/ecs/v1/devices"
GIB = 1024**3


def a_gpu(number: int = 0, **fields: Any) -> host_pb2.Device:
    address = f"0000:3b:{number:02x}.0"
    details = {"address": address, "vendor_name": "NVIDIA Corporation", "product_name": "TU104GL [Tesla T4]"}
    attributes = {"vendor": "10de", "product": "1eb8", "mode": "passthrough"}
    return host_pb2.Device(**{"id": address, "kind": "gpu", "attributes": attributes, "details": details, **fields})


def a_split_gpu(number: int = 0, **fields: Any) -> host_pb2.Device:
    device = a_gpu(number, shareable=True, size_bytes=16 * GIB, **fields)
    device.attributes["mode"] = "vgpu"
    device.vgpu_types.add(
        id="nvidia-222", name="GRID T4-1B", framebuffer_bytes=GIB, maximum_instances=16, available_instances=15
    )
    device.vgpus.add(id="83b8f4f2-509f-382f-3c1e-e6bfe0fa1001", type_id="nvidia-222")
    return device


def hold(session: Session, node: Node, device_id: str, uuid: str, milli: int = 1000) -> None:
    held: dict[str, Any] = {"node_id": node.id, "device_id": device_id, "kind": "gpu"}
    add(session, DeviceAllocation(consumer_uuid=uuid, milli=milli, **held))


@pytest.fixture
def nodes(runtime: Runtime) -> dict[str, Node]:
    """Two nodes, the second away."""
    made = {"first": a_node("first"), "second": a_node("second", zone="AZ1", ready=False)}
    with runtime.database.write() as session:
        add(session, *made.values())
    return made


def fill(runtime: Runtime, node: Node, *devices: host_pb2.Device) -> None:
    with runtime.database.write() as session:
        add(session, *make_devices(node.id, devices))


def test_a_device_is_told_with_all_that_its_node_knows(operator: Api, runtime: Runtime, nodes: dict[str, Node]) -> None:
    fill(runtime, nodes["first"], a_split_gpu(numa_node=1, withheld_reason="used by domain somebody's"))
    (device,) = operator.ok("GET", DEVICES)["list"]
    assert device == {
        "id": "0000:3b:00.0",
        "kind": "gpu",
        "product": "NVIDIA T4",
        "nodeId": nodes["first"].id,
        "nodeName": "first",
        "az": "AZ0",
        "nodeReady": True,
        "state": "withheld",
        "withheldReason": "used by domain somebody's",
        "fault": "",
        "numaNode": 1,
        "size": 16 * GIB,
        "shareable": True,
        "attributes": {"vendor": "10de", "product": "1eb8", "mode": "vgpu"},
        "details": {
            "address": "0000:3b:00.0",
            "vendorName": "NVIDIA Corporation",
            "productName": "TU104GL [Tesla T4]",
        },
        "vgpuTypes": [
            {"typeId": "nvidia-222", "typeName": "GRID T4-1B", "memorySize": GIB, "maximum": 16, "available": 15}
        ],
        "vgpus": [{"id": "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001", "typeId": "nvidia-222"}],
        "rdmaPorts": [],
        "holders": [],
    }


@pytest.mark.parametrize(
    ("device", "product"),
    [
        (host_pb2.Device(kind="gpu", attributes={"vendor": "10de", "product": "1eb8"}), "NVIDIA T4"),
        (host_pb2.Device(kind="gpu", attributes={"vendor": "10de", "product": "ffff"}), "10de:ffff"),
        (host_pb2.Device(kind="vf", details={"product_name": "ConnectX Family mlx5Gen Virtual Function"}), "ConnectX"),
        (host_pb2.Device(kind="disk", attributes={"vendor": "SEAGATE", "model": "ST8000NM"}), "ST8000NM"),
        (host_pb2.Device(kind="disk"), ""),
    ],
    ids=["catalogue", "ids", "udev", "model", "nothing"],
)
def test_it_has_a_name_for_people(device: host_pb2.Device, product: str) -> None:
    device.id = "x"
    (row,) = make_devices("node-1", [device])
    view = view_device(DeviceRow(row, "first", "AZ0", True, DeviceState.FREE, False))
    assert view.product.startswith(product)
    assert bool(view.product) == bool(product)


def test_ports_are_told(operator: Api, runtime: Runtime, nodes: dict[str, Node]) -> None:
    adapter = host_pb2.Device(id="0000:af:00.0", kind="infiniband")
    adapter.rdma_ports.add(number=1, state="ACTIVE", link_layer="InfiniBand", rate="400 Gb/sec (4X NDR)", gid="fe80::1")
    fill(runtime, nodes["first"], adapter)
    (device,) = operator.ok("GET", DEVICES)["list"]
    assert device["rdmaPorts"] == [
        {"number": 1, "state": "ACTIVE", "linkLayer": "InfiniBand", "rate": "400 Gb/sec (4X NDR)", "gid": "fe80::1"}
    ]


def test_who_has_it_is_told(operator: Api, runtime: Runtime, tenant: Tenant, nodes: dict[str, Node]) -> None:
    node, flavor_type = nodes["first"], a_flavor_type()
    fill(runtime, node, a_gpu(0), a_gpu(1), a_split_gpu(2), a_gpu(3, withheld_reason="used by domain x"))
    fill(runtime, node, a_gpu(4, withheld_reason=GONE))
    flavor = a_flavor(flavor_type)
    instance = an_instance(tenant, flavor, node=node)
    with runtime.database.write() as session:
        add(session, flavor_type, flavor, instance)
        for number, uuid, milli in ((0, instance.uuid, 1000), (2, instance.uuid, 500), (2, "another", 250)):
            hold(session, node, a_gpu(number).id, uuid, milli)
        for number in (3, 4):
            hold(session, node, a_gpu(number).id, "another")
    told = operator.ok("GET", DEVICES)["list"]
    assert [device["state"] for device in told] == ["used", "free", "used", "used", "missing"]
    assert told[0]["holders"] == [{"ecsId": instance.ecs_id, "uuid": instance.uuid, "milli": 1000}]
    assert told[1]["holders"] == []
    assert {(holder["ecsId"], holder["milli"]) for holder in told[2]["holders"]} == {(instance.ecs_id, 500), ("", 250)}


@BOTH_DATABASES
@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["first wwn-d", "first 0000:3b:00.0", "first 0000:3b:01.0", "second 0000:3b:00.0"]),
        ("filter=kind:eq:gpu|az:eq:AZ0", ["first 0000:3b:00.0", "first 0000:3b:01.0"]),
        ("filter=state:eq:withheld", ["first 0000:3b:01.0"]),
        ("filter=withheldReason:lk:IOMMU", ["first 0000:3b:01.0"]),
        ("filter=nodeName:eq:second", ["second 0000:3b:00.0"]),
        ("orderBy=nodeName:desc,id:asc&size=2", ["second 0000:3b:00.0", "first 0000:3b:00.0"]),
        ("size=3&current=2", ["second 0000:3b:00.0"]),
    ],
)
def test_they_are_searched_and_ordered(
    operator: Api, runtime: Runtime, nodes: dict[str, Node], query: str, found: list[str]
) -> None:
    disk, withheld = host_pb2.Device(id="wwn-d", kind="disk"), a_gpu(1, withheld_reason="is in no IOMMU group")
    fill(runtime, nodes["first"], a_gpu(0), withheld, disk)
    fill(runtime, nodes["second"], a_gpu(0))
    answer = operator.ok("GET", f"{DEVICES}?{query}")
    assert [f"{one['nodeName']} {one['id']}" for one in answer["list"]] == found
    assert {one["nodeReady"] for one in answer["list"]} <= {one["nodeName"] == "first" for one in answer["list"]}


def test_they_are_the_operators_business(customer: Api) -> None:
    assert customer.refused("GET", DEVICES).code == "ECS.OperationDenied.Identity"
