"""Operations as callers follow them."""

from typing import Any

import pytest

from coordinator.domain.task import StepPhase, StepState, TaskState
from coordinator.runtime import Runtime
from coordinator.store.tables import Task, TaskStep, Tenant
from tests.api.client import Api
from tests.builders import a_flavor, a_flavor_type, add, an_instance
from tests.database import BOTH_DATABASES

OPERATIONS = "/api/ecs/v1/operations"


def a_stored_task(runtime: Runtime, tenant: Tenant | None, number: int = 1, **columns: Any) -> str:
    task = Task(
        **{
            "id": f"op-{number:020d}",
            "kind": "fetch_image",
            "tenant_id": tenant.id if tenant else None,
            "resource_id": "img-1",
            **columns,
        }
    )
    with runtime.database.write() as session:
        session.add(task)
        session.flush()
        session.add(TaskStep(task_id=task.id, seq=0, name="fetch"))
    return task.id


def test_an_operation_is_told_with_its_steps(customer: Api, runtime: Runtime, tenant: Tenant) -> None:
    now = runtime.now()
    operation_id = a_stored_task(
        runtime,
        tenant,
        state=TaskState.FAILED,
        progress_percent=40,
        message="fetching",
        error_code="ECS.GetImage.Fail",
        error_message="url: too many redirects",
        finished_at=now,
    )
    with runtime.database.write() as session:
        step = session.get_one(TaskStep, (operation_id, 0))
        step.state, step.phase, step.started_at, step.error = StepState.FAILED, StepPhase.DO, now, "too many redirects"
        session.add(step)
    told = customer.ok("GET", f"{OPERATIONS}/{operation_id}")
    moment = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert told == {
        "operationId": operation_id,
        "kind": "fetch_image",
        "state": "Failed",
        "resourceId": "img-1",
        "progress": 40,
        "message": "fetching",
        "error": {"code": "ECS.GetImage.Fail", "message": "url: too many redirects"},
        "steps": [
            {
                "name": "fetch",
                "phase": "do",
                "state": "failed",
                "startedAt": moment,
                "finishedAt": "0001-01-01T00:00:00Z",
                "error": "too many redirects",
            }
        ],
        "createdAt": told["createdAt"],
        "updatedAt": told["updatedAt"],
        "finishedAt": moment,
        "cancelable": False,
    }
    assert customer.ok("GET", OPERATIONS) == {"operations": [told], "totalCount": 1}


def test_tenants_see_and_stop_only_their_own(
    customer: Api, stranger: Api, operator: Api, runtime: Runtime, tenant: Tenant
) -> None:
    own = a_stored_task(runtime, tenant, 1)
    clouds = a_stored_task(runtime, None, 2)
    assert operator.ok("GET", OPERATIONS)["totalCount"] == 2
    assert customer.ok("GET", OPERATIONS)["totalCount"] == 1
    assert stranger.ok("GET", OPERATIONS)["totalCount"] == 0
    for api, operation_id in ((stranger, own), (customer, clouds), (customer, "op-nothing")):
        for method in ("GET", "DELETE"):
            assert api.refused(method, f"{OPERATIONS}/{operation_id}").code == "ECS.DBGet.NoData"


def test_cancelling_asks_once_and_may_be_asked_again(customer: Api, runtime: Runtime, tenant: Tenant) -> None:
    woken = []
    runtime.wake_tasks = lambda: woken.append(True)
    path = f"{OPERATIONS}/{a_stored_task(runtime, tenant)}"
    assert customer.ok("GET", path)["cancelable"]
    told = customer.ok("DELETE", path)
    assert (told["state"], told["cancelable"]) == ("Canceling", False)
    assert customer.ok("DELETE", path)["state"] == "Canceling"
    assert woken


def test_the_operation_of_a_locked_instance_goes_on(customer: Api, runtime: Runtime, tenant: Tenant) -> None:
    kind = a_flavor_type()
    flavor = a_flavor(kind)
    instance = an_instance(tenant, flavor, is_locked=True)
    with runtime.database.write() as session:
        add(session, kind, flavor, instance)
    path = f"{OPERATIONS}/{a_stored_task(runtime, tenant, kind='create_instance', resource_id=instance.ecs_id)}"
    answer = customer.refused("DELETE", path)
    assert (answer.code, instance.ecs_id in answer.message) == ("ECS.OperationDenied.Identity", True)
    assert customer.ok("GET", path)["state"] == "Pending"


@pytest.mark.parametrize("state", [TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELED])
def test_what_has_ended_cannot_be_cancelled(customer: Api, runtime: Runtime, tenant: Tenant, state: TaskState) -> None:
    operation_id = a_stored_task(runtime, tenant, state=state, finished_at=runtime.now())
    answer = customer.refused("DELETE", f"{OPERATIONS}/{operation_id}")
    assert answer.code == "ECS.InvalidParameter.Status.NotSupported"
    assert operation_id in answer.message


def test_past_the_point_of_no_return_it_is_too_late(customer: Api, runtime: Runtime, tenant: Tenant) -> None:
    operation_id = a_stored_task(runtime, tenant, kind="delete_volume", state=TaskState.RUNNING)
    with runtime.database.write() as session:
        step = session.get_one(TaskStep, (operation_id, 0))
        step.state, step.started_at = StepState.RUNNING, runtime.now()
        session.add(step)
    answer = customer.refused("DELETE", f"{OPERATIONS}/{operation_id}")
    assert answer.code == "ECS.InvalidParameter.Status.NotSupported"


def test_an_operation_of_another_version_is_shown(operator: Api, runtime: Runtime) -> None:
    operation_id = a_stored_task(runtime, None, kind="teleport_instance")
    assert not operator.ok("GET", f"{OPERATIONS}/{operation_id}")["cancelable"]
    operator.refused("DELETE", f"{OPERATIONS}/{operation_id}")


@BOTH_DATABASES
def test_operations_are_filtered(customer: Api, runtime: Runtime, tenant: Tenant) -> None:
    a_stored_task(runtime, tenant, 1, state=TaskState.RUNNING)
    a_stored_task(runtime, tenant, 2, resource_id="img-2")
    for condition, expected in (("state:eq:running", 1), ("resourceId:eq:img-2", 1), ("kind:lk:FETCH", 2)):
        assert customer.ok("GET", f"{OPERATIONS}?filter={condition}")["totalCount"] == expected
