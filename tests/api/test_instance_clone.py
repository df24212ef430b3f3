"""Clones over REST, the task engine and an agent that does as the test says."""

import threading
from typing import Any

import grpc
import pytest

from coordinator.store.tables import Instance, RecycledInstance, SshKeyBinding
from tests.api.client import Answer, Api
from tests.api.cloud import INSTANCES, OPERATIONS, Cloud, a_network, an_os_disk, finish
from tests.lab.waiting import wait_until
from tests.scripted_agent import Refusal, ScriptedAgent

STATUS = "ECS.InvalidParameter.Status.NotSupported"


@pytest.fixture
def source(customer: Api, cloud: Cloud, agent: ScriptedAgent) -> dict[str, Any]:
    """An instance that runs, with a system disk and another one."""
    disks = [an_os_disk(), {"volumeSize": 3, "volumeType": "hdd", "diskBus": "scsi", "deleteOnTermination": True}]
    ecs_id = cloud.create(
        customer,
        volumes=disks,
        userData="IyEvYmluL3NoCg==",
        password="Secret-2026",
        vmLabels=[{"key": "team", "value": "a"}],
    )
    agent.calls.clear()
    shown: dict[str, Any] = customer.ok("GET", f"{INSTANCES}/{ecs_id}")
    return shown


