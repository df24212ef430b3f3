"""Nodes as operators see them."""

from typing import Any

from sqlmodel import select

from coordinator.agents.device_report import make_devices
from coordinator.runtime import Runtime
from coordinator.services.host_fact import apply_facts
from coordinator.store.tables import DeviceAllocation, Node, Tenant
from protos.agent.v1 import host_pb2
from tests.api.client import Api
from tests.api.cloud import INSTANCES, stock
from tests.api.test_device import a_gpu, a_split_gpu
from tests.builders import a_node, add
from tests.database import BOTH_DATABASES

NODES = "/api/ecs/v1/nodes"
HDD_BYTES = 1_200_243_695_616
NVME_BYTES = 1_919_313_510_400


def stored_node(runtime: Runtime, **columns: Any) -> str:
    node = a_node("host-a", machine_uuid="serial-1", **columns)
    facts = host_pb2.HostFacts(hostname="host-a", architecture=host_pb2.ARCHITECTURE_X86_64, agent_version="0.1.0")
    facts.cpu.model_name = "EPYC"
    apply_facts(node, facts)
    disks = [a_disk(number, "hdd", "sata", HDD_BYTES) for number in range(4)]
    disks += [a_disk(4, "ssd", "nvme", NVME_BYTES), a_disk(5, "ssd", "", NVME_BYTES)]
    with runtime.database.write() as session:
        add(session, node, *make_devices(node.id, disks))
    return node.id


def a_disk(number: int, media: str, interface: str, size_bytes: int) -> host_pb2.Device:
    attributes = {"media": media, "interface": interface} if interface else {"media": media}
    disk = host_pb2.Device(id=f"wwn-{number}", kind="disk", attributes=attributes, size_bytes=size_bytes)
    disk.withheld_reason = "mounted" if number == 0 else ""
    return disk


def test_a_node_is_told_with_all_its_fields(operator: Api, runtime: Runtime) -> None:
    place = {"zone": "AZ1", "rack": "R1", "switch": "S1", "net_switch": "N1"}
    storage_id = "8d1e8c1e-7e64-4a7e-9c60-0e2a4a7a7d13"
    node_id = stored_node(runtime, address="192.0.2.7:8446", storage_id=storage_id, **place)
    (node,) = operator.ok("GET", NODES)["list"]
    assert node.pop("createdAt").endswith("Z")
    assert node.pop("updatedAt").endswith("Z")
    assert len(node.pop("hardDiskList")) == 3
    assert node == {
        "cell": "cell0",
        "hostId": node_id,
        "name": "host-a",
        "hostIp": "192.0.2.7",
        "hostSlot": "serial-1",
        "hostLabel": "",
        "hostRack": "R1",
        "hostSwitch": "S1",
        "hostNetSwitch": "N1",
        "arch": "amd64",
        "az": "AZ1",
        "cpuModel": "EPYC",
        "ready": True,
        "heardAt": "0001-01-01T00:00:00Z",
        "schedulable": True,
        "inMaintenance": False,
        "agentVersion": "0.1.0",
        "storageId": "8d1e8c1e-7e64-4a7e-9c60-0e2a4a7a7d13",
        "storages": [],
        "diskLocks": False,
        "rpId": "",
        "rpName": "",
        "hgId": "",
        "hgName": "",
        "cpuAllocationRatio": None,
        "reservedVcpus": None,
        "reservedMemoryMib": None,
        "isGPUNode": False,
        "gpuInfo": {"gpuType": "", "product": "", "mode": "", "vgpuDisplayName": "", "gpus": None},
    }


def test_gpus_are_told_with_their_mode_and_whether_they_are_in_use(operator: Api, runtime: Runtime) -> None:
    node_id = stored_node(runtime)
    whole, split, mixed = a_gpu(0), a_split_gpu(1), a_split_gpu(2, withheld_reason="mounted")
    mixed.vgpus.add(id="83b8f4f2-509f-382f-3c1e-e6bfe0fa1002", type_id="nvidia-223")
    display = host_pb2.Device(id="0000:03:00.0", kind="display")
    with runtime.database.write() as session:
        add(session, *make_devices(node_id, [whole, split, mixed, display]))
        held: dict[str, Any] = {"node_id": node_id, "device_id": split.id, "kind": "gpu"}
        add(session, DeviceAllocation(consumer_uuid="somebody", milli=63, **held))
    (node,) = operator.ok("GET", NODES)["list"]
    same = {"gpuType": "10de1eb8", "product": "NVIDIA T4"}
    none = {"mode": "passthrough", "vgpuDisplayName": ""}
    assert node["isGPUNode"] is True
    assert node["gpuInfo"] == {
        **same,
        **none,
        "gpus": [
            {**same, **none, "inUse": False},
            {**same, "mode": "nvidia-222", "vgpuDisplayName": "NVIDIA GRID T4-1B (1GB)", "inUse": True},
            {**same, "mode": "vgpu", "vgpuDisplayName": "", "inUse": False},
        ],
    }
    (host,) = operator.ok("GET", "/api/ecs/v1/resource-pool/host-list")["hosts"]
    assert host["gpuInfo"] == {**same, **none, "gpus": 3}


