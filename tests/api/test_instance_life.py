"""Instances from the order to their removal, over REST, the task engine and an agent that does as the test says."""

import threading

import grpc
import pytest

from coordinator.domain.instance import PowerState
from coordinator.store.tables import Allocation, Instance, Task, Volume
from coordinator.tasks.kinds.create_instance import CREATE_INSTANCE
from protos.agent.v1 import domain_pb2
from tests.api.client import Api
from tests.api.cloud import INSTANCES, OPERATIONS, Cloud, an_os_disk, finish
from tests.lab.waiting import wait_until
from tests.scripted_agent import Refusal, ScriptedAgent


def test_an_instance_is_made_step_by_step_and_runs(customer: Api, cloud: Cloud, agent: ScriptedAgent) -> None:
    ecs_id = cloud.create(customer, password="Admin@123", userData="I2Nsb3VkLWNvbmZpZwo=", hostName="Web_Server.1")
    assert agent.calls == ["ensure_image_cached", "ensure_volume", "ensure_port", "ensure_defined", "ensure_running"]
    shown = customer.ok("GET", f"{INSTANCES}/{ecs_id}")
    assert (shown["status"], shown["taskStatus"], shown["errMessage"]) == ("Running", "Running", "")
    assert shown["blockDeviceMappings"][0]["status"] == "inUse"
    [spec] = agent.specs.values()
    [disk], [nic], [port] = spec.disks, spec.nics, agent.ports.values()
    assert (spec.name, spec.title, spec.vcpus, spec.memory_bytes) == (ecs_id, "web", 2, 4 * 1024**3)
    assert (disk.boot_index, disk.bus) == (1, domain_pb2.DISK_BUS_VIRTIO)
    assert (nic.mac_address, nic.port_id) == (port.mac_address, port.port_id)
    assert (port.ip_address, port.subnet.cidr, port.hostname) == ("10.80.0.2", "10.80.0.0/24", "web-server-1")
    assert spec.cloud_init.password_hash.startswith("$6$")
    assert spec.cloud_init.user_data == b"#cloud-config\n"
    assert len(spec.graphics.vnc_password) == 8
    assert set(agent.volumes.values()) == {20 * 1024**3}


@pytest.mark.parametrize(
    ("call", "status", "undone"),
    [
        ("ensure_image_cached", "ErrImagePull", []),
        ("ensure_volume", "DataVolumeError", ["ensure_volume_removed"]),
        ("ensure_port", "Unknown", ["ensure_port_removed", "ensure_volume_removed"]),
        ("ensure_defined", "Unknown", ["ensure_removed", "ensure_port_removed", "ensure_volume_removed"]),
        ("ensure_running", "Unknown", ["ensure_removed", "ensure_port_removed", "ensure_volume_removed"]),
    ],
)
def test_a_failed_step_leaves_nothing_but_the_reason(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, call: str, status: str, undone: list[str]
) -> None:
    agent.refusals[call] = Refusal(message="the disk is on fire")
    answer = customer.call("POST", INSTANCES, cloud.order())
    operation = finish(customer, answer)
    assert (operation["state"], operation["error"]["code"]) == ("Failed", "HypervisorFailed")
    assert agent.calls[agent.calls.index(call) + 1 :] == undone
    assert agent.is_empty()
    assert cloud.holds_nothing()
    shown = customer.ok("GET", f"{INSTANCES}/{answer.data['ecsId']}")
    assert (shown["status"], shown["errMessage"], shown["nodeName"]) == (status, "the disk is on fire", "")
    customer.ok("DELETE", f"{INSTANCES}/{answer.data['ecsId']}")
    customer.refused("GET", f"{INSTANCES}/{answer.data['ecsId']}")


def test_a_node_that_is_away_for_a_moment_does_not_fail_the_order(
    customer: Api, cloud: Cloud, agent: ScriptedAgent
) -> None:
    agent.refusals["ensure_defined"] = Refusal(grpc.StatusCode.UNAVAILABLE, "", "away", times=1)
    cloud.create(customer)
    assert agent.calls.count("ensure_defined") == 2
    assert "ensure_removed" not in agent.calls


def test_a_canceled_order_leaves_nothing_but_a_word(customer: Api, cloud: Cloud, agent: ScriptedAgent) -> None:
    agent.gates["ensure_port"] = threading.Event()
    answer = customer.call("POST", INSTANCES, cloud.order())
    wait_for_call(agent, "ensure_port")
    customer.ok("DELETE", f"{OPERATIONS}/{answer.headers['x-operation-id']}")
    agent.gates["ensure_port"].set()
    assert finish(customer, answer)["state"] == "Canceled"
    assert agent.is_empty()
    assert cloud.holds_nothing()
    shown = customer.ok("GET", f"{INSTANCES}/{answer.data['ecsId']}")
    assert (shown["status"], shown["errMessage"]) == ("Unknown", "canceled")


