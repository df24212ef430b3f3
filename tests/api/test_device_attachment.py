"""USB devices and local disks that instances get and lose over REST."""

import threading
from typing import Any

import grpc
import pytest

from coordinator.agents.device_report import make_devices
from coordinator.domain.instance import InstanceStatus
from coordinator.runtime import Runtime
from coordinator.store.queries.device import GONE
from coordinator.store.tables import Device, DeviceAllocation, Instance, Task, Tenant
from coordinator.tasks.kinds.attach_devices import ATTACH_DEVICES
from coordinator.tasks.kinds.delete_instance import RETRY_SECONDS
from coordinator.tasks.kinds.detach_devices import DETACH_DEVICES
from coordinator.tasks.model import TaskKind
from tests.api.client import Answer, Api
from tests.api.cloud import INSTANCES, Cloud, finish, stock
from tests.api.test_device_search import a_disk, a_stick
from tests.builders import add
from tests.database import BOTH_DATABASES, SQLITE_ONLY
from tests.lab.waiting import wait_until
from tests.scripted_agent import Refusal, ScriptedAgent

USB = "/api/ecs/v1/usb"
IN_USE = "ECS.OperationDenied.InUse"
UNSUPPORTED = "ECS.InvalidParameter.Status.NotSupported"


@pytest.fixture
def cloud(runtime: Runtime, tenant: Tenant) -> Cloud:
    made = stock(runtime, tenant)
    devices = [a_stick("1"), a_stick("2"), a_stick("3", withheld_reason="mounted"), *(a_disk(n) for n in (1, 2, 3))]
    with runtime.database.write() as session:
        add(session, *make_devices(made.node.id, devices))
    return made


@pytest.fixture
def ecs_id(customer: Api, cloud: Cloud, agent: ScriptedAgent) -> str:
    return cloud.create(customer)


def uuid_of(cloud: Cloud, ecs_id: str) -> str:
    return str(next(row.uuid for row in cloud.rows(Instance) if row.ecs_id == ecs_id))


def claims(cloud: Cloud) -> dict[str, str]:
    return {row.device_id: row.consumer_uuid for row in cloud.rows(DeviceAllocation)}


def stick(port: str, **fields: Any) -> dict[str, Any]:
    return {"name": f"node-a-1-{port}", "bus": "1", "device": "5", "port": port, **fields}


def bind(api: Api, ecs_id: str, *sticks: dict[str, Any]) -> Answer:
    return api.call("POST", f"{USB}/{ecs_id}/bind", list(sticks))


def unbind(api: Api, ecs_id: str, *sticks: dict[str, Any]) -> Answer:
    return api.call("DELETE", f"{USB}/{ecs_id}/unbind", list(sticks))


def attach(api: Api, ecs_id: str, *numbers: int) -> Answer:
    return api.call("PUT", f"{INSTANCES}/{ecs_id}/attach-localdisks", [{"diskName": f"wwn-{n}"} for n in numbers])


def detach(api: Api, ecs_id: str, *numbers: int) -> Answer:
    return api.call("PUT", f"{INSTANCES}/{ecs_id}/detach-localdisks", [{"diskName": f"wwn-{n}"} for n in numbers])


def test_sticks_are_bound_and_unbound(customer: Api, cloud: Cloud, agent: ScriptedAgent, ecs_id: str) -> None:
    uuid = uuid_of(cloud, ecs_id)
    assert finish(customer, bind(customer, ecs_id, stick("1"), {"bus": 1, "port": 2}))["state"] == "Succeeded"
    assert claims(cloud) == {"usb-x-0-1": uuid, "usb-x-0-2": uuid}
    assert agent.devices_of(uuid) == {"usb-x-0-1", "usb-x-0-2"}
    shown = customer.ok("GET", f"{INSTANCES}/{ecs_id}")
    assert (shown["status"], shown["errMessage"]) == ("Running", "")
    assert [it["name"] for it in customer.ok("GET", f"{USB}?ecsId={ecs_id}")] == ["node-a-1-1", "node-a-1-2"]

    assert finish(customer, unbind(customer, ecs_id, stick("1", device="9")))["state"] == "Succeeded"
    assert claims(cloud) == {"usb-x-0-2": uuid}
    assert agent.devices_of(uuid) == {"usb-x-0-2"}
    assert [it.device_id for it in agent.journal[uuid].values()] == ["usb-x-0-2"]
    assert "x-operation-id" not in unbind(customer, ecs_id, stick("1")).headers
    assert agent.wiped == []