def test_a_display_makes_no_gpu_node(operator: Api, runtime: Runtime) -> None:
    node_id = stored_node(runtime)
    with runtime.database.write() as session:
        add(session, *make_devices(node_id, [host_pb2.Device(id="0000:03:00.0", kind="display")]))
    (node,) = operator.ok("GET", NODES)["list"]
    assert (node["isGPUNode"], node["gpuInfo"]["gpus"]) == (False, None)


def test_a_node_tells_whether_it_locks_disks(operator: Api, runtime: Runtime) -> None:
    stored_node(runtime)
    with runtime.database.write() as session:
        session.exec(select(Node)).one().traits = ["disk-locks", "kvm"]
    (node,) = operator.ok("GET", NODES)["list"]
    assert node["diskLocks"] is True


@BOTH_DATABASES
def test_disks_that_are_alike_are_counted_together(operator: Api, runtime: Runtime) -> None:
    stored_node(runtime)
    (node,) = operator.ok("GET", NODES)["list"]
    same = {"az": "AZ0", "cell": "cell0", "nodeName": "host-a"}
    assert node["hardDiskList"] == [
        {
            **same,
            "localDiskType": "HDD",
            "localDiskInterface": "SATA",
            "diskSize": HDD_BYTES,
            "diskNum": 4,
            "orderKey": f"host-a_HDD_SATA_{HDD_BYTES}",
        },
        {
            **same,
            "localDiskType": "SSD",
            "localDiskInterface": "NVME",
            "diskSize": NVME_BYTES,
            "diskNum": 1,
            "orderKey": f"host-a_SSD_NVME_{NVME_BYTES}",
        },
        {
            **same,
            "localDiskType": "SSD",
            "localDiskInterface": "OTHER",
            "diskSize": NVME_BYTES,
            "diskNum": 1,
            "orderKey": f"host-a_SSD_OTHER_{NVME_BYTES}",
        },
    ]


def test_an_ipv6_address_is_told_without_brackets(operator: Api, runtime: Runtime) -> None:
    stored_node(runtime, address="[2001:db8::7]:8446")
    assert operator.ok("GET", NODES)["list"][0]["hostIp"] == "2001:db8::7"


def test_a_node_that_has_told_nothing_yet(operator: Api, runtime: Runtime) -> None:
    with runtime.database.write() as session:
        add(session, a_node(facts={}, address="", ready=False, architecture=""))
    (node,) = operator.ok("GET", NODES)["list"]
    assert (node["hostIp"], node["arch"], node["hardDiskList"], node["ready"]) == ("", "", [], False)


@BOTH_DATABASES
def test_nodes_are_filtered(operator: Api, runtime: Runtime) -> None:
    with runtime.database.write() as session:
        add(session, a_node("a", zone="AZ1"), a_node("b", ready=False))
    found = operator.ok("GET", f"{NODES}?filter=ready:eq:true|az:eq:AZ1")
    assert ([node["name"] for node in found["list"]], found["total"]) == (["a"], 1)


def node_of(api: Api, name: str = "host-a") -> dict[str, Any]:
    (node,) = api.ok("GET", f"{NODES}?filter=name:eq:{name}")["list"]
    return dict(node)


LABELS = {
    "hostLabel": "slot-7",
    "rackLabel": "rack-3",
    "switchLabel": "switch-12",
    "netSwitchLabel": "core-1",
}


def test_labels_are_set_kept_and_taken_off(operator: Api, runtime: Runtime) -> None:
    stored_node(runtime)
    with runtime.database.write() as session:
        add(session, a_node("host-b"), a_node("host-c"))
    nodes = [{"cell": "cell0", "name": name} for name in ("host-a", "host-b")]
    assert operator.ok("POST", f"{NODES}/label", {"nodes": nodes, **LABELS}) is None
    shown = ("hostLabel", "hostSlot", "hostRack", "hostSwitch", "hostNetSwitch")
    for name in ("host-a", "host-b"):
        labelled = node_of(operator, name)
        assert [labelled[field] for field in shown] == ["slot-7", "slot-7", "rack-3", "switch-12", "core-1"]
    assert node_of(operator, "host-c")["hostRack"] == ""
    operator.ok("POST", f"{NODES}/label", {"nodes": nodes[:1], "rackLabel": "rack-4", "hostLabel": ""})
    assert [node_of(operator)[field] for field in shown] == ["", "serial-1", "rack-4", "switch-12", "core-1"]
    assert operator.ok("GET", f"{NODES}?filter=hostRack:eq:rack-3")["total"] == 1