def draft(cloud: Cloud, source: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The reference's example, with this cloud's ids."""
    body = {
        "sourceEcsId": source["ecsId"],
        "isClone": True,
        "tenantId": cloud.tenant.id,
        "departmentId": cloud.department.id,
        "billingMode": "OnDemand",
        "region": "region0",
        "displayName": "wang-test",
        "archType": "x86",
        "az": "AZ0",
        "flavorId": cloud.flavor.flavor_id,
        "cpus": 2,
        "image": {"imageUid": "img-krrjzsgxyyh9bq", "url": ""},
        "memory": {"amount": "4Gi"},
        "networks": [{**a_network(), "subnetCidr": "10.0.0.0/24"}],
        "secGroupList": ["sg-" + "0" * 20],
        "imageSource": "public",
        **fields,
    }
    return {name: value for name, value in body.items() if value is not None}


def clone(api: Api, cloud: Cloud, source: dict[str, Any], **fields: Any) -> Answer:
    answer = api.call("POST", f"{INSTANCES}/{source['ecsId']}/clone", draft(cloud, source, **fields))
    assert answer.code == "Success", answer
    return answer


def check(api: Api, cloud: Cloud, source: dict[str, Any]) -> Answer:
    return api.call("GET", f"{INSTANCES}/{source['ecsId']}/check-clone?tenantId={cloud.tenant.id}")


def uuids(instance: dict[str, Any]) -> list[str]:
    return [disk["volumeUuid"].removeprefix("volume-") for disk in instance["blockDeviceMappings"]]


@pytest.mark.parametrize("status", ["Running", "Stopped"])
def test_a_clone_has_copies_of_all_disks_and_an_identity_of_its_own(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, source: dict[str, Any], status: str
) -> None:
    if status == "Stopped":
        finish(customer, customer.call("PUT", f"{INSTANCES}/{source['ecsId']}/stop", {"gracePeriodSeconds": 0}))
    assert check(customer, cloud, source).code == "Success"
    answer = clone(customer, cloud, source)
    assert finish(customer, answer)["state"] == "Succeeded"
    made, after = (customer.ok("GET", f"{INSTANCES}/{ecs_id}") for ecs_id in (answer.data["ecsId"], source["ecsId"]))
    assert (made["status"], made["nodeName"], made["displayName"]) == ("Running", source["nodeName"], "wang-test")
    assert (after["status"], after["taskStatus"]) == (status, status)
    pairs = list(zip(made["blockDeviceMappings"], source["blockDeviceMappings"], strict=True))
    own = {"createdAt", "updatedAt", "name", "volumeId", "volumeUuid", "ecsId", "volumeImageId", "status"}
    assert all(disk[name] == old[name] for disk, old in pairs for name in disk.keys() - own)
    assert not set(uuids(made)) & set(uuids(source))
    copied = [order for order in agent.orders if hasattr(order, "origin")]
    assert [(it.uuid, it.origin.volume_uuid, it.origin.snapshot_id) for it in copied] == [
        (new, old, f"clone-{made['ecsId']}") for new, old in zip(uuids(made), uuids(source), strict=True)
    ]
    assert not any(agent.snapshots.values())
    assert agent.calls.index("ensure_snapshot_taken") < agent.calls.index("ensure_volume_copied")
    assert agent.calls.index("ensure_snapshot_removed") < agent.calls.index("ensure_defined")
    assert made["networkMappings"][0]["macAddress"] != source["networkMappings"][0]["macAddress"]
    assert made["vmLabels"] == source["vmLabels"]
    [spec] = [spec for spec in agent.specs.values() if spec.name == made["ecsId"]]
    seed = spec.cloud_init
    assert (seed.renews_identity, seed.instance_id, seed.hostname) == (True, made["ecsId"], "wang-test")
    # What ran once in the source shall not run again, and its passwords are in the disks.
    assert (seed.user_data, seed.password_hash) == (b"", "")
    assert all(not spec.cloud_init.renews_identity for spec in agent.specs.values() if spec.name == source["ecsId"])
    # Independent of each other from now on.
    finish(customer, customer.call("DELETE", f"{INSTANCES}/{source['ecsId']}"))
    assert set(agent.volumes) == set(uuids(made))


def test_keys_that_open_the_source_open_the_clone(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, source: dict[str, Any]
) -> None:
    order = {"name": "laptop", "departmentId": cloud.department.id, "tenantId": cloud.tenant.id}
    customer.ok("POST", "/api/ecs/v1/ssh-key/import", {**order, "idRSAPub": _KEY})
    [key] = customer.ok("GET", "/api/ecs/v1/ssh-key")["SSHKeys"]
    finish(customer, customer.call("PUT", f"{INSTANCES}/{source['ecsId']}/stop", {"gracePeriodSeconds": 0}))
    bound = {"keyPairId": key["keyPairId"], "passwordAuth": "no", "ecsIds": [source["ecsId"]]}
    customer.ok("POST", "/api/ecs/v1/ssh-key/bind", bound)
    answer = clone(customer, cloud, source)
    assert finish(customer, answer)["state"] == "Succeeded"
    bindings = [(it.password_auth, it.state) for it in cloud.rows(SshKeyBinding) if it.instance_id == answer.data["id"]]
    assert bindings == [("no", "bound")]


_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ2e0LJh5KXJwXyqgM0O6wzYzS6yGJ8vVnUIS6e0z6Vn desk"


def test_the_source_takes_no_other_operation_until_its_disks_are_copied_and_canceling_leaves_nothing(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, source: dict[str, Any]
) -> None:
    agent.gates["ensure_volume_copied"] = threading.Event()
    answer = clone(customer, cloud, source)
    operation = f"{OPERATIONS}/{answer.headers['x-operation-id']}"
    wait_until(lambda: "ensure_volume_copied" in agent.calls, "the first disk is being copied")
    assert check(customer, cloud, source).code == STATUS
    assert customer.call("PUT", f"{INSTANCES}/{source['ecsId']}/stop", {"gracePeriodSeconds": 0}).code == STATUS
    customer.call("DELETE", operation)
    assert finish(customer, answer)["state"] == "Canceled"
    assert (any(agent.snapshots.values()), set(agent.volumes)) == (False, set(uuids(source)))
    left = customer.ok("GET", f"{INSTANCES}/{answer.data['ecsId']}")
    assert (left["blockDeviceMappings"], left["networkMappings"]) == ([], [])
    after = customer.ok("GET", f"{INSTANCES}/{source['ecsId']}")
    assert (after["status"], after["errorMessage"]) == ("Running", "")
    assert check(customer, cloud, source).code == "Success"


@pytest.mark.parametrize("call", ["ensure_snapshot_taken", "ensure_volume_copied", "ensure_defined", "ensure_running"])
def test_what_fails_is_undone_and_the_source_is_free_again(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, source: dict[str, Any], call: str
) -> None:
    status = grpc.StatusCode.RESOURCE_EXHAUSTED
    agent.refusals[call] = Refusal(status, "StorageExhausted", "the disk is full", times=agent.calls.count(call) + 9)
    answer = clone(customer, cloud, source)
    operation = finish(customer, answer)
    assert operation["state"] == "Failed"
    assert "disk is full" in operation["error"]["message"]
    assert (any(agent.snapshots.values()), set(agent.volumes)) == (False, set(uuids(source)))
    assert set(agent.domains) == {row.uuid for row in cloud.rows(Instance) if row.ecs_id == source["ecsId"]}
    agent.refusals.clear()
    assert check(customer, cloud, source).code == "Success"
    # A failed clone is deleted like any other instance.
    customer.ok("DELETE", f"{INSTANCES}/{answer.data['ecsId']}")


def test_volumes_without_snapshots_are_copied_while_the_source_is_off(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, source: dict[str, Any]
) -> None:
    status = grpc.StatusCode.FAILED_PRECONDITION
    agent.refusals["ensure_snapshot_taken"] = Refusal(status, "SnapshotUnsupported", "a logical volume")
    operation = finish(customer, clone(customer, cloud, source))
    assert (operation["state"], operation["error"]["code"]) == ("Failed", "SnapshotUnsupported")
    assert "stop the instance" in operation["error"]["message"]
    finish(customer, customer.call("PUT", f"{INSTANCES}/{source['ecsId']}/stop", {"gracePeriodSeconds": 0}))
    answer = clone(customer, cloud, source)
    assert finish(customer, answer)["state"] == "Succeeded"
    copied = [order.origin for order in agent.orders if hasattr(order, "origin")]
    assert [(it.volume_uuid, it.snapshot_id) for it in copied] == [(uuid, "") for uuid in uuids(source)]
    assert customer.ok("GET", f"{INSTANCES}/{source['ecsId']}")["taskStatus"] == "Stopped"


def test_the_source_can_be_deleted_meanwhile(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, source: dict[str, Any]
) -> None:
    agent.gates["ensure_volume_copied"] = threading.Event()
    answer = clone(customer, cloud, source)
    wait_until(lambda: "ensure_volume_copied" in agent.calls, "it copies")
    deletion = customer.call("DELETE", f"{INSTANCES}/{source['ecsId']}")
    assert finish(customer, deletion)["state"] == "Succeeded"
    assert finish(customer, answer)["state"] == "Canceled"
    assert agent.is_empty()


def test_what_fails_after_the_source_is_gone_leaves_nothing(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, source: dict[str, Any]
) -> None:
    agent.gates["ensure_port"] = threading.Event()
    answer, before = clone(customer, cloud, source), agent.calls.count("ensure_port")
    wait_until(lambda: agent.calls.count("ensure_port") > before, "its disks are copied")
    assert finish(customer, customer.call("DELETE", f"{INSTANCES}/{source['ecsId']}"))["state"] == "Succeeded"
    agent.refusals["ensure_defined"] = Refusal(code="StorageExhausted", message="the disk is full")
    agent.gates["ensure_port"].set()
    assert finish(customer, answer)["state"] == "Failed"
    assert agent.is_empty()


def test_a_clone_that_is_not_finished_is_not_kept_in_the_recycle_bin(
    operator: Api, customer: Api, cloud: Cloud, agent: ScriptedAgent, source: dict[str, Any]
) -> None:
    operator.ok("PUT", f"{INSTANCES}/recycle-config", {"enable": True, "freezeTime": 1})
    agent.gates["ensure_volume_copied"] = threading.Event()
    answer = clone(customer, cloud, source)
    wait_until(lambda: "ensure_volume_copied" in agent.calls, "it copies")
    deletion = customer.call("DELETE", f"{INSTANCES}/{answer.data['ecsId']}")
    assert finish(customer, deletion)["state"] == "Succeeded"
    assert finish(customer, answer)["state"] == "Canceled"
    assert not cloud.rows(RecycledInstance)
    assert check(customer, cloud, source).code == "Success"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"sourceEcsId": "ecs-00000000000000"}, "sourceEcsId"),
        ({"isClone": False}, "isClone"),
        ({"az": "AZ1"}, "az"),
        ({"archType": "arm"}, "archType"),
        ({"displayName": ""}, "displayName"),
        ({"networks": []}, "networks"),
        ({"departmentId": None}, "departmentId"),
        ({"volumes": [an_os_disk()]}, "volumes"),
        ({"cpus": 3}, "cpus"),
        ({"tenantId": "1"}, "instance"),
        ({"networks": [a_network(subnetId="snet-none")]}, "subnet"),
    ],
)
def test_what_cannot_be_a_clone_is_refused_by_name(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, source: dict[str, Any], fields: dict[str, Any], named: str
) -> None:
    path = f"{INSTANCES}/{source['ecsId']}/clone"
    assert named in customer.refused("POST", path, draft(cloud, source, **fields)).message
    assert len(cloud.rows(Instance)) == 1
    assert agent.calls == []


def test_what_cannot_be_cloned_says_so(
    customer: Api, stranger: Api, operator: Api, cloud: Cloud, agent: ScriptedAgent, source: dict[str, Any]
) -> None:
    path = f"{INSTANCES}/{source['ecsId']}/check-clone"
    assert "tenantId" in customer.refused("GET", path).message
    assert customer.refused("GET", f"{path}?tenantId=1").code == "ECS.DBGet.NoData"
    assert check(stranger, cloud, source).code == "ECS.DBGet.NoData"
    assert check(customer, cloud, {"ecsId": "ecs-00000000000000"}).code == "ECS.DBGet.NoData"
    cloud.change(cloud.tenant, quota_instances=1)
    assert check(customer, cloud, source).code == "ECS.OperationDenied.QuotaExceeded"
    refused = customer.refused("POST", f"{INSTANCES}/{source['ecsId']}/clone", draft(cloud, source))
    assert refused.code == "ECS.OperationDenied.QuotaExceeded"
    cloud.change(cloud.tenant, quota_instances=2, quota_storage_gib=45)
    assert check(customer, cloud, source).code == "ECS.OperationDenied.QuotaExceeded"
    cloud.change(cloud.tenant, quota_instances=None, quota_storage_gib=None)
    operator.ok("PUT", f"/api/ecs/v1/nodes/{cloud.node.id}/schedulable", {"schedulable": False})
    refused = customer.refused("POST", f"{INSTANCES}/{source['ecsId']}/clone", draft(cloud, source))
    assert refused.code == "ECS.OperationFailed.Unschedulable"
    customer.ok("PUT", f"{INSTANCES}/{source['ecsId']}/lock", {"isLock": True})
    assert check(customer, cloud, source).code == "ECS.OperationDenied.Identity"
    assert len(cloud.rows(Instance)) == 1