def test_deletion_takes_everything_away(customer: Api, cloud: Cloud, agent: ScriptedAgent) -> None:
    ecs_id = cloud.create(customer)
    agent.calls.clear()
    answer = customer.call("DELETE", f"{INSTANCES}/{ecs_id}")
    assert customer.call("GET", f"{INSTANCES}/{ecs_id}").code in ("Success", "ECS.DBGet.NoData")
    assert finish(customer, answer)["state"] == "Succeeded"
    assert agent.calls == ["ensure_removed", "ensure_volume_removed", "ensure_port_removed"]
    assert agent.is_empty()
    assert cloud.holds_nothing()
    assert customer.refused("GET", f"{INSTANCES}/{ecs_id}").code == "ECS.DBGet.NoData"
    assert customer.ok("GET", INSTANCES)["totalCount"] == 0


def test_volumes_that_shall_outlive_their_instance_do(customer: Api, cloud: Cloud, agent: ScriptedAgent) -> None:
    data_disk = an_os_disk(isOsDisk=False, bootIndex=None, deleteOnTermination=False, volumeSize=7)
    ecs_id = cloud.create(customer, volumes=[data_disk, an_os_disk()])
    assert finish(customer, customer.call("DELETE", f"{INSTANCES}/{ecs_id}"))["state"] == "Succeeded"
    [kept] = cloud.rows(Volume)
    assert (kept.size_gib, kept.status, kept.instance_id, kept.node_id) == (7, "available", None, cloud.node.id)
    assert list(agent.volumes) == [kept.uuid]


def test_deleting_an_instance_in_the_making_cancels_its_creation(
    customer: Api, cloud: Cloud, agent: ScriptedAgent
) -> None:
    agent.gates["ensure_defined"] = threading.Event()
    created = customer.call("POST", INSTANCES, cloud.order())
    wait_for_call(agent, "ensure_defined")
    deleted = customer.call("POST", f"{INSTANCES}/batch-delete", {"ecsIds": [created.data["ecsId"]]})
    shown = customer.ok("GET", f"{INSTANCES}/{created.data['ecsId']}")
    assert (shown["status"], shown["taskStatus"]) == ("Terminating", "Terminating")
    agent.gates["ensure_defined"].set()
    assert finish(customer, deleted)["state"] == "Succeeded"
    assert customer.ok("GET", f"{OPERATIONS}/{created.headers['x-operation-id']}")["state"] == "Canceled"
    assert agent.is_empty()
    assert cloud.holds_nothing()
    customer.refused("GET", f"{INSTANCES}/{created.data['ecsId']}")


def test_asking_twice_for_deletion_answers_the_same_operation(
    customer: Api, cloud: Cloud, agent: ScriptedAgent
) -> None:
    ecs_id = cloud.create(customer)
    agent.gates["ensure_removed"] = threading.Event()
    answers = [customer.call("DELETE", f"{INSTANCES}/{ecs_id}") for _ in range(2)]
    assert answers[0].headers["x-operation-id"] == answers[1].headers["x-operation-id"]


def test_deletion_waits_for_a_node_that_is_away_and_says_so(customer: Api, cloud: Cloud, agent: ScriptedAgent) -> None:
    ecs_id = cloud.create(customer)
    agent.refusals["ensure_removed"] = Refusal(grpc.StatusCode.UNAVAILABLE, "", "no route to host", times=2)
    answer = customer.call("DELETE", f"{INSTANCES}/{ecs_id}")
    wait_for_call(agent, "ensure_removed")
    wait_until(lambda: "no route to host" in customer.ok("GET", f"{INSTANCES}/{ecs_id}")["errMessage"], "a reason")
    assert customer.ok("GET", f"{INSTANCES}/{ecs_id}")["status"] == "Terminating"
    assert len(cloud.rows(Allocation)) == 3
    assert finish(customer, answer)["state"] == "Succeeded"
    assert cloud.holds_nothing()


def test_a_failed_deletion_is_shown_and_can_be_asked_for_again(
    customer: Api, cloud: Cloud, agent: ScriptedAgent
) -> None:
    ecs_id = cloud.create(customer)
    agent.refusals["ensure_volume_removed"] = Refusal(message="read-only file system", times=1)
    assert finish(customer, customer.call("DELETE", f"{INSTANCES}/{ecs_id}"))["state"] == "Failed"
    shown = customer.ok("GET", f"{INSTANCES}/{ecs_id}")
    assert (shown["status"], shown["errMessage"]) == ("Terminating", "read-only file system")
    assert finish(customer, customer.call("DELETE", f"{INSTANCES}/{ecs_id}"))["state"] == "Succeeded"
    assert agent.is_empty()