def test_of_several_nodes_all_are_labelled_or_none(operator: Api, runtime: Runtime) -> None:
    stored_node(runtime)
    known = {"cell": "cell0", "name": "host-a"}
    for other, code in (
        ({"cell": "cell0", "name": "nobody"}, "ECS.DBGet.NoData"),
        ({"cell": "cell9", "name": "host-a"}, "ECS.DBGet.NoData"),
        ({"cell": "cell0"}, "ECS.InvalidParameter"),
    ):
        assert operator.refused("POST", f"{NODES}/label", {"nodes": [known, other], **LABELS}).code == code
    refused: list[dict[str, Any]] = [{"nodes": []}, {"nodes": [known], "rackLabel": "x" * 64}]
    for wrong in refused:
        assert operator.refused("POST", f"{NODES}/label", wrong).code == "ECS.InvalidParameter"
    assert node_of(operator)["hostRack"] == ""


def test_a_node_is_closed_for_new_instances_and_opened_again(
    operator: Api, customer: Api, runtime: Runtime, tenant: Tenant
) -> None:
    cloud = stock(runtime, tenant)
    before = customer.ok("POST", INSTANCES, cloud.order())
    path = f"{NODES}/{cloud.node.id}/schedulable"
    assert not operator.ok("PUT", path, {"schedulable": False})["schedulable"]
    refused = customer.ok("POST", INSTANCES, cloud.order())
    assert refused["errMessage"] == "0/1 hosts: 1 closed for new instances"
    assert customer.ok("GET", f"{INSTANCES}/{before['ecsId']}")["nodeName"] == cloud.node.name
    for _ in range(2):
        assert operator.ok("PUT", path, {"schedulable": "true"})["schedulable"]
    assert customer.ok("POST", INSTANCES, cloud.order())["nodeName"] == cloud.node.name


def test_what_cannot_be_closed(operator: Api, customer: Api, auditor: Api, runtime: Runtime) -> None:
    path = f"{NODES}/{stored_node(runtime)}/schedulable"
    assert operator.refused("PUT", path, {}).message == "schedulable: is required"
    nowhere = operator.refused("PUT", f"{NODES}/node-nothing/schedulable", {"schedulable": False})
    assert (nowhere.code, nowhere.message) == ("ECS.DBGet.NoData", "node 'node-nothing' does not exist")
    for caller in (customer, auditor):
        assert caller.refused("PUT", path, {"schedulable": False}).code == "ECS.OperationDenied.Identity"
        assert caller.refused("POST", f"{NODES}/label", {"nodes": []}).code == "ECS.OperationDenied.Identity"


def test_what_a_node_keeps_for_itself_is_given_to_nobody(
    operator: Api, customer: Api, runtime: Runtime, tenant: Tenant
) -> None:
    cloud = stock(runtime, tenant)
    path = f"{NODES}/{cloud.node.id}/reserved"
    told = operator.ok("PUT", path, {"vcpus": 15, "memoryMib": "1024"})
    assert (told["reservedVcpus"], told["reservedMemoryMib"]) == (15, 1024)
    refused = customer.ok("POST", INSTANCES, cloud.order())
    assert "too few vCPUs (wanted 2 vCPUs, at most 1 vCPU free)" in refused["errMessage"]
    assert operator.ok("PUT", path, {})["reservedVcpus"] is None
    assert customer.ok("POST", INSTANCES, cloud.order())["status"] == "Provisioning"


def test_a_reservation_names_a_node_and_amounts(operator: Api, customer: Api, auditor: Api, runtime: Runtime) -> None:
    path = f"{NODES}/{stored_node(runtime)}/reserved"
    assert operator.ok("PUT", path, {"vcpus": 2})["reservedVcpus"] == 2
    assert operator.refused("PUT", path, {"vcpus": -1}).code == "ECS.InvalidParameter"
    assert operator.refused("PUT", f"{NODES}/node-nothing/reserved", {}).code == "ECS.DBGet.NoData"
    for caller in (customer, auditor):
        assert caller.refused("PUT", path, {}).code == "ECS.OperationDenied.Identity"
