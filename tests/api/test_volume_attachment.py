"""Volumes that instances get, keep and lose, over REST, the task engine and an agent that does as the test says."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from coordinator.domain.unit import GIB
from coordinator.runtime import Runtime
from coordinator.store.tables import Tenant, Volume
from tests.api.client import Answer, Api
from tests.api.cloud import INSTANCES, OPERATIONS, Cloud, an_os_disk, finish
from tests.builders import a_node, a_volume, add
from tests.database import BOTH_DATABASES, SQLITE_ONLY
from tests.lab.waiting import wait_until
from tests.scripted_agent import Refusal, ScriptedAgent

VOLUMES = "/api/ebs/v1/volumes"
STILL_ATTACHED = Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, "DeviceStillAttached", "the guest still has the device")


@pytest.fixture
def ecs_id(customer: Api, cloud: Cloud, agent: ScriptedAgent) -> str:
    """An instance that runs; what it took to make it is forgotten."""
    made = cloud.create(customer)
    agent.calls.clear()
    return made


def make(api: Api, **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = api.ok("POST", VOLUMES, {"name": "data", "volumeSize": 3, **fields})
    return made


def put(api: Api, ecs_id: str, action: str, body: Any) -> Answer:
    return api.call("PUT", f"{INSTANCES}/{ecs_id}/{action}", body)


def attach(api: Api, ecs_id: str, *volumes: dict[str, Any], **fields: Any) -> dict[str, Any]:
    answer = put(api, ecs_id, "attach-volumes", [{"volumeId": one["volumeId"], **fields} for one in volumes])
    assert answer.code == "Success", answer
    assert answer.data is None
    return finish(api, answer)


def detach(api: Api, ecs_id: str, *volumes: dict[str, Any]) -> dict[str, Any]:
    answer = put(api, ecs_id, "detach-volumes", {"volumeUuids": [one["volumeUuid"] for one in volumes]})
    assert answer.code == "Success", answer
    return finish(api, answer)


def show(api: Api, volume: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = api.ok("GET", f"{VOLUMES}/{volume['volumeId']}")
    return shown


def bare(volume: dict[str, Any]) -> str:
    return str(volume["volumeUuid"]).removeprefix("volume-")


def state_of(api: Api, volume: dict[str, Any]) -> tuple[str, str]:
    shown = show(api, volume)
    return shown["status"], shown["ecsId"]


def domain_of(agent: ScriptedAgent) -> str:
    (uuid,) = agent.domains
    return uuid


def test_volumes_are_made_where_they_are_attached_and_kept_when_they_are_detached(
    customer: Api, agent: ScriptedAgent, ecs_id: str
) -> None:
    one, other = make(customer, diskBus="scsi"), make(customer, volumeSize=5)
    assert attach(customer, ecs_id, one, other, deleteOnTermination=True, bootable=True)["state"] == "Succeeded"
    assert agent.calls == ["ensure_volume", "ensure_volume", "ensure_disk_attached", "ensure_disk_attached"]
    assert [agent.volumes[bare(volume)] for volume in (one, other)] == [3 * GIB, 5 * GIB]
    disks = agent.disks[domain_of(agent)]
    # The system disk is first.
    assert [disks[bare(volume)].boot_index for volume in (one, other)] == [2, 3]
    for volume in (one, other):
        shown = show(customer, volume)
        expected = ("inUse", ecs_id, True, "AZ0")
        assert (shown["status"], shown["ecsId"], shown["deleteOnTermination"], shown["az"]) == expected
    instance = customer.ok("GET", f"{INSTANCES}/{ecs_id}")
    assert (instance["status"], instance["taskStatus"], instance["errMessage"]) == ("Running", "Running", "")
    mapped = {disk["volumeUuid"]: disk["status"] for disk in instance["blockDeviceMappings"]}
    assert mapped[one["volumeUuid"]] == mapped[other["volumeUuid"]] == "inUse"
    assert detach(customer, ecs_id, one, other)["state"] == "Succeeded"
    assert not agent.disks[domain_of(agent)]
    for volume in (one, other):
        shown = show(customer, volume)
        assert (shown["status"], shown["ecsId"], shown["deleteOnTermination"]) == ("available", "", False)
        assert (shown["bootIndex"], shown["az"], bare(volume) in agent.volumes) == (0, "AZ0", True)
    assert len(customer.ok("GET", f"{INSTANCES}/{ecs_id}")["blockDeviceMappings"]) == 1


@BOTH_DATABASES
def test_the_volumes_of_an_instance_are_listed(customer: Api, stranger: Api, ecs_id: str) -> None:
    volume = make(customer, volumeType="ssd")
    attach(customer, ecs_id, volume)
    listed = customer.ok("GET", f"{INSTANCES}/{ecs_id}/attached-volumes")
    assert listed["count"] == 2
    system, data = listed["attachedVolumes"]
    assert (system["isOSDisk"], data["isOSDisk"]) == (True, False)
    documented = {"volumeUuid", "volumeName", "description", "maxIOPS", "volumeType", "storageClassId", "volumeSize"}
    assert documented | {"isEncrypted", "createdAt"} <= set(data)
    assert (data["volumeUuid"], data["volumeName"], data["volumeSize"]) == (volume["volumeUuid"], "data", 3)
    assert stranger.refused("GET", f"{INSTANCES}/{ecs_id}/attached-volumes").code == "ECS.DBGet.NoData"


@pytest.mark.parametrize(
    ("action", "body"),
    [
        ("attach-volumes", lambda one: [{"volumeId": one["volumeId"], "deleteOnTermination": True, "bootable": False}]),
        ("attach-volumes", lambda one: [{"volumeld": str(one["volumeId"])}]),
        ("attach-volumes", lambda one: [{"volumeUuid": one["volumeUuid"], "bootable": "false"}]),
    ],
)
def test_bodies_as_callers_write_them(
    customer: Api, ecs_id: str, action: str, body: Callable[[dict[str, Any]], Any]
) -> None:
    volume = make(customer)
    assert finish(customer, put(customer, ecs_id, action, body(volume)))["state"] == "Succeeded"
    answer = put(customer, ecs_id, "reset-voldelflag", {"volumeId": volume["volumeId"], "deleteOnTermination": "true"})
    assert (answer.code, answer.data) == ("Success", None)
    assert show(customer, volume)["deleteOnTermination"] is True
    answer = put(customer, ecs_id, "detach-volume", {"volumeld": volume["volumeId"]})
    assert finish(customer, answer)["state"] == "Succeeded"


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("action", "body", "named"),
    [
        ("attach-volumes", [], "volumes"),
        ("attach-volumes", [{}], "volumeId"),
        ("attach-volumes", [{"volumeId": True}], "volumeId"),
        ("attach-volumes", [{"volumeId": "x" * 65}], "volumeId"),
        ("attach-volumes", [{"volumeId": 1, "bootable": "perhaps"}], "bootable"),
        ("detach-volume", {}, "volumeId"),
        ("detach-volumes", {"volumeUuids": []}, "volumes"),
        ("detach-volumes", {"volumeUuids": "volume-1"}, "volumeUuids"),
        ("detach-volumes", {}, "volumeUuids"),
        ("reset-voldelflag", {"deleteOnTermination": True}, "volumeId"),
        ("reset-voldelflag", {"volumeId": 1, "deleteOnTermination": []}, "deleteOnTermination"),
    ],
)
def test_a_field_that_is_wrong_is_named(customer: Api, ecs_id: str, action: str, body: Any, named: str) -> None:
    answer = put(customer, ecs_id, action, body)
    assert (answer.status, answer.code) == (400, "ECS.InvalidParameter"), answer
    assert named in answer.message


def test_what_does_not_exist(customer: Api, stranger: Api, ecs_id: str) -> None:
    foreign = make(stranger)
    for body in ([{"volumeId": foreign["volumeId"]}], [{"volumeId": 10**12}], [{"volumeId": "volume-x"}]):
        assert put(customer, ecs_id, "attach-volumes", body).code == "ECS.DBGet.NoData"
    own = make(customer)
    assert (
        put(customer, "ecs-" + "0" * 14, "attach-volumes", [{"volumeId": own["volumeId"]}]).code == "ECS.DBGet.NoData"
    )
    for action in ("detach-volume", "reset-voldelflag"):
        answer = put(customer, ecs_id, action, {"volumeId": own["volumeId"]})
        assert answer.code == "ECS.InvalidParameter.Status.NotSupported"
        assert "not attached" in answer.message


def test_an_operator_gives_no_tenant_the_volume_of_another(operator: Api, stranger: Api, ecs_id: str) -> None:
    answer = put(operator, ecs_id, "attach-volumes", [{"volumeId": make(stranger)["volumeId"]}])
    assert answer.code == "ECS.DBGet.NoData"


def test_a_volume_is_named_once(customer: Api, ecs_id: str) -> None:
    volume = make(customer)
    answer = put(customer, ecs_id, "attach-volumes", [{"volumeId": volume[key]} for key in ("volumeId", "volumeUuid")])
    assert answer.code == "ECS.InvalidParameter"
    assert "twice" in answer.message


def test_a_locked_instance_keeps_what_it_has(customer: Api, cloud: Cloud, ecs_id: str) -> None:
    volume, other = make(customer), make(customer)
    attach(customer, ecs_id, volume)
    customer.ok("PUT", f"{INSTANCES}/{ecs_id}/lock", {"isLock": True})
    for action, body in (
        ("attach-volumes", [{"volumeId": other["volumeId"]}]),
        ("detach-volume", {"volumeId": volume["volumeId"]}),
        ("detach-volumes", {"volumeUuids": [volume["volumeUuid"]]}),
        ("reset-voldelflag", {"volumeId": volume["volumeId"], "deleteOnTermination": True}),
    ):
        assert put(customer, ecs_id, action, body).code == "ECS.OperationDenied.Identity"
    answer = customer.refused("PUT", f"{VOLUMES}/{volume['volumeId']}/resize", {"volumeSize": 9})
    assert answer.code == "ECS.OperationDenied.Identity"


def test_the_system_disk_stays(customer: Api, ecs_id: str) -> None:
    (system,) = customer.ok("GET", f"{INSTANCES}/{ecs_id}/attached-volumes")["attachedVolumes"]
    answer = put(customer, ecs_id, "detach-volume", {"volumeId": system["volumeId"]})
    assert answer.code == "ECS.InvalidParameter.Status.NotSupported"
    assert "system disk" in answer.message


def test_an_instance_has_sixteen_volumes_at_most(customer: Api, ecs_id: str) -> None:
    volumes = [make(customer, volumeSize=1) for _ in range(16)]
    answer = put(customer, ecs_id, "attach-volumes", [{"volumeId": one["volumeId"]} for one in volumes])
    assert answer.code == "ECS.OperationDenied.VolumeNumOverLimit"
    assert attach(customer, ecs_id, *volumes[:15])["state"] == "Succeeded"
    answer = put(customer, ecs_id, "attach-volumes", [{"volumeId": volumes[15]["volumeId"]}])
    assert answer.code == "ECS.OperationDenied.VolumeNumOverLimit"


@BOTH_DATABASES
def test_of_several_callers_one_gets_the_volume(customer: Api, cloud: Cloud, agent: ScriptedAgent) -> None:
    volume, instances = make(customer), [cloud.create(customer) for _ in range(3)]
    body = [{"volumeId": volume["volumeId"]}]
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda ecs_id: put(customer, ecs_id, "attach-volumes", body), instances))
    (won,) = (index for index, answer in enumerate(answers) if answer.code == "Success")
    assert {a.code for a in answers} == {"Success", "ECS.InvalidParameter.Status.NotSupported"}
    assert finish(customer, answers[won])["state"] == "Succeeded"
    assert state_of(customer, volume) == ("inUse", instances[won])


def test_data_on_another_node_is_out_of_reach_unless_both_share_it(
    customer: Api, cloud: Cloud, runtime: Runtime, tenant: Tenant, agent: ScriptedAgent, ecs_id: str
) -> None:
    far = a_node(name="far")
    stored = a_volume(tenant, node_id=far.id)
    with runtime.database.write() as session:
        add(session, far)
        add(session, stored)
    answer = put(customer, ecs_id, "attach-volumes", [{"volumeId": stored.id}])
    assert answer.code == "ECS.InvalidParameter.Status.NotSupported"
    assert "node far" in answer.message
    for node in (far, cloud.node):
        cloud.change(node, storage_id="both", address=node.address if node is far else _address(cloud))
    assert finish(customer, put(customer, ecs_id, "attach-volumes", [{"volumeId": stored.id}]))["state"] == "Succeeded"
    assert next(row.node_id for row in cloud.rows(Volume) if row.uuid == stored.uuid) == cloud.node.id
    # It is there already.
    assert agent.calls == ["ensure_disk_attached"]


def _address(cloud: Cloud) -> str:
    return next(str(row.address) for row in cloud.rows(type(cloud.node)) if row.id == cloud.node.id)


@pytest.mark.parametrize("call", ["ensure_volume", "ensure_disk_attached"])
def test_an_attachment_that_fails_leaves_nothing(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, ecs_id: str, call: str
) -> None:
    one, other = make(customer), make(customer)
    agent.refusals[call] = Refusal(message="no port is free")
    operation = attach(customer, ecs_id, one, other, deleteOnTermination=True)
    assert (operation["state"], operation["error"]["code"]) == ("Failed", "HypervisorFailed")
    assert not agent.disks.get(domain_of(agent))
    for volume in (one, other):
        shown = show(customer, volume)
        assert (shown["status"], shown["ecsId"], shown["deleteOnTermination"]) == ("available", "", False)
        # Empty as it was, it may be made elsewhere.
        assert (shown["az"], bare(volume) in agent.volumes) == ("", False)
    instance = customer.ok("GET", f"{INSTANCES}/{ecs_id}")
    assert (instance["status"], instance["errMessage"]) == ("Running", "no port is free")
    agent.refusals.clear()
    assert attach(customer, ecs_id, one, other)["state"] == "Succeeded"


def test_what_a_guest_does_not_let_go_of_after_a_failed_attachment_is_shown_as_its_own(
    customer: Api, agent: ScriptedAgent, ecs_id: str
) -> None:
    one, other = make(customer), make(customer)

    class OnlyTheSecond(dict[str, Refusal]):
        def get(self, key: str, default: Any = None) -> Any:
            if key == "ensure_disk_detached":
                return STILL_ATTACHED if agent.calls.count(key) > 1 else default
            is_second = key == "ensure_disk_attached" and agent.calls.count(key) > 1
            return Refusal(message="no port is free") if is_second else default

    agent.refusals = OnlyTheSecond()
    operation = attach(customer, ecs_id, one, other, deleteOnTermination=True)
    assert (operation["state"], operation["error"]["message"]) == ("Failed", "no port is free")
    assert set(agent.disks[domain_of(agent)]) == {bare(one)}
    assert (state_of(customer, one), state_of(customer, other)) == (("inUse", ecs_id), ("available", ""))
    assert show(customer, one)["deleteOnTermination"] is False
    assert (bare(one) in agent.volumes, bare(other) in agent.volumes) == (True, False)
    agent.refusals = {}
    assert detach(customer, ecs_id, one)["state"] == "Succeeded"


def test_a_guest_that_does_not_let_go_keeps_all_of_its_volumes(
    customer: Api, agent: ScriptedAgent, ecs_id: str
) -> None:
    one, other = make(customer), make(customer)
    attach(customer, ecs_id, one, other, deleteOnTermination=True)
    agent.calls.clear()
    gate = agent.gates["ensure_disk_detached"] = threading.Event()
    answer = put(customer, ecs_id, "detach-volumes", {"volumeUuids": [one["volumeUuid"], other["volumeUuid"]]})
    wait_until(lambda: "ensure_disk_detached" in agent.calls, "the guest is asked")
    assert state_of(customer, one) == ("detaching", ecs_id)
    assert customer.refused("DELETE", f"{VOLUMES}/{one['volumeId']}").code == "ECS.InvalidParameter.Status.NotSupported"

    class OnlyTheFirst(dict[str, Refusal]):
        def get(self, key: str, default: Any = None) -> Any:
            return STILL_ATTACHED if key == "ensure_disk_detached" and agent.calls.count(key) > 1 else default

    agent.refusals = OnlyTheFirst()
    gate.set()
    operation = finish(customer, answer)
    assert (operation["state"], operation["error"]["code"]) == ("Failed", "DeviceStillAttached")
    assert set(agent.disks[domain_of(agent)]) == {bare(one), bare(other)}
    for volume in (one, other):
        assert state_of(customer, volume) == ("inUse", ecs_id)
        assert show(customer, volume)["deleteOnTermination"] is True
    assert "still has" in customer.ok("GET", f"{INSTANCES}/{ecs_id}")["errMessage"]


def test_an_attachment_is_cancelled(customer: Api, agent: ScriptedAgent, ecs_id: str) -> None:
    volume = make(customer)
    agent.gates["ensure_disk_attached"] = threading.Event()
    answer = put(customer, ecs_id, "attach-volumes", [{"volumeId": volume["volumeId"]}])
    wait_until(lambda: "ensure_disk_attached" in agent.calls, "it is being attached")
    assert state_of(customer, volume) == ("attaching", ecs_id)
    customer.ok("DELETE", f"{OPERATIONS}/{answer.headers['x-operation-id']}")
    assert finish(customer, answer)["state"] == "Canceled"
    assert not agent.disks.get(domain_of(agent))
    assert state_of(customer, volume) == ("available", "")


def test_a_cancelled_detachment_waits_for_the_guest_that_was_asked_and_asks_no_other(
    customer: Api, agent: ScriptedAgent, ecs_id: str
) -> None:
    one, other = make(customer), make(customer)
    attach(customer, ecs_id, one, other)
    agent.calls.clear()
    gate = agent.gates["ensure_disk_detached"] = threading.Event()
    answer = put(customer, ecs_id, "detach-volumes", {"volumeUuids": [one["volumeUuid"], other["volumeUuid"]]})
    wait_until(lambda: "ensure_disk_detached" in agent.calls, "the guest is asked")
    customer.ok("DELETE", f"{OPERATIONS}/{answer.headers['x-operation-id']}")
    # Whoever runs the operation hears of it at its next look.
    time.sleep(2)
    gate.set()
    assert finish(customer, answer)["state"] == "Canceled"
    assert agent.calls == ["ensure_disk_detached", "ensure_disk_attached", "ensure_disk_attached"]
    for volume in (one, other):
        assert state_of(customer, volume) == ("inUse", ecs_id)


def test_an_instance_that_is_deleted_while_it_gets_a_volume_takes_it_not_along(
    customer: Api, agent: ScriptedAgent, ecs_id: str
) -> None:
    volume = make(customer)
    attach(customer, ecs_id, volume)
    detach(customer, ecs_id, volume)
    agent.calls.clear()
    agent.gates["ensure_disk_attached"] = threading.Event()
    put(customer, ecs_id, "attach-volumes", [{"volumeId": volume["volumeId"], "deleteOnTermination": True}])
    wait_until(lambda: "ensure_disk_attached" in agent.calls, "it is being attached")
    answer = customer.call("DELETE", f"{INSTANCES}/{ecs_id}")
    assert finish(customer, answer)["state"] == "Succeeded"
    assert state_of(customer, volume) == ("available", "")
    assert bare(volume) in agent.volumes
    # Its guest goes with all that it has.
    assert "ensure_disk_detached" not in agent.calls


@pytest.mark.parametrize("goes", [True, False])
def test_the_flag_says_what_becomes_of_the_data(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, ecs_id: str, goes: bool
) -> None:
    volume = make(customer)
    attach(customer, ecs_id, volume, deleteOnTermination=not goes)
    answer = put(customer, ecs_id, "reset-voldelflag", {"volumeId": volume["volumeId"], "deleteOnTermination": goes})
    assert answer.code == "Success"
    assert finish(customer, customer.call("DELETE", f"{INSTANCES}/{ecs_id}"))["state"] == "Succeeded"
    assert (bare(volume) in agent.volumes) is not goes
    if goes:
        assert customer.refused("GET", f"{VOLUMES}/{volume['volumeId']}").code == "ECS.DBGet.NoData"
        return
    assert state_of(customer, volume) == ("available", "")
    other = cloud.create(customer)
    assert attach(customer, other, volume)["state"] == "Succeeded"


def test_a_kept_system_disk_is_data_to_the_next_instance(customer: Api, cloud: Cloud, agent: ScriptedAgent) -> None:
    first = cloud.create(customer, volumes=[an_os_disk(deleteOnTermination=False)])
    (system,) = customer.ok("GET", f"{INSTANCES}/{first}/attached-volumes")["attachedVolumes"]
    finish(customer, customer.call("DELETE", f"{INSTANCES}/{first}"))
    second = cloud.create(customer)
    assert attach(customer, second, system)["state"] == "Succeeded"
    listed = customer.ok("GET", f"{INSTANCES}/{second}/attached-volumes")["attachedVolumes"]
    assert [one["isOSDisk"] for one in listed] == [True, False]


def test_a_stopped_instance_starts_with_what_it_got(customer: Api, agent: ScriptedAgent, ecs_id: str) -> None:
    finish(customer, put(customer, ecs_id, "stop", {"gracePeriodSeconds": 0}))
    volume, slow = make(customer), make(customer, diskBus="sata")
    assert attach(customer, ecs_id, volume, slow)["state"] == "Succeeded"
    finish(customer, put(customer, ecs_id, "start", None))
    (spec,) = agent.specs.values()
    assert [disk.volume_uuid for disk in spec.disks][1:] == [bare(volume), bare(slow)]
    answer = put(customer, ecs_id, "detach-volume", {"volumeId": slow["volumeId"]})
    assert answer.code == "ECS.InvalidParameter.Status.NotSupported"
    assert "sata" in answer.message


@pytest.mark.parametrize("is_attached", [True, False])
def test_a_volume_grows(customer: Api, agent: ScriptedAgent, ecs_id: str, is_attached: bool) -> None:
    volume = make(customer)
    attach(customer, ecs_id, volume)
    if not is_attached:
        detach(customer, ecs_id, volume)
    path = f"{VOLUMES}/{volume['volumeId']}/resize"
    answer = customer.call("PUT", path, {"volumeSize": 7})
    assert finish(customer, answer)["state"] == "Succeeded"
    (order,) = agent.orders
    assert (order.size_bytes, order.domain_uuid) == (7 * GIB, domain_of(agent) if is_attached else "")
    shown = show(customer, volume)
    assert (shown["volumeSize"], shown["status"]) == (7, "inUse" if is_attached else "available")
    smaller = customer.refused("PUT", path, {"volumeSize": 6})
    assert (smaller.code, "shrink" in smaller.message) == ("ECS.InvalidParameter", True)
    same = customer.call("PUT", path, {"volumeSize": 7})
    assert (same.code, "x-operation-id" in same.headers) == ("Success", False)


@BOTH_DATABASES
def test_a_volume_that_no_node_has_made_grows_at_once_within_the_quota(customer: Api, cloud: Cloud) -> None:
    cloud.change(cloud.tenant, quota_storage_gib=10)
    volume = make(customer)
    path = f"{VOLUMES}/{volume['volumeId']}/resize"
    assert "x-operation-id" not in customer.call("PUT", path, {"size": 10}).headers
    assert show(customer, volume)["volumeSize"] == 10
    assert customer.refused("PUT", path, {"size": 11}).code == "ECS.OperationDenied.QuotaExceeded"


@SQLITE_ONLY
@pytest.mark.parametrize("size", [0, 65537, "x", None, 2**70])
def test_a_size_that_no_volume_has_is_named(customer: Api, size: Any) -> None:
    answer = customer.refused("PUT", f"{VOLUMES}/{make(customer)['volumeId']}/resize", {"volumeSize": size})
    assert (answer.code, answer.message[:10]) == ("ECS.InvalidParameter", "volumeSize")


@pytest.mark.parametrize(("has_grown", "size_gib"), [(True, 7), (False, 3)])
def test_what_became_of_a_failed_growth_is_looked_up(
    customer: Api, agent: ScriptedAgent, ecs_id: str, has_grown: bool, size_gib: int
) -> None:
    volume = make(customer)
    attach(customer, ecs_id, volume)
    agent.refusals["ensure_volume_grown"] = Refusal(message="no space")
    gate = agent.gates["list_volumes"] = threading.Event()
    answer = customer.call("PUT", f"{VOLUMES}/{volume['volumeId']}/resize", {"volumeSize": 7})
    wait_until(lambda: "list_volumes" in agent.calls, "the node is asked")
    assert state_of(customer, volume) == ("growing", ecs_id)
    agent.volumes[bare(volume)] = (7 if has_grown else 3) * GIB
    gate.set()
    assert finish(customer, answer)["state"] == "Failed"
    shown = show(customer, volume)
    assert (shown["volumeSize"], shown["status"]) == (size_gib, "inUse")
    assert customer.ok("GET", f"{INSTANCES}/{ecs_id}")["errMessage"] == "no space"


def test_a_volume_is_renamed(customer: Api, stranger: Api) -> None:
    volume = make(customer)
    path = f"{VOLUMES}/{volume['volumeId']}"
    assert customer.ok("PUT", path, {"name": "logs"})["name"] == "logs"
    assert show(customer, volume)["name"] == "logs"
    assert customer.refused("PUT", path, {"name": ""}).code == "ECS.InvalidParameter"
    assert customer.refused("PUT", path, {"name": "x" * 128}).code == "ECS.InvalidParameter"
    assert stranger.refused("PUT", path, {"name": "mine"}).code == "ECS.DBGet.NoData"
