"""Power operations over REST: what is admitted when, alone and in batches."""

from typing import Any

import pytest

from coordinator.domain.instance import InstanceStatus, PowerState
from coordinator.store.tables import Instance, Task
from tests.api.client import Api
from tests.api.cloud import INSTANCES, Cloud
from tests.builders import add, an_instance
from tests.database import SQLITE_ONLY

REFUSED = "ECS.InvalidParameter.Status.NotSupported"
FORCE = {"gracePeriodSeconds": 0}


def put(cloud: Cloud, status: InstanceStatus) -> str:
    """An instance on the node in that status."""
    instance = an_instance(cloud.tenant, cloud.flavor, node=cloud.node, status=status)
    with cloud.runtime.database.write() as session:
        add(session, instance)
    return instance.ecs_id


ADMITTED = {
    ("start", None): {"Stopped", "Hibernated"},
    ("stop", None): {"Running"},
    ("stop", "force"): {"Running", "Paused", "Hibernated"},
    ("restart", None): {"Running"},
    ("restart", "force"): {"Running"},
    ("suspend", None): {"Running"},
    ("resume", None): {"Paused"},
}


def test_each_operation_is_admitted_in_its_statuses_only(customer: Api, cloud: Cloud) -> None:
    admitted = {}
    for verb, force in ADMITTED:
        body = FORCE if force else None
        admitted[verb, force] = {
            str(status)
            for status in InstanceStatus
            if customer.call("PUT", f"{INSTANCES}/{put(cloud, status)}/{verb}", body).code == "Success"
        }
    assert admitted == ADMITTED


def test_a_domain_that_somebody_removed_is_put_back_by_a_start(customer: Api, cloud: Cloud) -> None:
    removed: dict[str, Any] = {"status": InstanceStatus.UNKNOWN, "power_state": PowerState.ABSENT}
    placed = an_instance(cloud.tenant, cloud.flavor, node=cloud.node, **removed)
    unplaced = an_instance(cloud.tenant, cloud.flavor, **removed)
    with cloud.runtime.database.write() as session:
        add(session, placed, unplaced)
    customer.ok("PUT", f"{INSTANCES}/{placed.ecs_id}/start")
    assert customer.refused("PUT", f"{INSTANCES}/{placed.ecs_id}/start").code == REFUSED
    assert customer.refused("PUT", f"{INSTANCES}/{unplaced.ecs_id}/start").code == REFUSED


def test_a_refusal_tells_status_and_what_is_admitted(customer: Api, cloud: Cloud) -> None:
    answer = customer.refused("PUT", f"{INSTANCES}/{put(cloud, InstanceStatus.RUNNING)}/start")
    assert answer.code == REFUSED
    assert "in status Running, only in Stopped" in answer.message


def test_an_operation_marks_its_instance(customer: Api, cloud: Cloud) -> None:
    ecs_id = put(cloud, InstanceStatus.RUNNING)
    answer = customer.call("PUT", f"{INSTANCES}/{ecs_id}/suspend")
    [task] = cloud.rows(Task)
    [instance] = cloud.rows(Instance)
    assert answer.headers["x-operation-id"] == task.id == instance.task_id
    assert (task.kind, task.resource_id, task.tenant_id) == ("suspend_instance", ecs_id, cloud.tenant.id)
    assert task.args == {"ecsId": ecs_id}
    assert customer.ok("GET", f"{INSTANCES}/{ecs_id}")["taskStatus"] == "Paused"


@SQLITE_ONLY
@pytest.mark.parametrize("grace", [1, 30, -1, 10**6, "1", "", None])
def test_anything_but_zero_is_graceful(customer: Api, cloud: Cloud, grace: object) -> None:
    customer.ok("PUT", f"{INSTANCES}/{put(cloud, InstanceStatus.RUNNING)}/stop", {"gracePeriodSeconds": grace})
    [task] = cloud.rows(Task)
    assert task.args["force"] is False


@pytest.mark.parametrize("grace", ["soon", 1.5])
def test_a_grace_that_is_no_count_of_seconds_is_refused(customer: Api, cloud: Cloud, grace: object) -> None:
    path = f"{INSTANCES}/{put(cloud, InstanceStatus.RUNNING)}/stop"
    answer = customer.refused("PUT", path, {"gracePeriodSeconds": grace})
    assert "gracePeriodSeconds" in answer.message


@pytest.mark.parametrize(
    ("verb", "status", "kind"),
    [
        ("batch-start", InstanceStatus.STOPPED, "start_instance"),
        ("batch-stop", InstanceStatus.RUNNING, "stop_instance"),
        ("batch-restart", InstanceStatus.RUNNING, "restart_instance"),
    ],
)
def test_a_batch_gets_a_task_for_each_instance(
    customer: Api, cloud: Cloud, verb: str, status: InstanceStatus, kind: str
) -> None:
    ecs_ids = [put(cloud, status) for _ in range(3)]
    # The confused spelling and a repeated id make no difference.
    answer = customer.call("PUT", f"{INSTANCES}/{verb}", {"ecslds": [*ecs_ids, ecs_ids[0]], "GracePeriodSeconds": 0})
    assert answer.code == "Success"
    tasks = {task.id: task for task in cloud.rows(Task)}
    # Rows come in any order.
    task_ids = {row.ecs_id: row.task_id for row in cloud.rows(Instance)}
    assert answer.headers["x-operation-id"].split(",") == [task_ids[ecs_id] for ecs_id in ecs_ids]
    assert {task.kind for task in tasks.values()} == {kind}
    assert [tasks[task_ids[ecs_id]].resource_id for ecs_id in ecs_ids] == ecs_ids


def test_a_batch_with_refused_instances_names_them_and_does_nothing(customer: Api, cloud: Cloud) -> None:
    good = put(cloud, InstanceStatus.RUNNING)
    bad = [put(cloud, InstanceStatus.STOPPED), put(cloud, InstanceStatus.PAUSED)]
    answer = customer.refused("PUT", f"{INSTANCES}/batch-restart", {"ecsIds": [good, *bad], **FORCE})
    assert answer.code == REFUSED
    assert all(ecs_id in answer.message for ecs_id in bad)
    assert good not in answer.message
    assert cloud.rows(Task) == []


def test_a_batch_with_unknown_ids_names_them_and_does_nothing(customer: Api, cloud: Cloud) -> None:
    good = put(cloud, InstanceStatus.STOPPED)
    for method, path in (("PUT", "batch-start"), ("DELETE", "batch-delete"), ("POST", "batch-delete")):
        answer = customer.refused(method, f"{INSTANCES}/{path}", {"ecsIds": [good, "ecs-a", "ecs-b"]})
        assert answer.code == "ECS.DBGet.NoData"
        assert "ecs-a, ecs-b" in answer.message
    assert cloud.rows(Task) == []


def test_an_empty_batch_is_refused(customer: Api, cloud: Cloud) -> None:
    assert "ecsIds" in customer.refused("PUT", f"{INSTANCES}/batch-start", {"ecsIds": []}).message
    assert "ecsIds" in customer.refused("PUT", f"{INSTANCES}/batch-start", {}).message


def test_deletion_is_admitted_in_every_status(customer: Api, cloud: Cloud) -> None:
    ecs_ids = [put(cloud, status) for status in InstanceStatus]
    answer = customer.call("DELETE", f"{INSTANCES}/batch-delete", {"ecsIds": ecs_ids})
    assert len(answer.headers["x-operation-id"].split(",")) == len(ecs_ids)
    assert {row.status for row in cloud.rows(Instance)} == {"Terminating"}