def test_disks_are_wiped_on_their_way_back(customer: Api, cloud: Cloud, agent: ScriptedAgent, ecs_id: str) -> None:
    uuid = uuid_of(cloud, ecs_id)
    assert finish(customer, attach(customer, ecs_id, 1, 2))["state"] == "Succeeded"
    assert agent.devices_of(uuid) == {"wwn-1", "wwn-2"}
    assert all(it.wipe_on_release for it in agent.journal[uuid].values())
    agent.gates["wipe"] = threading.Event()
    answer = detach(customer, ecs_id, 1)
    wait_until(lambda: "wipe" in agent.calls, "the disk is being wiped")
    assert claims(cloud) == {"wwn-1": uuid, "wwn-2": uuid}
    assert bind(customer, ecs_id, stick("1")).code == UNSUPPORTED
    agent.gates["wipe"].set()
    assert finish(customer, answer)["state"] == "Succeeded"
    assert (claims(cloud), agent.wiped) == ({"wwn-2": uuid}, ["wwn-1"])

    customer.ok("DELETE", f"{INSTANCES}/{ecs_id}")
    wait_until(lambda: not claims(cloud), "the other one is given back with the instance")
    assert agent.wiped == ["wwn-1", "wwn-2"]
    assert agent.calls.index("ensure_removed") < len(agent.calls) - agent.calls[::-1].index("ensure_released")


def test_disks_may_stay_as_they_are(customer: Api, cloud: Cloud, agent: ScriptedAgent, ecs_id: str) -> None:
    cloud.runtime.settings.wipe_released_disks = False
    finish(customer, attach(customer, ecs_id, 1))
    assert finish(customer, detach(customer, ecs_id, 1))["state"] == "Succeeded"
    assert (claims(cloud), agent.wiped, agent.journal) == ({}, [], {})


def test_an_instance_that_is_off_has_them_from_its_next_start_on(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, ecs_id: str
) -> None:
    finish(customer, customer.call("PUT", f"{INSTANCES}/{ecs_id}/stop", {"gracePeriodSeconds": 0}))
    finish(customer, attach(customer, ecs_id, 3))
    assert finish(customer, customer.call("PUT", f"{INSTANCES}/{ecs_id}/start"))["state"] == "Succeeded"
    spec = agent.specs[uuid_of(cloud, ecs_id)]
    assert [(it.device_id, it.boot_index, it.wipe_on_release) for it in spec.host_devices] == [("wwn-3", 0, True)]
    assert spec.generation == 2


def test_a_claim_is_for_all_of_them_or_none(customer: Api, cloud: Cloud, agent: ScriptedAgent, ecs_id: str) -> None:
    other = cloud.create(customer, displayName="other")
    finish(customer, attach(customer, other, 2))
    taken = attach(customer, ecs_id, 1, 2)
    assert taken.code == IN_USE
    assert "wwn-2" in taken.message
    withheld = bind(customer, ecs_id, stick("1"), stick("3"))
    assert withheld.code == UNSUPPORTED
    assert "mounted" in withheld.message
    assert attach(customer, ecs_id, 1, 9).code == "ECS.DBGet.NoData"
    assert claims(cloud) == {"wwn-2": uuid_of(cloud, other)}


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (f"{INSTANCES}/{{}}/attach-localdisks", [{"diskName": "wwn-1", "nodeName": "elsewhere"}], "nodeName"),
        (f"{INSTANCES}/{{}}/attach-localdisks", [{"diskName": "wwn-1", "htcl": "", "hctl": "9:9:9:9"}], "hctl"),
        (f"{INSTANCES}/{{}}/attach-localdisks", [{}], "diskName"),
        (f"{INSTANCES}/{{}}/attach-localdisks", [{"diskName": ""}], "diskName"),
        (f"{INSTANCES}/{{}}/attach-localdisks", [], "devices"),
    ],
)
def test_what_does_not_fit_is_refused_by_field(
    customer: Api, cloud: Cloud, ecs_id: str, path: str, body: Any, field: str
) -> None:
    answer = customer.refused("PUT", path.format(ecs_id), body)
    assert answer.code == "ECS.InvalidParameter"
    assert field in answer.message


