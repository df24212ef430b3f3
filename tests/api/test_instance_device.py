"""Instances with devices over REST: ordered, shown, moved, told of faults, and rid of them again."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from coordinator.agents.device_report import make_devices
from coordinator.store.queries.device import replace_devices
from coordinator.store.queries.placement import advance_generations
from coordinator.store.tables import Allocation, DeviceAllocation, Instance, Node
from protos.agent.v1 import host_pb2, migration_pb2
from tests.api.client import Answer, Api
from tests.api.cloud import INSTANCES, Cloud, a_network, finish
from tests.api.launch_template import TEMPLATES, create, launch
from tests.api.test_device_search import a_disk, a_stick, an_adapter
from tests.api.test_instance_clone import draft
from tests.builders import a_flavor, a_flavor_type, a_node, add, an_inventory
from tests.database import BOTH_DATABASES, SQLITE_ONLY
from tests.lab.waiting import wait_until
from tests.scripted_agent import Refusal, ScriptedAgent, all_at_work

NODES = "/api/ecs/v1/nodes"
GIB = 1024**3
UNSUPPORTED = "ECS.InvalidParameter.Status.NotSupported"
T4 = {"vendor": "10de", "product": "1eb8"}


def a_gpu(number: int, mode: str = "passthrough", **fields: Any) -> host_pb2.Device:
    same = {"kind": "gpu", "attributes": {**T4, "mode": mode}, "shareable": mode == "vgpu"}
    return host_pb2.Device(**{"id": f"0000:3b:00.{number}", **same, **fields})


def a_vgpu_maker(number: int, release: str = "nvidia 550", product: str = "1eb8", **fields: Any) -> host_pb2.Device:
    """A GPU that is split, by a driver that moves vGPUs between nodes of that release; empty: it moves none."""
    attributes = {**T4, "product": product, "mode": "vgpu"} | ({"vgpu_migration": release} if release else {})
    return a_gpu(number, "vgpu", attributes=attributes, **fields)


def a_function(number: int) -> host_pb2.Device:
    return host_pb2.Device(id=f"0000:5e:0{number}.0", kind="vf", attributes={"vendor": "8086", "product": "1889"})


@pytest.fixture
def other(cloud: Cloud) -> Node:
    node = a_node("node-b")
    with cloud.runtime.database.write() as session:
        add(session, node, *an_inventory(node))
    return node


@pytest.fixture
def agents(cloud: Cloud, other: Node, tmp_path: Path) -> Iterator[list[ScriptedAgent]]:
    with all_at_work(cloud.runtime, [cloud.node, other], tmp_path / "pki") as agents:
        agents[0].peer, agents[1].peer = agents[1], agents[0]
        yield agents


def fill(cloud: Cloud, node: Node, *devices: host_pb2.Device) -> None:
    with cloud.runtime.database.write() as session:
        replace_devices(session, node.id, make_devices(node.id, devices))
        advance_generations(session, [node.id])


def a_reader(port: str, **fields: Any) -> host_pb2.Device:
    """A reader of smart cards."""
    return a_stick(port, attributes={"vendor": "08e6", "product": "3438"}, **fields)


def a_memory(port: str) -> host_pb2.Device:
    return a_stick(port, attributes={"vendor": "0951", "product": "1666"})


def bind_usb(api: Api, ecs_id: str, port: str, **fields: Any) -> None:
    body = [{"name": f"node-a-1-{port}", **fields}]
    assert finish(api, api.call("POST", f"/api/ecs/v1/usb/{ecs_id}/bind", body))["state"] == "Succeeded"


def a_stored_flavor(cloud: Cloud, of_type: dict[str, Any], **columns: Any) -> dict[str, Any]:
    """The fields of an order that name a flavor with devices."""
    flavor_type = a_flavor_type(**of_type)
    flavor = a_flavor(flavor_type, **columns)
    with cloud.runtime.database.write() as session:
        add(session, flavor_type, flavor)
    return {"flavorId": flavor.flavor_id}


def a_gpu_flavor(cloud: Cloud, gpus: int = 1, **columns: Any) -> dict[str, Any]:
    kind = "vgpu" if columns.get("vgpu_type_id") else "gpu"
    return a_stored_flavor(cloud, {"device_type": kind, "gpu_type": "10de1eb8"}, gpu=gpus, **columns)


def claims(cloud: Cloud) -> list[tuple[str, str]]:
    names = {node.id: node.name for node in cloud.rows(Node)}
    return sorted((names[row.node_id], row.device_id) for row in cloud.rows(DeviceAllocation))


def order(api: Api, cloud: Cloud, **fields: Any) -> Answer:
    return api.call("POST", INSTANCES, cloud.order(**fields))


def show(api: Api, ecs_id: str) -> dict[str, Any]:
    shown: dict[str, Any] = api.ok("GET", f"{INSTANCES}/{ecs_id}")
    return shown


def stop(api: Api, ecs_id: str) -> None:
    finish(api, api.call("PUT", f"{INSTANCES}/{ecs_id}/stop", {"gracePeriodSeconds": 0}))


class TestCreation:
    """From the order to what the node is asked for, and what is shown."""

    def test_gpus_of_a_flavor(self, customer: Api, cloud: Cloud, agents: list[ScriptedAgent]) -> None:
        fill(cloud, cloud.node, a_gpu(0), a_gpu(1), a_gpu(2, "vgpu"))
        ecs_id = cloud.create(customer, **a_gpu_flavor(cloud, 2), gpus=2)
        [spec] = agents[0].specs.values()
        told = [(it.device_id, it.vgpu_type_id, it.boot_index) for it in spec.host_devices]
        assert told == [("0000:3b:00.0", "", 0), ("0000:3b:00.1", "", 0)]
        assert show(customer, ecs_id)["hostGPUs"] == [
            {"gpuType": "10de1eb8", "product": "NVIDIA T4", "number": 2, "ids": ["0000:3b:00.0", "0000:3b:00.1"]}
        ]
        assert show(customer, ecs_id)["vgpus"] == []

    def test_vgpus_of_a_flavor(self, customer: Api, cloud: Cloud, agents: list[ScriptedAgent]) -> None:
        fill(cloud, cloud.node, a_gpu(0, "vgpu"), a_gpu(1, "vgpu"), a_gpu(2))
        flavor = a_gpu_flavor(cloud, 2, vgpu_type_id="nvidia-222", vgpu_display_name="NVIDIA GRID T4-1B (1GB)")
        ecs_id = cloud.create(customer, **flavor, vgpu=2)
        [spec] = agents[0].specs.values()
        told = [(it.device_id, it.vgpu_type_id) for it in spec.host_devices]
        assert told == [("0000:3b:00.0", "nvidia-222"), ("0000:3b:00.1", "nvidia-222")]
        assert len({it.uuid for it in spec.host_devices}) == 2
        first, _ = show(customer, ecs_id)["vgpus"]
        assert (first["ecsId"], first["vgpuTypeId"], first["name"], first["gpuId"], first["product"]) == (
            ecs_id,
            "nvidia-222",
            "NVIDIA GRID T4-1B (1GB)",
            "0000:3b:00.0",
            "NVIDIA T4",
        )
        assert show(customer, ecs_id)["hostGPUs"] == []
        # Another guest's slices of the same GPUs have names of their own.
        cloud.create(customer, **flavor, displayName="more")
        assert len({it.uuid for spec in agents[0].specs.values() for it in spec.host_devices}) == 4

    def test_more_vgpus_than_gpus_are_several_of_one_here_and_after_a_move(
        self, customer: Api, cloud: Cloud, other: Node, agents: list[ScriptedAgent]
    ) -> None:
        fill(cloud, cloud.node, a_gpu(0, "vgpu"), a_gpu(1, "vgpu"))
        fill(cloud, other, a_gpu(7, "vgpu"))
        # A sixteenth of a T4 each.
        flavor = a_gpu_flavor(cloud, 3, vgpu_type_id="nvidia-222")
        ecs_id = cloud.create(customer, **flavor, vgpu=3, hostId=cloud.node.id)
        rows = sorted((row.device_id, row.milli, row.slices) for row in cloud.rows(DeviceAllocation))
        assert rows == [("0000:3b:00.0", 126, 2), ("0000:3b:00.1", 63, 1)]
        [spec] = agents[0].specs.values()
        assert sorted(it.device_id for it in spec.host_devices) == ["0000:3b:00.0", "0000:3b:00.0", "0000:3b:00.1"]
        assert len({it.uuid for it in spec.host_devices}) == 3
        shown = [it["gpuId"] for it in show(customer, ecs_id)["vgpus"]]
        assert shown == ["0000:3b:00.0", "0000:3b:00.0", "0000:3b:00.1"]
        stop(customer, ecs_id)
        moved = finish(customer, customer.call("POST", f"{INSTANCES}/{ecs_id}/cold-migrate", {"nodeName": "node-b"}))
        assert moved["state"] == "Succeeded", moved
        [spec] = agents[1].specs.values()
        assert [(it.device_id, it.vgpu_type_id) for it in spec.host_devices] == [("0000:3b:00.7", "nvidia-222")] * 3
        assert len({it.uuid for it in spec.host_devices}) == 3
        wait_until(lambda: claims(cloud) == [("node-b", "0000:3b:00.7")], "the source is clean")
        # It has room for 15, of which 12 are left.
        wide = a_gpu_flavor(cloud, 14, vgpu_type_id="nvidia-222")
        late = order(customer, cloud, **wide, hostId=other.id, displayName="late")
        assert late.data["status"] == "ErrorUnschedulable"

    def test_a_custom_flavor_has_as_many_gpus_as_are_asked_for(
        self, customer: Api, cloud: Cloud, agents: list[ScriptedAgent]
    ) -> None:
        fill(cloud, cloud.node, a_gpu(0), a_gpu(1))
        flavor = a_gpu_flavor(cloud, 0, is_custom=True)
        missing = customer.refused("POST", INSTANCES, cloud.order(**flavor))
        assert "gpus" in missing.message
        cloud.change(cloud.tenant, quota_gpus=2)
        ecs_id = cloud.create(customer, **flavor, hostGpus={"gpuType": "10de1eb8", "number": 2})
        assert [it["number"] for it in show(customer, ecs_id)["hostGPUs"]] == [2]
        assert order(customer, cloud, **flavor, gpus=1).code == "ECS.OperationDenied.QuotaExceeded"

    @pytest.mark.parametrize(
        ("fields", "named"),
        [
            ({"gpus": 2}, "gpus"),
            ({"vgpu": 1}, "vgpu"),
            ({"hostGpus": {"gpuType": "10de20b5", "number": 1}}, "hostGpus.gpuType"),
        ],
    )
    def test_what_the_flavor_has_not_is_refused(
        self, customer: Api, cloud: Cloud, fields: dict[str, Any], named: str
    ) -> None:
        answer = customer.refused("POST", INSTANCES, cloud.order(**a_gpu_flavor(cloud), **fields))
        assert (answer.code, answer.message.startswith(named)) == ("ECS.InvalidParameter", True)

    def test_devices_beside_the_flavor(self, customer: Api, cloud: Cloud, agents: list[ScriptedAgent]) -> None:
        devices = [*(a_disk(number) for number in (1, 2, 3)), a_function(1), a_function(2)]
        fill(cloud, cloud.node, *devices, an_adapter(0, "101e"), an_adapter(1, "1021"))
        flavor = a_stored_flavor(cloud, {"local_disk_type": "hdd", "local_disk_size": 400}, local_disk=1, sriov=1)
        adapter = a_network(portType="Extend", networkType="IBNic", vendorId="15B3", productId="1021")
        networks = [a_network(), adapter]
        ecs_id = cloud.create(customer, **flavor, localDisk=2, sriov=2, networks=networks)
        shown = show(customer, ecs_id)
        assert (shown["localDisk"], shown["sriov"], len(shown["networkMappings"])) == (2, 2, 1)
        assert [(it["productID"], it["id"]) for it in shown["ibNics"]] == [("1021", "0000:af:00.1")]
        _, *disks = shown["blockDeviceMappings"]
        assert [(it["name"], it["localDiskSize"], it["volumeType"], it["diskBus"], it["status"]) for it in disks] == [
            ("wwn-1", 500 * GIB, "localDisk", "scsi", "inUse"),
            ("wwn-2", 500 * GIB, "localDisk", "scsi", "inUse"),
        ]
        [spec] = agents[0].specs.values()
        addresses = {it.device_id: it.mac_address for it in spec.host_devices if it.mac_address}
        assert sorted(addresses) == ["0000:5e:01.0", "0000:5e:02.0"]
        assert len(set(addresses.values())) == 2
        assert all(address.startswith("52:54:") for address in addresses.values())
        # Who was made with local disks has just these.
        refused = customer.refused("PUT", f"{INSTANCES}/{ecs_id}/attach-localdisks", [{"diskName": "wwn-3"}])
        assert refused.code == UNSUPPORTED

    def test_a_template_orders_the_devices_beside_the_flavor(
        self, customer: Api, cloud: Cloud, agents: list[ScriptedAgent]
    ) -> None:
        functions = [a_function(number) for number in (1, 2, 3, 4)]
        fill(cloud, cloud.node, *(a_disk(n) for n in (1, 2, 3, 4)), *functions, *(an_adapter(n) for n in (0, 1)))
        flavor = a_stored_flavor(cloud, {}, local_disk=1, sriov=1)
        adapter = a_network(portType="Extend", networkType="IBNic", vendorId="15b3")
        ecs_id = cloud.create(customer, **flavor, localDisk=2, sriov=2, networks=[a_network(), adapter])
        made = launch(customer, create(customer, ecs_id))
        shown = show(customer, made["ecsId"])
        assert (shown["localDisk"], shown["sriov"], len(shown["ibNics"])) == (2, 2, 1)

    def test_a_template_orders_the_gpus_of_a_custom_flavor(
        self, customer: Api, cloud: Cloud, agents: list[ScriptedAgent]
    ) -> None:
        fill(cloud, cloud.node, *(a_gpu(number) for number in range(4)))
        ecs_id = cloud.create(customer, **a_gpu_flavor(cloud, 0, is_custom=True), gpus=2)
        template_id = create(customer, ecs_id)
        customer.ok("PUT", f"{TEMPLATES}/{template_id}/userdata", {"userData": ""})
        one = launch(customer, template_id, hostGpus={"gpuType": "10de1eb8", "number": 1})
        assert [it["number"] for it in show(customer, one["ecsId"])["hostGPUs"]] == [1]
        without = launch(customer, template_id, flavorId=cloud.flavor.flavor_id)
        assert show(customer, without["ecsId"])["hostGPUs"] == []
        customer.ok("DELETE", f"{INSTANCES}/{one['ecsId']}")
        wait_until(lambda: len(claims(cloud)) == 2, "its GPU is given back")
        two = launch(customer, template_id)
        assert [it["number"] for it in show(customer, two["ecsId"])["hostGPUs"]] == [2]

    def test_fewer_than_the_flavor_has_are_refused(self, customer: Api, cloud: Cloud) -> None:
        flavor = a_stored_flavor(cloud, {}, sriov=2)
        assert "sriov" in customer.refused("POST", INSTANCES, cloud.order(**flavor, sriov=1)).message

    def test_who_asks_for_a_size_alone_gets_no_devices(
        self, customer: Api, cloud: Cloud, agents: list[ScriptedAgent]
    ) -> None:
        fill(cloud, cloud.node, a_gpu(0))
        with_gpu = a_gpu_flavor(cloud)
        ecs_id = cloud.create(customer, flavorId=None)
        assert show(customer, ecs_id)["flavorId"] != with_gpu["flavorId"]
        asked = cloud.create(customer, flavorId=None, gpus=1)
        assert show(customer, asked)["flavorId"] == with_gpu["flavorId"]

    def test_no_room_names_the_device(self, customer: Api, operator: Api, cloud: Cloud) -> None:
        fill(cloud, cloud.node, a_gpu(0, withheld_reason="mounted"))
        answer = order(customer, cloud, **a_gpu_flavor(cloud))
        assert answer.data["status"] == "ErrorUnschedulable"
        assert "gpu" in show(customer, answer.data["ecsId"])["errMessage"]
        body = cloud.order(**a_gpu_flavor(cloud, vgpu_type_id="nvidia-222"))
        explained = operator.ok("POST", f"{INSTANCES}/explain-placement", body)
        assert "gpu" in str(explained["hosts"])

    @pytest.mark.parametrize("call", ["ensure_defined", "ensure_running"])
    def test_a_failed_creation_gives_them_back_before_others_can_have_them(
        self, customer: Api, cloud: Cloud, agents: list[ScriptedAgent], call: str
    ) -> None:
        fill(cloud, cloud.node, a_disk(1), a_gpu(0))
        agents[0].refusals[call] = Refusal()
        agents[0].gates["wipe"] = threading.Event()
        answer = order(customer, cloud, **a_gpu_flavor(cloud), localDisk=1, hostId=cloud.node.id)
        if call == "ensure_running":
            wait_until(lambda: "wipe" in agents[0].calls, "the disk is being wiped")
            assert claims(cloud) == [("node-a", "0000:3b:00.0"), ("node-a", "wwn-1")]
        agents[0].gates["wipe"].set()
        assert finish(customer, answer)["state"] == "Failed"
        assert (claims(cloud), agents[0].is_empty(), cloud.holds_nothing()) == ([], True, True)
        calls = agents[0].calls
        assert calls.index("ensure_removed") < calls.index("ensure_released")

    def test_without_devices_nothing_is_given_back(
        self, customer: Api, cloud: Cloud, agents: list[ScriptedAgent]
    ) -> None:
        ecs_id = cloud.create(customer, hostId=cloud.node.id)
        finish(customer, customer.call("DELETE", f"{INSTANCES}/{ecs_id}"))
        assert "ensure_released" not in agents[0].calls


class TestMoves:
    """What keeps an instance, and what it gets elsewhere."""

    def test_it_gets_equal_devices_and_the_old_ones_are_free_once_given_back(
        self, customer: Api, cloud: Cloud, other: Node, agents: list[ScriptedAgent]
    ) -> None:
        fill(cloud, cloud.node, a_gpu(0), a_function(1))
        fill(cloud, other, a_gpu(4), a_function(7))
        ecs_id = cloud.create(customer, **a_gpu_flavor(cloud, sriov=1), hostId=cloud.node.id)
        before = {it.device_id: it.mac_address for it in next(iter(agents[0].specs.values())).host_devices}
        stop(customer, ecs_id)
        agents[0].gates["ensure_released"] = threading.Event()
        moved = finish(customer, customer.call("POST", f"{INSTANCES}/{ecs_id}/cold-migrate", {"nodeName": "node-b"}))
        assert moved["state"] == "Succeeded", moved
        [spec] = agents[1].specs.values()
        after = {it.device_id: it.mac_address for it in spec.host_devices}
        assert sorted(after) == ["0000:3b:00.4", "0000:5e:07.0"]
        assert after["0000:5e:07.0"] == before["0000:5e:01.0"]
        assert [it["ids"] for it in show(customer, ecs_id)["hostGPUs"]] == [["0000:3b:00.4"]]
        # Nobody gets what is still on its way back.
        late = order(customer, cloud, **a_gpu_flavor(cloud), hostId=cloud.node.id, displayName="late")
        assert late.data["status"] == "ErrorUnschedulable"
        agents[0].gates["ensure_released"].set()
        wait_until(lambda: {node for node, _ in claims(cloud)} == {"node-b"}, "the source is clean")
        assert agents[0].is_empty()
        cloud.create(customer, **a_gpu_flavor(cloud), hostId=cloud.node.id, displayName="later")

    def test_a_move_that_fails_gives_those_of_the_target_back(
        self, customer: Api, cloud: Cloud, other: Node, agents: list[ScriptedAgent]
    ) -> None:
        fill(cloud, cloud.node, a_gpu(0))
        fill(cloud, other, a_gpu(4))
        ecs_id = cloud.create(customer, **a_gpu_flavor(cloud), hostId=cloud.node.id)
        stop(customer, ecs_id)
        agents[1].refusals["ensure_port"] = Refusal()
        assert (
            finish(customer, customer.call("POST", f"{INSTANCES}/{ecs_id}/cold-migrate", {"nodeName": "node-b"}))[
                "state"
            ]
            == "Failed"
        )
        wait_until(lambda: claims(cloud) == [("node-a", "0000:3b:00.0")], "the target is clean")
        assert agents[1].is_empty()
        [row] = cloud.rows(Instance)
        assert {it.consumer_uuid for it in cloud.rows(Allocation)} == {row.uuid}

    def test_what_runs_with_devices_stays_and_says_why(
        self, customer: Api, operator: Api, cloud: Cloud, other: Node, agents: list[ScriptedAgent]
    ) -> None:
        fill(cloud, cloud.node, a_gpu(0))
        fill(cloud, other, a_gpu(4))
        web = cloud.create(customer, hostId=cloud.node.id)
        ecs_id = cloud.create(customer, **a_gpu_flavor(cloud), hostId=cloud.node.id, displayName="gpu")
        live = operator.refused("POST", f"{INSTANCES}/{ecs_id}/live-migrate", {"nodeName": "node-b"})
        nodes = customer.refused("GET", f"{INSTANCES}/{ecs_id}/schedulable-nodes")
        for answer in (live, nodes):
            assert (answer.code, "gpu 0000:3b:00.0" in answer.message) == (UNSUPPORTED, True)
        batch = customer.ok("POST", f"{INSTANCES}/batch-schedulable-nodes", {"ecsIds": [web, ecs_id], "type": "live"})
        assert batch == {web: ["node-b"], ecs_id: []}
        assert customer.ok("GET", f"{INSTANCES}/{ecs_id}/schedulable-nodes?type=cold") == ["node-b"]
        drain = operator.refused("PUT", f"{NODES}/maintenance", {"nodeName": "node-a", "maintenance": True})
        assert drain.code == "ECS.OperationDenied.NotEvictable"
        assert ecs_id in drain.message
        assert "gpu 0000:3b:00.0" in drain.message
        assert {row.node_id for row in cloud.rows(Instance)} == {cloud.node.id}

    def test_vgpus_go_along_where_both_nodes_can_move_them(
        self, customer: Api, operator: Api, cloud: Cloud, other: Node, agents: list[ScriptedAgent]
    ) -> None:
        path, body = f"{NODES}/maintenance", {"nodeName": "node-a", "maintenance": True}
        obstacle = {"vgpu_migration_obstacle": "QEMU 7.2.0 moves no guest with vGPUs: 8.1 does"}
        flavor = a_gpu_flavor(cloud, 2, vgpu_type_id="nvidia-222")
        fill(cloud, cloud.node, a_vgpu_maker(0, "", details=obstacle), a_vgpu_maker(1))
        fill(
            cloud, other, a_vgpu_maker(4, ""), a_vgpu_maker(5, "nvidia 535"), a_gpu(6), a_vgpu_maker(7, product="2235")
        )
        ecs_id = cloud.create(customer, **flavor, vgpu=2, hostId=cloud.node.id)
        [uuid] = agents[0].journal
        agents[0].blockers["host-device"] = "a mdev device of the node"
        move = (f"{INSTANCES}/{ecs_id}/live-migrate", {"nodeName": "node-b", "allowPostCopy": True})
        for answer in (operator.refused("POST", *move), operator.refused("PUT", path, body)):
            assert f"gpu 0000:3b:00.0 ({obstacle['vgpu_migration_obstacle']})" in answer.message
            assert "0000:3b:00.1" not in answer.message
        # Of another release, of another model, and as a whole. Why is told of each that could be enough.
        fill(cloud, cloud.node, a_vgpu_maker(0), a_vgpu_maker(1))
        refusal = operator.refused("POST", *move)
        assert refusal.code == "ECS.OperationFailed.Unschedulable"
        assert (
            "node-b: its agent is too old to tell; node-b: its driver is nvidia 535, not nvidia 550" in refusal.message
        )
        assert "node-b: its driver is nvidia 535" in operator.refused("PUT", path, body).message
        # The driver of what the guest has open tells QEMU more than anybody knows before.
        agents[0].blockers["vgpu"] = "0000:3b:00.4: VFIO migration is not supported in kernel"
        fill(cloud, other, a_vgpu_maker(4), a_vgpu_maker(8))
        assert customer.ok("GET", f"{INSTANCES}/{ecs_id}/schedulable-nodes") == ["node-b"]
        failure = finish(operator, operator.call("POST", *move))
        assert agents[0].blockers.pop("vgpu") in str(failure)
        assert agents[1].incoming == []
        wait_until(lambda: {node for node, _ in claims(cloud)} == {"node-a"}, "the target is free")
        assert finish(operator, operator.call("POST", *move))["state"] == "Succeeded"
        [incoming], [order] = agents[1].incoming, agents[0].orders
        assert [it.vgpu_type_id for it in incoming.spec.host_devices] == ["nvidia-222"] * 2
        assert (order.allow_post_copy, order.max_downtime_ms, order.most_downtime_ms) == (False, 2000, 60_000)
        assert agents[1].devices_of(uuid) == {"0000:3b:00.4", "0000:3b:00.8"}
        assert {it["gpuId"] for it in show(customer, ecs_id)["vgpus"]} == {"0000:3b:00.4", "0000:3b:00.8"}
        wait_until(lambda: {node for node, _ in claims(cloud)} == {"node-b"}, "the source is clean")
        assert agents[0].is_empty()
        # Nothing is plugged in or out: what is paused moves as well.
        finish(customer, customer.call("PUT", f"{INSTANCES}/{ecs_id}/suspend"))
        gate, back = threading.Event(), {"nodeName": "node-a", "maxDowntimeMs": 900}
        agents[1].gates["move"] = gate
        canceled = operator.call("POST", move[0], back)
        wait_until(lambda: agents[1].orders, "the migration has begun")
        assert len(agents[0].journal[uuid]) == 2
        operator.call("DELETE", move[0])
        assert finish(operator, canceled)["state"] == "Canceled"
        wait_until(lambda: {node for node, _ in claims(cloud)} == {"node-b"}, "the target is clean")
        assert agents[0].is_empty()
        assert agents[1].devices_of(uuid) == {"0000:3b:00.4", "0000:3b:00.8"}
        gate.set()
        assert finish(operator, operator.call("POST", move[0], back))["state"] == "Succeeded"
        assert {(it.max_downtime_ms, it.most_downtime_ms) for it in agents[1].orders} == {(900, 0)}
        assert agents[0].devices_of(uuid) == {"0000:3b:00.0", "0000:3b:00.1"}

    def test_virtual_functions_are_let_go_of_before_a_live_migration_and_had_anew_after_it(
        self, customer: Api, operator: Api, cloud: Cloud, other: Node, agents: list[ScriptedAgent]
    ) -> None:
        fill(cloud, cloud.node, a_function(1), a_function(2))
        fill(cloud, other, a_function(7), a_function(8))
        ecs_id = cloud.create(customer, **a_stored_flavor(cloud, {}, sriov=2), hostId=cloud.node.id)
        [uuid] = agents[0].journal
        before = {it.mac_address for it in agents[0].journal[uuid].values()}
        # As the node sees it for as long as the guest has them.
        agents[0].blockers["host-device"] = "an interface of the node"
        refusal = Refusal(grpc.StatusCode.FAILED_PRECONDITION, "DeviceFaulty", "no link", times=1)
        agents[1].refusals["ensure_attached"] = refusal
        body = {"nodeName": "node-b"}
        moved = finish(operator, operator.call("POST", f"{INSTANCES}/{ecs_id}/live-migrate", body))
        assert moved["state"] == "Succeeded", moved
        calls = agents[0].calls
        assert calls.count("ensure_detached") == 2
        assert calls.index("ensure_detached") < calls.index("migrate")
        assert not agents[1].incoming[0].spec.host_devices
        assert {it.mac_address for it in agents[1].journal[uuid].values()} == before
        # The first one was refused: it comes with the next start.
        assert agents[1].devices_of(uuid) == {"0000:5e:08.0"}
        told = customer.ok("GET", f"/api/ecs/v1/events/list?resource={ecs_id}")["list"]
        [missing] = [it["data"] for it in told if it["kind"] == "instance.device_not_attached"]
        assert missing == {"deviceId": "0000:5e:07.0", "kind": "vf", "reason": "no link"}
        wait_until(lambda: {node for node, _ in claims(cloud)} == {"node-b"}, "the source is clean")
        assert agents[0].is_empty()
        finish(customer, customer.call("PUT", f"{INSTANCES}/{ecs_id}/suspend"))
        paused = operator.refused("POST", f"{INSTANCES}/{ecs_id}/live-migrate", {"nodeName": "node-a"})
        assert (paused.code, "vf 0000:5e:07.0" in paused.message) == (UNSUPPORTED, True)

    @pytest.mark.parametrize("failure", ["guest keeps it", "migration fails"])
    def test_a_live_migration_that_fails_leaves_the_guest_its_devices(
        self, operator: Api, cloud: Cloud, other: Node, agents: list[ScriptedAgent], failure: str
    ) -> None:
        fill(cloud, cloud.node, a_function(1), a_reader("1"))
        fill(cloud, other, a_function(7), a_reader("2"))
        ecs_id = cloud.create(operator, **a_stored_flavor(cloud, {}, sriov=1), hostId=cloud.node.id)
        bind_usb(operator, ecs_id, "1", replaceable=True)
        [uuid] = agents[0].journal
        agents[0].blockers["host-device"] = "an interface of the node"
        if failure == "migration fails":
            agents[0].ending = migration_pb2.MIGRATION_STATE_FAILED
        else:
            refusal = Refusal(grpc.StatusCode.FAILED_PRECONDITION, "DevicePlugUnsafe", "it boots from it")
            agents[0].refusals["ensure_detached"] = refusal
        answer = operator.call("POST", f"{INSTANCES}/{ecs_id}/live-migrate", {"nodeName": "node-b"})
        assert finish(operator, answer)["state"] == "Failed"
        assert agents[0].devices_of(uuid) == {"0000:5e:01.0", "usb-x-0-1"}
        assert show(operator, ecs_id)["status"] == "Running"
        own = [("node-a", "0000:5e:01.0"), ("node-a", "usb-x-0-1")]
        wait_until(lambda: claims(cloud) == own, "the target is clean")
        assert agents[1].is_empty()

    def test_usb_devices_are_replaced_by_others_of_their_model_around_a_live_migration(
        self, customer: Api, operator: Api, cloud: Cloud, other: Node, agents: list[ScriptedAgent]
    ) -> None:
        fill(cloud, cloud.node, a_reader("1"), a_reader("2"), a_stick("3"))
        fill(cloud, other, a_reader("1", withheld_reason="in use by the host"), a_reader("7"), a_stick("3"))
        ecs_id = cloud.create(customer, hostId=cloud.node.id)
        bind_usb(customer, ecs_id, "1", replaceable=True)
        [uuid] = agents[0].journal
        agents[0].blockers["host-device"] = "a usb device of the node"
        # What the guest is not given soon is told.
        agents[1].refusals["ensure_attached"] = Refusal(grpc.StatusCode.FAILED_PRECONDITION, "DeviceFaulty", "away")
        path, body = f"{INSTANCES}/{ecs_id}/live-migrate", {"nodeName": "node-b"}
        assert customer.ok("GET", f"{INSTANCES}/{ecs_id}/schedulable-nodes") == ["node-b"]
        agents[0].gates["migrate"] = threading.Event()
        answer = operator.call("POST", path, body)
        wait_until(lambda: "migrate" in agents[0].calls, "the guest is about to leave")
        assert agents[0].devices_of(uuid) == set()
        assert claims(cloud) == [("node-a", "usb-x-0-1"), ("node-b", "usb-x-0-7")]
        agents[0].gates["migrate"].set()
        assert finish(operator, answer)["state"] == "Succeeded"
        told = customer.ok("GET", f"/api/ecs/v1/events/list?resource={ecs_id}")["list"]
        [missing] = [it["data"] for it in told if it["kind"] == "instance.device_not_attached"]
        assert missing == {"deviceId": "usb-x-0-7", "kind": "usb", "reason": "away"}
        wait_until(lambda: claims(cloud) == [("node-b", "usb-x-0-7")], "the source is clean")
        assert agents[0].is_empty()
        shown = show(customer, ecs_id)["usbMappings"]
        assert [(it["name"], it["replaceable"]) for it in shown] == [("node-b-1-7", True)]
        del agents[1].refusals["ensure_attached"]
        # And back: of two free ones it gets the first, at the same port as before.
        agents[1].blockers["host-device"] = "a usb device of the node"
        back = operator.call("POST", path, {"nodeName": "node-a"})
        assert finish(operator, back)["state"] == "Succeeded"
        assert agents[0].devices_of(uuid) == {"usb-x-0-1"}
        wait_until(agents[1].is_empty, "the other node is clean")

    def test_usb_devices_that_nothing_stands_in_for_keep_what_runs(
        self, customer: Api, operator: Api, cloud: Cloud, other: Node, agents: list[ScriptedAgent]
    ) -> None:
        fill(cloud, cloud.node, a_reader("1"), a_memory("3"))
        fill(cloud, other, a_memory("3"))
        ecs_id = cloud.create(customer, hostId=cloud.node.id)
        bind_usb(customer, ecs_id, "1", replaceable=True)
        path, body = f"{INSTANCES}/{ecs_id}/live-migrate", {"nodeName": "node-b"}

        def assert_held(reason: str, code: str) -> None:
            live = operator.refused("POST", path, body)
            drain = operator.refused("PUT", f"{NODES}/maintenance", {"nodeName": "node-a", "maintenance": True})
            assert (live.code, reason in live.message, reason in drain.message) == (code, True, True), (live, drain)

        # No other one of its model is free.
        assert_held("1 x usb (product 3438, vendor 08e6)", "ECS.OperationFailed.Unschedulable")
        assert customer.ok("GET", f"{INSTANCES}/{ecs_id}/schedulable-nodes") == []
        fill(cloud, other, a_memory("3"), a_reader("7"))
        assert customer.ok("GET", f"{INSTANCES}/{ecs_id}/schedulable-nodes") == ["node-b"]
        # What its owner said last counts.
        bind_usb(customer, ecs_id, "3")
        assert_held("it has usb usb-x-0-3, which no running guest takes along: detach it, or bind", UNSUPPORTED)
        bind_usb(customer, ecs_id, "3", replaceable=True)
        assert customer.ok("GET", f"{INSTANCES}/{ecs_id}/schedulable-nodes") == ["node-b"]
        bind_usb(customer, ecs_id, "1")
        assert_held("it has usb usb-x-0-1, which no running guest", UNSUPPORTED)
        assert [it["replaceable"] for it in show(customer, ecs_id)["usbMappings"]] == [False, True]
        bind_usb(customer, ecs_id, "1", replaceable=True)
        finish(customer, customer.call("PUT", f"{INSTANCES}/{ecs_id}/suspend"))
        assert_held("usb-x-0-1, usb usb-x-0-3", UNSUPPORTED)
        assert {node for node, _ in claims(cloud)} == {"node-a"}

    @pytest.mark.parametrize("kind", ["usb", "disk"])
    def test_what_is_of_the_node_keeps_an_instance_that_is_off(
        self, customer: Api, cloud: Cloud, other: Node, agents: list[ScriptedAgent], kind: str
    ) -> None:
        fill(cloud, cloud.node, a_disk(1), a_stick("1"))
        fill(cloud, other, a_disk(1), a_stick("1"))
        ecs_id = cloud.create(customer, hostId=cloud.node.id)
        stop(customer, ecs_id)
        path, body = {
            "disk": (f"{INSTANCES}/{ecs_id}/attach-localdisks", [{"diskName": "wwn-1"}]),
            "usb": (f"/api/ecs/v1/usb/{ecs_id}/bind", [{"name": "node-a-1-1"}]),
        }[kind]
        finish(customer, customer.call("PUT" if kind == "disk" else "POST", path, body))
        answer = customer.refused("POST", f"{INSTANCES}/{ecs_id}/cold-migrate", {"nodeName": "node-b"})
        assert (answer.code, kind in answer.message) == (UNSUPPORTED, True)
        assert len(claims(cloud)) == 1


def a_resize(api: Api, ecs_id: str, flavor: dict[str, Any], **fields: Any) -> Answer:
    """The same vCPUs and memory; what changes are its devices."""
    body = {"cpus": 2, "memory": {"amount": "4Gi"}, **flavor, **fields}
    return api.call("PATCH", f"{INSTANCES}/{ecs_id}", body)


def holders(cloud: Cloud) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for row in cloud.rows(DeviceAllocation):
        found.setdefault(row.consumer_uuid, set()).add(row.device_id)
    return found


class TestResize:
    """Other devices: claimed before, given back after, and put back when it fails."""

    def test_new_ones_are_claimed_before_and_old_ones_free_once_given_back(
        self, customer: Api, operator: Api, cloud: Cloud, agents: list[ScriptedAgent]
    ) -> None:
        fill(
            cloud, cloud.node, *(a_gpu(n) for n in range(3)), *(a_function(n) for n in (1, 2, 3)), a_disk(1), a_disk(2)
        )
        plain, agent = a_stored_flavor(cloud, {}, sriov=2), agents[0]
        ecs_id = cloud.create(customer, **plain, hostId=cloud.node.id)
        [uuid] = agent.journal
        addresses = {it.device_id: it.mac_address for it in agent.specs[uuid].host_devices}
        two = a_gpu_flavor(cloud, 2, sriov=1)
        agent.calls.clear()
        agent.gates["ensure_stopped"], agent.gates["ensure_released"] = threading.Event(), threading.Event()
        cloud.change(cloud.tenant, quota_gpus=1)
        assert a_resize(customer, ecs_id, two, localDisk=1).code == "ECS.OperationDenied.QuotaExceeded"
        cloud.change(cloud.tenant, quota_gpus=2)
        answer = a_resize(customer, ecs_id, two, localDisk=1)
        wait_until(lambda: "ensure_stopped" in agent.calls, "the guest is asked to stop")
        (reserve,) = holders(cloud).keys() - {uuid}
        assert holders(cloud) == {
            uuid: {"0000:5e:01.0", "0000:5e:02.0"},
            reserve: {"0000:3b:00.0", "0000:3b:00.1", "wwn-1"},
        }
        assert operator.ok("GET", "/api/ecs/v1/placement/differences") == []
        agent.gates["ensure_stopped"].set()
        assert finish(customer, answer)["state"] == "Succeeded"
        assert agent.calls[:3] == ["ensure_defined", "ensure_stopped", "ensure_running"]
        kept = {"0000:3b:00.0", "0000:3b:00.1", "0000:5e:01.0", "wwn-1"}
        assert agent.devices_of(uuid) == kept == holders(cloud)[uuid]
        assert {it.device_id: it.mac_address for it in agent.specs[uuid].host_devices}["0000:5e:01.0"] == (
            addresses["0000:5e:01.0"]
        )
        # Nobody gets what is still on its way back.
        late = order(customer, cloud, **a_stored_flavor(cloud, {}, sriov=2), hostId=cloud.node.id, displayName="late")
        assert late.data["status"] == "ErrorUnschedulable"
        differences = operator.ok("GET", "/api/ecs/v1/placement/differences")
        assert not [it for it in differences if it["kind"].startswith("device")]
        agent.gates["ensure_released"].set()
        wait_until(lambda: set(holders(cloud)) == {uuid}, "the other function is given back")
        assert len(agent.journal[uuid]) == 4
        shown = show(customer, ecs_id)
        assert (shown["status"], shown["localDisk"], shown["sriov"]) == ("Running", 1, 1)
        assert [it["number"] for it in shown["hostGPUs"]] == [2]
        # What is on a local disk is given up by who says so alone.
        refused = a_resize(customer, ecs_id, a_stored_flavor(cloud, {}), localDisk=None)
        assert (refused.code, shown["localDisk"]) == ("Success", 1), refused
        assert finish(customer, refused)["state"] == "Succeeded"
        assert holders(cloud)[uuid] == {"wwn-1"}
        assert (
            finish(customer, a_resize(customer, ecs_id, a_stored_flavor(cloud, {}), localDisk=0))["state"]
            == "Succeeded"
        )
        wait_until(lambda: not claims(cloud), "all is given back")
        assert agent.wiped == ["wwn-1"]

    @pytest.mark.parametrize("call", ["ensure_defined", "ensure_stopped", "ensure_running"])
    def test_a_failure_leaves_it_the_devices_that_it_had(
        self, customer: Api, cloud: Cloud, agents: list[ScriptedAgent], call: str
    ) -> None:
        fill(cloud, cloud.node, a_gpu(0), a_gpu(1), a_function(1))
        ecs_id, agent = cloud.create(customer, **a_gpu_flavor(cloud), hostId=cloud.node.id), agents[0]
        [uuid] = agent.journal
        agent.calls.clear()
        agent.refusals[call] = Refusal(grpc.StatusCode.INTERNAL, "Failed", "injected", times=1)
        operation = finish(customer, a_resize(customer, ecs_id, a_gpu_flavor(cloud, 2, sriov=1)))
        assert operation["state"] == "Failed", operation
        wait_until(lambda: claims(cloud) == [("node-a", "0000:3b:00.0")], "what was claimed is given back")
        assert set(holders(cloud)) == {uuid}
        assert [it.device_id for it in agent.journal[uuid].values()] == ["0000:3b:00.0"]
        assert (agent.devices_of(uuid), show(customer, ecs_id)["status"]) == ({"0000:3b:00.0"}, "Running")

    def test_slices_of_one_gpu_come_and_go(self, customer: Api, cloud: Cloud, agents: list[ScriptedAgent]) -> None:
        fill(cloud, cloud.node, a_gpu(0, "vgpu"))
        one, three = (a_gpu_flavor(cloud, count, vgpu_type_id="nvidia-222") for count in (1, 3))
        ecs_id, agent = cloud.create(customer, **one, hostId=cloud.node.id), agents[0]
        [uuid] = agent.journal
        first = set(agent.journal[uuid])
        assert finish(customer, a_resize(customer, ecs_id, three))["state"] == "Succeeded"
        assert [(row.milli, row.slices) for row in cloud.rows(DeviceAllocation)] == [(189, 3)]
        assert len(agent.plugged[uuid]) == 3
        assert first < agent.plugged[uuid]
        agent.gates["ensure_released"] = threading.Event()
        assert finish(customer, a_resize(customer, ecs_id, one))["state"] == "Succeeded"
        assert sorted((row.milli, row.slices) for row in cloud.rows(DeviceAllocation)) == [(63, 1), (126, 2)]
        assert agent.plugged[uuid] == first
        # Their names come back: not before those of before are gone.
        again = a_resize(customer, ecs_id, three)
        agent.gates["ensure_released"].set()
        assert finish(customer, again)["state"] == "Succeeded"
        wait_until(lambda: [row.slices for row in cloud.rows(DeviceAllocation)] == [3], "there is nothing else")
        assert set(agent.journal[uuid]) == agent.plugged[uuid]
        # Another type cannot be made of the GPU that makes this one.
        other_type = a_resize(customer, ecs_id, a_gpu_flavor(cloud, 1, vgpu_type_id="nvidia-223"))
        assert other_type.code == "ECS.OperationFailed.Unschedulable"

    def test_another_node_is_taken_where_its_own_lacks_the_device(
        self, customer: Api, cloud: Cloud, other: Node, agents: list[ScriptedAgent]
    ) -> None:
        fill(cloud, cloud.node, a_function(1))
        fill(cloud, other, a_gpu(4, "vgpu"), a_function(7))
        ecs_id = cloud.create(customer, **a_stored_flavor(cloud, {}, sriov=1), hostId=cloud.node.id)
        vgpu = a_gpu_flavor(cloud, vgpu_type_id="nvidia-222", sriov=1)
        assert finish(customer, a_resize(customer, ecs_id, vgpu))["state"] == "Succeeded"
        [spec] = agents[1].specs.values()
        assert [(it.device_id, it.vgpu_type_id) for it in spec.host_devices] == [
            ("0000:3b:00.4", "nvidia-222"),
            ("0000:5e:07.0", ""),
        ]
        assert (show(customer, ecs_id)["nodeName"], show(customer, ecs_id)["status"]) == ("node-b", "Running")
        wait_until(lambda: {node for node, _ in claims(cloud)} == {"node-b"}, "its own node is clean")
        assert agents[0].is_empty()

    @BOTH_DATABASES
    def test_a_rush_on_few_devices_doubles_none(
        self, customer: Api, cloud: Cloud, other: Node, agents: list[ScriptedAgent]
    ) -> None:
        fill(cloud, cloud.node, *(a_gpu(number) for number in range(3)))
        flavor = a_gpu_flavor(cloud)
        made = [cloud.create(customer, hostId=cloud.node.id, displayName=f"n{n}") for n in range(6)]
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda ecs_id: a_resize(customer, ecs_id, flavor), made))
        assert sum(answer.code == "Success" for answer in answers) == 3
        assert {finish(customer, it)["state"] for it in answers if it.code == "Success"} == {"Succeeded"}
        assert sorted(len(held) for held in holders(cloud).values()) == [1, 1, 1]
        assert claims(cloud) == [("node-a", f"0000:3b:00.{number}") for number in range(3)]

    def test_bad_wishes_are_refused_and_hold_nothing(
        self, customer: Api, cloud: Cloud, agents: list[ScriptedAgent]
    ) -> None:
        fill(cloud, cloud.node, a_disk(1), a_disk(2), a_disk(3), an_adapter(0, "1021"))
        ecs_id = cloud.create(customer, **a_stored_flavor(cloud, {}, local_disk=1), hostId=cloud.node.id)
        attached = cloud.create(customer, hostId=cloud.node.id, displayName="attached")
        body = [{"diskName": "wwn-2"}]
        finish(customer, customer.call("PUT", f"{INSTANCES}/{attached}/attach-localdisks", body))
        held, bare = holders(cloud), a_stored_flavor(cloud, {})
        adapters = [{"networkType": "IBNic", "vendorId": "15B3", "productId": "1021"}]
        for code, field, which, fields in (
            ("ECS.OperationFailed.Resize", "wwn-1", ecs_id, {}),
            ("ECS.OperationFailed.Resize", "detach", attached, {"localDisk": 1}),
            ("ECS.InvalidParameter", "hostGpus", ecs_id, {"hostGpus": {"gpuType": "10de1eb8", "number": 1}}),
            ("ECS.InvalidParameter", "localDisk", ecs_id, {"localDisk": 65}),
            ("ECS.InvalidParameter", "networkType", ecs_id, {"networks": [{"networkType": "Geneve"}]}),
            ("ECS.OperationFailed.Unschedulable", "vf", attached, {"sriov": 1}),
        ):
            answer = a_resize(customer, which, bare, **fields)
            assert (answer.code, field in answer.message) == (code, True), (answer, fields)
        assert holders(cloud) == held
        assert (
            finish(customer, a_resize(customer, ecs_id, bare, localDisk=2, networks=adapters))["state"] == "Succeeded"
        )
        assert [it["productID"] for it in show(customer, ecs_id)["ibNics"]] == ["1021"]
        assert finish(customer, a_resize(customer, ecs_id, bare, networks=[]))["state"] == "Succeeded"
        wait_until(lambda: ("node-a", "0000:af:00.0") not in claims(cloud), "the adapter is given back")
        assert (show(customer, ecs_id)["ibNics"], show(customer, ecs_id)["localDisk"]) == ([], 2)


class TestClone:
    """Devices of its own, like those of the source."""

    def test_a_clone_gets_as_many_as_its_source_has_or_as_are_asked_for(
        self, customer: Api, cloud: Cloud, agents: list[ScriptedAgent]
    ) -> None:
        fill(cloud, cloud.node, *(a_gpu(n) for n in range(4)), *(a_function(n) for n in range(5)), an_adapter(0))
        custom = a_gpu_flavor(cloud, 0, is_custom=True)
        adapter = a_network(portType="Extend", networkType="IBNic", vendorId="15b3")
        two = {"gpus": 2, "sriov": 2, "networks": [a_network(), adapter]}
        source = {"ecsId": cloud.create(customer, **custom, **two, hostId=cloud.node.id)}
        checked = customer.call("GET", f"{INSTANCES}/{source['ecsId']}/check-clone?tenantId={cloud.tenant.id}")
        assert checked.code == "Success"
        # The only adapter is the source's, and stays so.
        path = f"{INSTANCES}/{source['ecsId']}/clone"
        refused = customer.call("POST", path, draft(cloud, source, **custom))
        assert (refused.code, "infiniband" in refused.message) == ("ECS.OperationFailed.Unschedulable", True)
        fill(
            cloud,
            cloud.node,
            *(a_gpu(n) for n in range(4)),
            *(a_function(n) for n in range(5)),
            *map(an_adapter, (0, 1)),
        )
        cloned = customer.call("POST", path, draft(cloud, source, **custom))
        assert finish(customer, cloned)["state"] == "Succeeded"
        shown, own = show(customer, cloned.data["ecsId"]), show(customer, source["ecsId"])
        assert ([it["number"] for it in shown["hostGPUs"]], shown["sriov"], len(shown["ibNics"])) == ([2], 2, 1)
        assert not set(shown["hostGPUs"][0]["ids"]) & set(own["hostGPUs"][0]["ids"])
        assert len(claims(cloud)) == len(set(claims(cloud))) == 10
        # Another flavor has its own.
        plain = customer.call("POST", path, draft(cloud, source, sriov=1, displayName="plain"))
        assert finish(customer, plain)["state"] == "Succeeded"
        assert (show(customer, plain.data["ecsId"])["hostGPUs"], len(claims(cloud))) == ([], 11)


class TestForcedRelease:
    """A device that is not given back by itself."""

    RELEASE = "/api/ecs/v1/devices/release"

    def test_a_disk_that_is_never_wiped_loses_its_claim_by_an_operators_word(
        self, customer: Api, operator: Api, cloud: Cloud, agents: list[ScriptedAgent]
    ) -> None:
        fill(cloud, cloud.node, a_disk(1), a_gpu(0))
        ecs_id = cloud.create(customer, **a_gpu_flavor(cloud), localDisk=1, hostId=cloud.node.id)
        body = {"cell": "cell0", "name": "node-a", "deviceId": "wwn-1"}
        used = operator.refused("PUT", self.RELEASE, body)
        assert (used.code, ecs_id in used.message) == ("ECS.OperationDenied.InUse", True)
        agents[0].refusals["ensure_released"] = Refusal(
            grpc.StatusCode.NOT_FOUND, "DeviceNotFound", "wwn-1 is away: it must be wiped as soon as it is back"
        )
        assert finish(customer, customer.call("DELETE", f"{INSTANCES}/{ecs_id}"))["state"] == "Failed"
        assert len(claims(cloud)) == 2
        agents[0].gates["ensure_forced_release"] = threading.Event()
        first = operator.call("PUT", self.RELEASE, body)
        # Once only, however often it is asked for.
        assert operator.call("PUT", self.RELEASE, body).headers["x-operation-id"] == first.headers["x-operation-id"]
        agents[0].gates["ensure_forced_release"].set()
        assert finish(operator, first)["state"] == "Succeeded"
        assert "wwn-1" not in {it.device_id for had in agents[0].journal.values() for it in had.values()}
        del agents[0].refusals["ensure_released"]
        finish(customer, customer.call("DELETE", f"{INSTANCES}/{ecs_id}"))
        assert (claims(cloud), agents[0].is_empty(), agents[0].wiped) == ([], True, [])
        [told] = operator.ok("GET", "/api/ecs/v1/events/list?filter=kind:eq:node.device_released_by_force")["list"]
        assert told["data"] == {"deviceId": "wwn-1"}
        assert customer.refused("PUT", self.RELEASE, body).code == "ECS.OperationDenied.Identity"

    @pytest.mark.parametrize(
        ("fields", "named"),
        [({"deviceId": ""}, "deviceId"), ({"deviceId": "wwn-9"}, "wwn-9"), ({"name": "node-z"}, "node-z")],
    )
    def test_what_makes_no_sense_is_refused(
        self, operator: Api, cloud: Cloud, fields: dict[str, str], named: str
    ) -> None:
        fill(cloud, cloud.node, a_disk(1))
        body = {"name": "node-a", "deviceId": "wwn-1", **fields}
        assert named in operator.refused("PUT", self.RELEASE, body).message


class TestGpuMode:
    """The mode of a node's GPUs."""

    MODE = f"{NODES}/gpu-mode"

    def test_it_is_set_and_what_there_is_in_it_is_read_anew(
        self, operator: Api, cloud: Cloud, agents: list[ScriptedAgent]
    ) -> None:
        fill(cloud, cloud.node, a_gpu(0), a_gpu(1))
        agents[0].inventory.devices.extend([a_gpu(0, "vgpu"), a_gpu(1, "vgpu")])
        agents[0].gates["ensure_gpu_mode"] = threading.Event()
        body = {"cell": "cell0", "name": "node-a", "gpuMode": "nvidia-222"}
        answer = operator.call("PUT", self.MODE, body)
        assert operator.call("PUT", self.MODE, body).headers["x-operation-id"] == answer.headers["x-operation-id"]
        assert operator.refused("PUT", self.MODE, {**body, "gpuMode": "passthrough"}).code == UNSUPPORTED
        # Nobody gets a GPU that is about to change.
        late = order(operator, cloud, **a_gpu_flavor(cloud), hostId=cloud.node.id)
        assert late.data["status"] == "ErrorUnschedulable"
        agents[0].gates["ensure_gpu_mode"].set()
        assert finish(operator, answer)["state"] == "Succeeded"
        assert (agents[0].gpu_mode, claims(cloud)) == ("nvidia-222", [])
        devices = operator.ok("GET", "/api/ecs/v1/devices?filter=kind:eq:gpu")["list"]
        assert {(it["attributes"]["mode"], it["state"]) for it in devices} == {("vgpu", "free")}
        cloud.create(operator, **a_gpu_flavor(cloud, vgpu_type_id="nvidia-222"), displayName="later")

    @BOTH_DATABASES
    def test_it_is_refused_with_the_list_while_one_is_used(
        self, customer: Api, operator: Api, cloud: Cloud, agents: list[ScriptedAgent]
    ) -> None:
        fill(cloud, cloud.node, a_gpu(0), a_gpu(1))
        ecs_id = cloud.create(customer, **a_gpu_flavor(cloud))
        answer = operator.refused("PUT", self.MODE, {"cell": "", "name": "node-a", "gpuMode": "nvidia-222"})
        assert answer.code == "ECS.OperationDenied.InUse"
        assert f"0000:3b:00.0: {ecs_id}" in answer.message
        assert len(claims(cloud)) == 1

    def test_what_the_node_has_begun_is_not_called_off(
        self, operator: Api, cloud: Cloud, agents: list[ScriptedAgent]
    ) -> None:
        fill(cloud, cloud.node, a_gpu(0))
        agents[0].inventory.devices.append(a_gpu(0, "vgpu"))
        agents[0].gates["ensure_gpu_mode"] = threading.Event()
        answer = operator.call("PUT", self.MODE, {"name": "node-a", "gpuMode": "nvidia-222"})
        wait_until(lambda: "ensure_gpu_mode" in agents[0].calls, "the node is at it")
        operator.call("DELETE", f"/api/ecs/v1/operations/{answer.headers['x-operation-id']}")
        assert len(claims(cloud)) == 1
        agents[0].gates["ensure_gpu_mode"].set()
        assert finish(operator, answer)["state"] == "Succeeded"
        assert claims(cloud) == []

    def test_what_the_node_refuses_leaves_all_as_it_was(
        self, operator: Api, cloud: Cloud, agents: list[ScriptedAgent]
    ) -> None:
        fill(cloud, cloud.node, a_gpu(0))
        agents[0].refusals["ensure_gpu_mode"] = Refusal(
            grpc.StatusCode.FAILED_PRECONDITION, "GpuInUse", "a foreign guest has 0000:3b:00.0"
        )
        answer = operator.call("PUT", self.MODE, {"name": "node-a", "gpuMode": "passthrough"})
        operation = finish(operator, answer)
        assert (operation["state"], operation["error"]["code"]) == ("Failed", "GpuInUse")
        assert claims(cloud) == []

    @SQLITE_ONLY
    @pytest.mark.parametrize(
        ("body", "named"),
        [
            ({"name": "node-a", "gpuMode": "no mode"}, "gpuMode"),
            ({"name": "node-a", "gpuMode": ""}, "gpuMode"),
            ({"name": "node-z", "gpuMode": "passthrough"}, "node-z"),
            ({"name": "node-a", "gpuMode": "passthrough"}, "no GPU"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, operator: Api, cloud: Cloud, body: Any, named: str) -> None:
        assert named in operator.refused("PUT", self.MODE, body).message

    def test_it_is_the_operators_business(self, customer: Api, cloud: Cloud) -> None:
        answer = customer.refused("PUT", self.MODE, {"name": "node-a", "gpuMode": "passthrough"})
        assert answer.code == "ECS.OperationDenied.Identity"


class TestFaults:
    """Devices that fail."""

    def test_one_that_fails_is_offered_to_nobody_and_its_instance_is_told(
        self, customer: Api, operator: Api, cloud: Cloud, agents: list[ScriptedAgent]
    ) -> None:
        fill(cloud, cloud.node, a_gpu(0), a_gpu(1))
        ecs_id = cloud.create(customer, **a_gpu_flavor(cloud))
        fill(cloud, cloud.node, a_gpu(0, fault="Xid 79"), a_gpu(1, fault="PCIe: fatal error"))
        told = operator.ok("GET", "/api/ecs/v1/devices?filter=state:eq:faulty")["list"]
        assert [(it["id"], it["state"], it["fault"], len(it["holders"])) for it in told] == [
            ("0000:3b:00.0", "faulty", "Xid 79", 1),
            ("0000:3b:00.1", "faulty", "PCIe: fatal error", 0),
        ]
        assert told[1]["withheldReason"] == "PCIe: fatal error"
        late = order(customer, cloud, **a_gpu_flavor(cloud), displayName="late")
        assert late.data["status"] == "ErrorUnschedulable"
        fill(cloud, cloud.node, a_gpu(0, fault="Xid 79"))
        fill(cloud, cloud.node)
        fill(cloud, cloud.node, a_gpu(0))
        events = customer.ok("GET", f"/api/ecs/v1/events/list?resource={ecs_id}")["list"]
        events = [it for it in events if it["kind"].startswith("instance.device_")]
        assert [(it["kind"], it["severity"], it["data"]["reason"]) for it in reversed(events)] == [
            ("instance.device_faulty", "warning", "Xid 79"),
            ("instance.device_missing", "warning", "the node does not report it any more"),
            ("instance.device_recovered", "info", ""),
        ]
        assert events[0]["data"]["deviceId"] == "0000:3b:00.0"