def test_power_operations_follow_each_other(customer: Api, cloud: Cloud, agent: ScriptedAgent) -> None:
    ecs_id = cloud.create(customer)
    path = f"{INSTANCES}/{ecs_id}"
    seen = []
    for verb, body in (
        ("suspend", None),
        ("resume", None),
        ("restart", {"GracePeriodSeconds": 1}),
        ("stop", {"gracePeriodSeconds": 1}),
        ("start", None),
        ("stop", {"gracePeriodSeconds": "0"}),
    ):
        assert finish(customer, customer.call("PUT", f"{path}/{verb}", body))["state"] == "Succeeded"
        seen.append((verb, customer.ok("GET", path)["status"]))
    assert seen == [
        ("suspend", "Paused"),
        ("resume", "Running"),
        ("restart", "Running"),
        ("stop", "Stopped"),
        ("start", "Running"),
        ("stop", "Stopped"),
    ]
    assert agent.calls[-6:] == [
        "reboot",
        "ensure_stopped",
        "ensure_port",
        "ensure_defined",
        "ensure_running",
        "ensure_stopped_by_force",
    ]


def test_a_guest_that_does_not_obey_keeps_running_and_the_reason_is_shown(
    customer: Api, cloud: Cloud, agent: ScriptedAgent
) -> None:
    ecs_id = cloud.create(customer)
    agent.refusals["ensure_stopped"] = Refusal(
        grpc.StatusCode.DEADLINE_EXCEEDED, "DomainStopTimeout", "the guest did not shut down within 120 s"
    )
    operation = finish(customer, customer.call("PUT", f"{INSTANCES}/{ecs_id}/stop"))
    assert (operation["state"], operation["error"]["code"]) == ("Failed", "DomainStopTimeout")
    shown = customer.ok("GET", f"{INSTANCES}/{ecs_id}")
    assert (shown["status"], shown["errMessage"]) == ("Running", "the guest did not shut down within 120 s")
    assert "ensure_stopped_by_force" not in agent.calls


def test_a_lost_answer_does_not_restart_the_guest_twice(customer: Api, cloud: Cloud, agent: ScriptedAgent) -> None:
    ecs_id = cloud.create(customer)
    agent.refusals["reboot"] = Refusal(grpc.StatusCode.UNAVAILABLE, "", "connection reset", times=1)
    answer = customer.call("PUT", f"{INSTANCES}/{ecs_id}/restart")
    assert finish(customer, answer)["state"] == "Succeeded"
    assert agent.reboots == {answer.headers["x-operation-id"]: 1}


def test_while_an_operation_runs_others_are_refused_by_its_name(
    customer: Api, cloud: Cloud, agent: ScriptedAgent
) -> None:
    ecs_id = cloud.create(customer)
    agent.gates["ensure_stopped"] = threading.Event()
    stopping = customer.call("PUT", f"{INSTANCES}/{ecs_id}/stop")
    wait_for_call(agent, "ensure_stopped")
    assert customer.ok("GET", f"{INSTANCES}/{ecs_id}")["status"] == "Stopping"
    answer = customer.refused("PUT", f"{INSTANCES}/{ecs_id}/start")
    assert answer.code == "ECS.InvalidParameter.Status.NotSupported"
    assert stopping.headers["x-operation-id"] in answer.message
    # Cancelling stops the waiting, not the guest.
    customer.ok("DELETE", f"{OPERATIONS}/{stopping.headers['x-operation-id']}")
    assert finish(customer, stopping)["state"] == "Canceled"
    shown = customer.ok("GET", f"{INSTANCES}/{ecs_id}")
    assert (shown["status"], shown["errMessage"]) == ("Running", "canceled")


def test_a_new_name_reaches_the_node_with_the_next_start(customer: Api, cloud: Cloud, agent: ScriptedAgent) -> None:
    ecs_id = cloud.create(customer)
    customer.ok("PUT", f"{INSTANCES}/{ecs_id}/reset-name", {"displayname": "renamed"})
    [uuid] = agent.specs
    assert agent.specs[uuid].title == "web"
    for verb in ("stop", "start"):
        assert finish(customer, customer.call("PUT", f"{INSTANCES}/{ecs_id}/{verb}"))["state"] == "Succeeded"
    assert (agent.specs[uuid].title, agent.specs[uuid].generation) == ("renamed", 2)


def test_orders_that_run_together_all_end_well(customer: Api, cloud: Cloud, agent: ScriptedAgent) -> None:
    answer = customer.call("POST", f"{INSTANCES}/batch-create", cloud.order(ecsCount=8))
    for operation_id in answer.headers["x-operation-id"].split(","):
        answer.headers["x-operation-id"] = operation_id
        assert finish(customer, answer)["state"] == "Succeeded"
    assert {row.power_state for row in cloud.rows(Instance)} == {PowerState.RUNNING}
    assert {row.kind for row in cloud.rows(Task)} == {CREATE_INSTANCE.name}
    assert len(agent.domains) == 8


def wait_for_call(agent: ScriptedAgent, name: str) -> None:
    """Until the agent was called so."""
    wait_until(lambda: name in agent.calls, name, interval_seconds=0.02)