@pytest.mark.parametrize(("given", "field"), [({}, "name"), ({"bus": "1"}, "port"), ({"port": "1"}, "name")])
def test_a_stick_is_named_by_name_or_by_bus_and_port(
    customer: Api, ecs_id: str, given: dict[str, str], field: str
) -> None:
    for answer in (bind(customer, ecs_id, given), unbind(customer, ecs_id, given)):
        assert (answer.code, answer.message.split(":")[0]) == ("ECS.InvalidParameter", field)


def test_a_stick_that_was_plugged_anew_is_not_the_one_that_was_meant(customer: Api, cloud: Cloud, ecs_id: str) -> None:
    answer = bind(customer, ecs_id, stick("1", device="6"))
    assert (answer.code, answer.message.startswith("device")) == ("ECS.InvalidParameter", True)
    assert claims(cloud) == {}


def test_instances_of_others_do_not_exist(customer: Api, stranger: Api, cloud: Cloud, ecs_id: str) -> None:
    assert bind(stranger, ecs_id, stick("1")).code == "ECS.DBGet.NoData"
    assert detach(stranger, ecs_id, 1).code == "ECS.DBGet.NoData"
    customer.ok("PUT", f"{INSTANCES}/{ecs_id}/lock", {"isLock": True})
    assert bind(customer, ecs_id, stick("1")).code == "ECS.OperationDenied.Identity"


@BOTH_DATABASES
def test_the_list_may_come_in_an_object(customer: Api, cloud: Cloud, ecs_id: str) -> None:
    answer = customer.call("POST", f"{USB}/{ecs_id}/bind", {"object": [stick("1")]})
    assert finish(customer, answer)["state"] == "Succeeded"
    assert set(claims(cloud)) == {"usb-x-0-1"}


def test_asking_again_answers_the_operation_that_is_under_way(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, ecs_id: str
) -> None:
    agent.gates["ensure_attached"] = threading.Event()
    answers = [attach(customer, ecs_id, 1, 2), attach(customer, ecs_id, 2, 1)]
    assert len({answer.headers["x-operation-id"] for answer in answers}) == 1
    assert attach(customer, ecs_id, 1).code == UNSUPPORTED
    agent.gates["ensure_attached"].set()
    finish(customer, answers[0])
    # What it has already is made sure of, and stays whatever comes of it.
    agent.refusals["ensure_attached"] = Refusal()
    assert finish(customer, attach(customer, ecs_id, 1, 3))["state"] == "Failed"
    assert set(claims(cloud)) == {"wwn-1", "wwn-2"}
    assert agent.devices_of(uuid_of(cloud, ecs_id)) == {"wwn-1", "wwn-2"}
    assert {it.device_id for it in agent.journal[uuid_of(cloud, ecs_id)].values()} == {"wwn-1", "wwn-2"}


def test_what_could_not_be_plugged_in_is_given_back(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, ecs_id: str
) -> None:
    agent.refusals["ensure_attached"] = Refusal(grpc.StatusCode.FAILED_PRECONDITION, "DeviceFaulty", "read errors")
    operation = finish(customer, attach(customer, ecs_id, 1))
    assert (operation["state"], operation["error"]["code"]) == ("Failed", "DeviceFaulty")
    assert (claims(cloud), agent.journal) == ({}, {})
    shown = customer.ok("GET", f"{INSTANCES}/{ecs_id}")
    assert (shown["status"], shown["errMessage"]) == ("Running", "read errors")


