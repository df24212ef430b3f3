"""Nodes as operators see them."""

from typing import Any

from coordinator.runtime import Runtime
from coordinator.services.host_fact import apply_facts
from protos.agent.v1 import host_pb2
from tests.api.client import Api
from tests.builders import a_node, add

NODES = "/api/ecs/v1/nodes"
HDD_BYTES = 1_200_243_695_616
NVME_BYTES = 1_919_313_510_400


def stored_node(runtime: Runtime, **columns: Any) -> str:
    node = a_node("host-a", machine_uuid="serial-1", **columns)
    disks = [host_pb2.BlockDevice(name=f"sd{letter}", size_bytes=HDD_BYTES, rotational=True) for letter in "abcd"]
    disks.append(host_pb2.BlockDevice(name="nvme0n1", size_bytes=NVME_BYTES))
    facts = host_pb2.HostFacts(
        hostname="host-a", architecture=host_pb2.ARCHITECTURE_X86_64, disks=disks, agent_version="0.1.0"
    )
    facts.cpu.model_name = "EPYC"
    apply_facts(node, facts)
    with runtime.database.write() as session:
        add(session, node)
    return node.id


def test_a_node_is_told_with_all_its_fields(operator: Api, runtime: Runtime) -> None:
    node_id = stored_node(runtime, address="192.0.2.7:8446", zone="AZ1", rack="R1", switch="S1", net_switch="N1")
    (node,) = operator.ok("GET", NODES)["list"]
    assert node.pop("createdAt").endswith("Z")
    assert node.pop("updatedAt").endswith("Z")
    assert len(node.pop("hardDiskList")) == 2
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
        "schedulable": True,
        "agentVersion": "0.1.0",
        "rpId": "",
        "rpName": "",
        "hgId": "",
        "hgName": "",
        "cpuAllocationRatio": None,
        "isGPUNode": False,
        "gpuInfo": {"gpuType": "", "product": "", "mode": "", "vgpuDisplayName": "", "gpus": None},
    }


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
    ]


def test_an_ipv6_address_is_told_without_brackets(operator: Api, runtime: Runtime) -> None:
    stored_node(runtime, address="[2001:db8::7]:8446")
    assert operator.ok("GET", NODES)["list"][0]["hostIp"] == "2001:db8::7"


def test_a_node_that_has_told_nothing_yet(operator: Api, runtime: Runtime) -> None:
    with runtime.database.write() as session:
        add(session, a_node(facts={}, address="", ready=False, architecture=""))
    (node,) = operator.ok("GET", NODES)["list"]
    assert (node["hostIp"], node["arch"], node["hardDiskList"], node["ready"]) == ("", "", [], False)


def test_nodes_are_filtered(operator: Api, runtime: Runtime) -> None:
    with runtime.database.write() as session:
        add(session, a_node("a", zone="AZ1"), a_node("b", ready=False))
    found = operator.ok("GET", f"{NODES}?filter=ready:eq:true|az:eq:AZ1")
    assert ([node["name"] for node in found["list"]], found["total"]) == (["a"], 1)
