"""Instances on disk over REST: which operations they admit, and what cancelling and failures leave."""

import threading

import grpc
import pytest

from coordinator.domain.device import DeviceKind
from coordinator.store.tables import DeviceAllocation, Instance
from tests.api.client import Answer, Api
from tests.api.cloud import INSTANCES, OPERATIONS, Cloud, finish
from tests.lab.waiting import wait_until
from tests.scripted_agent import Refusal, ScriptedAgent

NO_STATUS = "ECS.InvalidParameter.Status.NotSupported"


@pytest.fixture
def ecs_id(customer: Api, cloud: Cloud, agent: ScriptedAgent) -> str:
    made = cloud.create(customer)
    agent.calls.clear()
    return made


def put(api: Api, ecs_id: str, verb: str, body: object = None) -> Answer:
    return api.call("PUT", f"{INSTANCES}/{ecs_id}/{verb}", body)


def status_of(api: Api, ecs_id: str) -> tuple[str, str]:
    shown = api.ok("GET", f"{INSTANCES}/{ecs_id}")
    return shown["status"], shown["errMessage"]


def test_what_hibernates_is_started_given_up_or_deleted_and_nothing_else(
    customer: Api, stranger: Api, cloud: Cloud, agent: ScriptedAgent, ecs_id: str
) -> None:
    gate = agent.gates["ensure_hibernated"] = threading.Event()
    answer = put(customer, ecs_id, "hibernate")
    assert (answer.code, answer.data) == ("Success", None)
    wait_until(lambda: "ensure_hibernated" in agent.calls, "the node is at it")
    assert status_of(customer, ecs_id) == ("Hibernating", "")
    assert put(customer, ecs_id, "hibernate").code == NO_STATUS
    gate.set()
    assert finish(customer, answer)["state"] == "Succeeded"
    assert status_of(customer, ecs_id) == ("Hibernated", "")
    for verb, body in (
        ("hibernate", None),
        ("suspend", None),
        ("resume", None),
        ("restart", {"gracePeriodSeconds": 0}),
        ("stop", {"gracePeriodSeconds": 1}),
        ("attach-volumes", [{"volumeId": 1}]),
    ):
        assert put(customer, ecs_id, verb, body).code != "Success", verb
    assert customer.call("POST", f"{INSTANCES}/{ecs_id}/cold-migrate", {"nodeName": "x"}).code == "ECS.DBGet.NoData"
    assert customer.call("POST", f"{INSTANCES}/{ecs_id}/live-migrate", {"nodeName": "x"}).code == NO_STATUS
    assert put(stranger, ecs_id, "start").code == "ECS.DBGet.NoData"
    assert finish(customer, put(customer, ecs_id, "start"))["state"] == "Succeeded"
    assert status_of(customer, ecs_id) == ("Running", "")
    finish(customer, put(customer, ecs_id, "hibernate"))
    assert finish(customer, put(customer, ecs_id, "stop", {"gracePeriodSeconds": 0}))["state"] == "Succeeded"
    assert status_of(customer, ecs_id) == ("Stopped", "")
    assert put(customer, ecs_id, "hibernate").code == NO_STATUS
    finish(customer, put(customer, ecs_id, "start"))
    finish(customer, put(customer, ecs_id, "hibernate"))
    assert finish(customer, customer.call("DELETE", f"{INSTANCES}/{ecs_id}"))["state"] == "Succeeded"
    assert cloud.holds_nothing()


def test_a_failure_or_a_cancellation_lets_the_guest_run_on(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, ecs_id: str
) -> None:
    agent.refusals["ensure_hibernated"] = Refusal(
        grpc.StatusCode.RESOURCE_EXHAUSTED, "StorageExhausted", "too little space", times=1
    )
    assert finish(customer, put(customer, ecs_id, "hibernate"))["state"] == "Failed"
    assert status_of(customer, ecs_id) == ("Running", "too little space")
    gate = agent.gates["ensure_hibernated"] = threading.Event()
    answer = put(customer, ecs_id, "hibernate")
    wait_until(lambda: agent.calls.count("ensure_hibernated") == 2, "the node is at it again")
    customer.ok("DELETE", f"{OPERATIONS}/{answer.headers['x-operation-id']}")
    assert finish(customer, answer)["state"] == "Canceled"
    gate.set()
    assert agent.calls[-1] == "cancel_hibernation"
    assert status_of(customer, ecs_id) == ("Running", "canceled")


def test_devices_of_the_node_and_locks_forbid_it(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, ecs_id: str
) -> None:
    (instance,) = cloud.rows(Instance)
    customer.ok("PUT", f"{INSTANCES}/{ecs_id}/lock", {"isLock": True})
    assert put(customer, ecs_id, "hibernate").code == "ECS.OperationDenied.Identity"
    customer.ok("PUT", f"{INSTANCES}/{ecs_id}/lock", {"isLock": False})
    with cloud.runtime.database.write() as session:
        held = {"consumer_uuid": instance.uuid, "node_id": cloud.node.id, "device_id": "0000:3b:00.0", "milli": 1000}
        session.add(DeviceAllocation(kind=DeviceKind.GPU, **held))
    answer = put(customer, ecs_id, "hibernate")
    assert (answer.code, "0000:3b:00.0" in answer.message) == (NO_STATUS, True)
    assert put(customer, "ecs-00000000000000", "hibernate").code == "ECS.DBGet.NoData"
    assert agent.calls == []