def test_what_the_guest_keeps_of_a_failed_attachment_stays_its_until_it_is_detached(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, ecs_id: str
) -> None:
    agent.refusals["ensure_attached"] = Refusal(grpc.StatusCode.FAILED_PRECONDITION, "DeviceFaulty", "read errors")
    agent.refusals["ensure_detached"] = Refusal(
        grpc.StatusCode.DEADLINE_EXCEEDED, "DeviceStillAttached", "the guest has not let go of wwn-1", times=1
    )
    operation = finish(customer, attach(customer, ecs_id, 1, 2))
    assert (operation["state"], operation["error"]["code"]) == ("Failed", "DeviceFaulty")
    assert set(claims(cloud)) == {"wwn-1"}
    shown = customer.ok("GET", f"{INSTANCES}/{ecs_id}")
    assert (shown["status"], shown["errMessage"]) == ("Running", "read errors")
    del agent.refusals["ensure_attached"]
    assert finish(customer, detach(customer, ecs_id, 1))["state"] == "Succeeded"
    assert (claims(cloud), agent.journal) == ({}, {})


def test_a_guest_that_does_not_let_go_keeps_all_of_them(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, ecs_id: str
) -> None:
    finish(customer, attach(customer, ecs_id, 1, 2))
    agent.refusals["ensure_detached"] = Refusal(
        grpc.StatusCode.DEADLINE_EXCEEDED, "DeviceBusy", "the guest does not let go of wwn-1"
    )
    operation = finish(customer, detach(customer, ecs_id, 1, 2))
    assert (operation["state"], operation["error"]["code"]) == ("Failed", "DeviceBusy")
    assert set(claims(cloud)) == {"wwn-1", "wwn-2"}
    assert agent.devices_of(uuid_of(cloud, ecs_id)) == {"wwn-1", "wwn-2"}
    assert "does not let go" in customer.ok("GET", f"{INSTANCES}/{ecs_id}")["errMessage"]
    del agent.refusals["ensure_detached"]
    assert finish(customer, detach(customer, ecs_id, 1, 2))["state"] == "Succeeded"
    assert claims(cloud) == {}


def test_a_stick_that_was_pulled_can_be_unbound(customer: Api, cloud: Cloud, agent: ScriptedAgent, ecs_id: str) -> None:
    finish(customer, bind(customer, ecs_id, stick("1")))
    pulled = next(row for row in cloud.rows(Device) if row.id == "usb-x-0-1")
    cloud.change(pulled, withheld_reason=GONE)
    assert finish(customer, unbind(customer, ecs_id, stick("1")))["state"] == "Succeeded"
    assert (claims(cloud), agent.journal) == ({}, {})


def test_wiping_goes_on_after_the_agent_was_away(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, ecs_id: str
) -> None:
    finish(customer, attach(customer, ecs_id, 1))
    agent.refusals["wipe"] = Refusal(grpc.StatusCode.UNAVAILABLE, "", "away", times=1)
    assert finish(customer, detach(customer, ecs_id, 1))["state"] == "Succeeded"
    assert (claims(cloud), agent.calls.count("wipe")) == ({}, 2)


@pytest.mark.parametrize("kind", [ATTACH_DEVICES, DETACH_DEVICES], ids=lambda kind: kind.name)
def test_a_node_that_is_away_ends_what_was_asked_for_but_not_the_putting_right(kind: TaskKind) -> None:
    assert kind.steps[0].retry_seconds == 600
    # Of undoing, which else parks the task for the operator.
    assert kind.retry_seconds >= RETRY_SECONDS


def test_a_deletion_takes_over_from_an_attachment(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, ecs_id: str
) -> None:
    agent.gates["ensure_attached"] = threading.Event()
    attach(customer, ecs_id, 1)
    wait_until(lambda: "ensure_attached" in agent.calls, "it is being plugged in")
    answer = customer.call("DELETE", f"{INSTANCES}/{ecs_id}")
    agent.gates["ensure_attached"].set()
    assert finish(customer, answer)["state"] == "Succeeded"
    assert (claims(cloud), agent.is_empty()) == ({}, True)


@SQLITE_ONLY
@pytest.mark.parametrize("status", sorted(set(InstanceStatus) - {InstanceStatus.RUNNING, InstanceStatus.STOPPED}))
def test_other_statuses_do_not_admit_it(customer: Api, cloud: Cloud, ecs_id: str, status: InstanceStatus) -> None:
    [instance] = cloud.rows(Instance)
    cloud.change(instance, status=status)
    assert attach(customer, ecs_id, 1).code == UNSUPPORTED
    assert (claims(cloud), [row.kind for row in cloud.rows(Task)]) == ({}, ["create_instance"])
