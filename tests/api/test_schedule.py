"""Scheduled tasks over REST: made, changed, shown, and refused."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from coordinator.domain.clock import utc_now
from coordinator.domain.instance import InstanceStatus
from coordinator.store.tables import Instance, Schedule, ScheduleRun, Task
from tests.api.client import Answer, Api
from tests.api.cloud import Cloud
from tests.builders import a_tenant, add, an_instance
from tests.database import BOTH_DATABASES

SCHEDULER = "/api/ecs/v1/scheduler"
INVALID, NO_DATA = "ECS.InvalidParameter", "ECS.DBGet.NoData"
NEVER = 253402271999000


@pytest.fixture
def ecs_id(cloud: Cloud) -> str:
    return put(cloud)


def put(cloud: Cloud, status: InstanceStatus = InstanceStatus.RUNNING, **columns: Any) -> str:
    """An instance on the node in that status."""
    instance = an_instance(cloud.tenant, cloud.flavor, node=cloud.node, status=status, **columns)
    with cloud.runtime.database.write() as session:
        add(session, instance)
    return instance.ecs_id


def an_order(cloud: Cloud, *ecs_ids: str, **fields: Any) -> dict[str, Any]:
    """The body of a call that creates a task; fields of None are left out."""
    body = {
        "schedulerName": "nightly",
        "schedulerType": "restartEcs",
        "schedulerObject": list(ecs_ids),
        "cronExpression": "30 3 * * *",
        "departmentId": cloud.department.id,
        **fields,
    }
    return {name: value for name, value in body.items() if value is not None}


def create(api: Api, cloud: Cloud, *ecs_ids: str, **fields: Any) -> str:
    return str(api.ok("POST", SCHEDULER, an_order(cloud, *ecs_ids, **fields))["records"])


def a_change(*ecs_ids: str, **fields: Any) -> dict[str, Any]:
    return {"schedulerName": "nightly", "schedulerObject": list(ecs_ids), "cronExpression": "30 3 * * *", **fields}


def field_of(answer: Answer) -> str:
    """The field that the message begins with."""
    return answer.message.split(":")[0].split(".")[0]


def milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def set_clock(cloud: Cloud, moment: datetime) -> None:
    cloud.runtime.now = lambda: moment


def test_the_examples_of_the_reference_work(customer: Api, cloud: Cloud, ecs_id: str) -> None:
    set_clock(cloud, datetime(2023, 7, 27, 10, tzinfo=UTC))
    cloud.runtime.settings.schedule_time_zone = "Asia/Shanghai"
    body = {
        "schedulerName": "demo-test",
        "schedulerType": "restartEcs",
        "schedulerObject": [ecs_id],
        # As the page has it.
        "cronExpression": "* / 5 * * * 1",
        "departmentId": cloud.department.id,
        "tenantId": cloud.tenant.id,
    }
    schedule_id = customer.ok("POST", SCHEDULER, body)["records"]
    assert schedule_id.startswith("schd-")
    assert len(schedule_id) == len("schd-") + 14
    change = {
        "schedulerName": "wang-test",
        "enabled": True,
        "schedulerObject": [ecs_id],
        "infectiveAt": 1690704182000,
        "cronExpression": "* /5 * * * 2",
    }
    assert customer.ok("PUT", f"{SCHEDULER}/{schedule_id}", change) is None
    [shown] = customer.ok("GET", f"{SCHEDULER}?pageSize=10&pageIndex=1")["records"]
    expected = {
        "departmentId": cloud.department.id,
        "departmentName": cloud.department.name,
        "resourceGroupId": "",
        "resourceGroupName": "",
        "schedulerId": schedule_id,
        "tenantId": cloud.tenant.id,
        "tenantName": cloud.tenant.name,
        "schedulerName": "wang-test",
        "enabled": True,
        "schedulerType": "restartEcs",
        "schedulerObject": [ecs_id],
        "cronExpression": "*/5 * * * 2",
        "timeZone": "Asia/Shanghai",
        # The next Tuesday comes after the end.
        "executeAt": 0,
        "infectiveAt": 1690704182000,
    }
    assert expected.items() <= shown.items()
    assert customer.ok("DELETE", f"{SCHEDULER}/{schedule_id}") is None
    assert customer.refused("GET", f"{SCHEDULER}/{schedule_id}").code == NO_DATA


def test_the_next_run_is_shown_as_the_reference_has_it(customer: Api, cloud: Cloud, ecs_id: str) -> None:
    set_clock(cloud, datetime(2023, 6, 1, tzinfo=UTC))
    schedule_id = create(customer, cloud, ecs_id, cronExpression="1 1 1 1 1", timeZone="Asia/Shanghai")
    shown = customer.ok("GET", f"{SCHEDULER}/{schedule_id}")
    assert (shown["executeAt"], shown["infectiveAt"]) == (1704042060000, NEVER)


def test_a_task_that_is_not_enabled_has_no_next_run(customer: Api, cloud: Cloud, ecs_id: str) -> None:
    schedule_id = create(customer, cloud, ecs_id, enabled="false")
    path = f"{SCHEDULER}/{schedule_id}"
    assert (customer.ok("GET", path)["enabled"], customer.ok("GET", path)["executeAt"]) == (False, 0)
    customer.ok("PUT", path, a_change(ecs_id, enabled=True))
    assert customer.ok("GET", path)["executeAt"] > milliseconds(utc_now())
    # What a change does not name stays.
    customer.ok("PUT", path, a_change(ecs_id, schedulerName="other"))
    assert (customer.ok("GET", path)["enabled"], customer.ok("GET", path)["schedulerName"]) == (True, "other")
    customer.ok("PUT", path, a_change(ecs_id, enabled=False))
    assert customer.ok("GET", path)["executeAt"] == 0


def test_a_zone_and_an_end_stay_until_they_are_changed(customer: Api, cloud: Cloud, ecs_id: str) -> None:
    end = milliseconds(utc_now() + timedelta(days=400))
    path = f"{SCHEDULER}/{create(customer, cloud, ecs_id, timeZone='Europe/Berlin', infectiveAt=end)}"
    customer.ok("PUT", path, a_change(ecs_id))
    shown = customer.ok("GET", path)
    assert (shown["timeZone"], shown["infectiveAt"]) == ("Europe/Berlin", end)
    customer.ok("PUT", path, a_change(ecs_id, timeZone="UTC", infectiveAt=0))
    shown = customer.ok("GET", path)
    assert (shown["timeZone"], shown["infectiveAt"]) == ("UTC", NEVER)


def test_a_past_end_is_refused_unless_it_is_the_one_that_is_there(customer: Api, cloud: Cloud, ecs_id: str) -> None:
    end = utc_now() + timedelta(hours=1)
    schedule_id = create(customer, cloud, ecs_id, infectiveAt=milliseconds(end))
    set_clock(cloud, end + timedelta(hours=1))
    path = f"{SCHEDULER}/{schedule_id}"
    stored = customer.ok("GET", path)["infectiveAt"]
    customer.ok("PUT", path, a_change(ecs_id, infectiveAt=stored, schedulerName="renamed"))
    answer = customer.refused("PUT", path, a_change(ecs_id, infectiveAt=stored - 1))
    assert (answer.code, "infectiveAt" in answer.message) == (INVALID, True)
    assert customer.refused("POST", SCHEDULER, an_order(cloud, ecs_id, infectiveAt=stored)).code == INVALID


def test_instances_are_also_named_in_one_text(customer: Api, cloud: Cloud) -> None:
    ecs_ids = [put(cloud), put(cloud)]
    text = ", ".join([*ecs_ids, ecs_ids[0]])
    schedule_id = create(customer, cloud, schedulerObject=text)
    assert customer.ok("GET", f"{SCHEDULER}/{schedule_id}")["schedulerObject"] == ecs_ids


@BOTH_DATABASES
def test_lists_are_narrowed_and_paged(customer: Api, operator: Api, stranger: Api, cloud: Cloud, ecs_id: str) -> None:
    ids = [
        create(customer, cloud, ecs_id, schedulerName=name, schedulerType=kind, enabled=enabled)
        for name, kind, enabled in (("a-1", "startEcs", True), ("a-2", "stopEcs", False), ("b", "stopEcs", True))
    ]
    listed = customer.ok("GET", f"{SCHEDULER}?pageSize=2&pageIndex=1")
    assert ([it["schedulerId"] for it in listed["records"]], listed["count"]) == ([ids[2], ids[1]], 3)
    for query, found in (
        ("enabled=true", [ids[0], ids[2]]),
        ("enabled=false", [ids[1]]),
        ("schedulerType=stopEcs", ids[1:]),
        ("schedulerType=STOPECS&enabled=true", ids[2:]),
        (f"schedulerId={ids[0]}", ids[:1]),
        ("schedulerName=A-", ids[:2]),
        ("schedulerName=none", []),
    ):
        shown = operator.ok("GET", f"{SCHEDULER}?{query}&orderBy=createdAt:asc")
        assert [it["schedulerId"] for it in shown["records"]] == found, query
    assert stranger.ok("GET", SCHEDULER) == {"count": 0, "records": []}
    for query in ("enabled=perhaps", "pageSize=0", "pageIndex=-1", "filter=nothing:eq:1"):
        assert operator.refused("GET", f"{SCHEDULER}?{query}").code == INVALID


def test_strangers_see_and_change_nothing(
    customer: Api, stranger: Api, auditor: Api, cloud: Cloud, ecs_id: str
) -> None:
    path = f"{SCHEDULER}/{create(customer, cloud, ecs_id)}"
    calls: list[tuple[str, str, Any]] = [
        ("GET", path, None),
        ("GET", f"{path}/runs", None),
        ("PUT", path, a_change(ecs_id)),
        ("POST", f"{path}/run", None),
        ("DELETE", path, None),
        ("POST", SCHEDULER, an_order(cloud, ecs_id)),
    ]
    for method, called, body in calls:
        assert stranger.refused(method, called, body).code == NO_DATA, called
    named = an_order(cloud, ecs_id, tenantId=cloud.tenant.id)
    assert stranger.refused("POST", SCHEDULER, named).code == "Ecs.InvalidParameter.TenantId.NotFound"
    assert auditor.ok("GET", path)["schedulerName"] == "nightly"
    assert auditor.refused("DELETE", path).code == "ECS.OperationDenied.Identity"
    assert len(cloud.rows(Schedule)) == 1


def test_only_the_tenants_own_instances_are_admitted(customer: Api, operator: Api, cloud: Cloud, ecs_id: str) -> None:
    another_tenant = a_tenant()
    foreign = an_instance(another_tenant, cloud.flavor, node=cloud.node)
    with cloud.runtime.database.write() as session:
        add(session, another_tenant)
        add(session, foreign)
    deleted = put(cloud, deleted_at=utc_now())
    schedule_id = create(customer, cloud, ecs_id)
    for caller in (customer, operator):
        for wrong in (foreign.ecs_id, deleted, "ecs-nowhere"):
            answer = caller.refused("POST", SCHEDULER, an_order(cloud, ecs_id, wrong))
            assert (answer.code, wrong in answer.message, ecs_id in answer.message) == (NO_DATA, True, False)
            assert caller.refused("PUT", f"{SCHEDULER}/{schedule_id}", a_change(wrong)).code == NO_DATA


def test_a_task_of_a_deleted_instance_is_changed_all_the_same(customer: Api, cloud: Cloud, ecs_id: str) -> None:
    path = f"{SCHEDULER}/{create(customer, cloud, ecs_id)}"
    [instance] = cloud.rows(Instance)
    cloud.change(instance, deleted_at=utc_now())
    customer.ok("PUT", path, a_change(ecs_id, enabled=False))
    assert customer.ok("GET", path)["enabled"] is False
    assert customer.refused("PUT", path, a_change(ecs_id, "ecs-absent")).code == NO_DATA


def test_a_task_stays_with_its_tenant(operator: Api, cloud: Cloud, ecs_id: str) -> None:
    path = f"{SCHEDULER}/{create(operator, cloud, ecs_id)}"
    assert operator.ok("GET", path)["tenantId"] == cloud.tenant.id
    operator.ok("PUT", path, a_change(ecs_id, tenantId=cloud.tenant.id))
    answer = operator.refused("PUT", path, a_change(ecs_id, tenantId="1"))
    assert "tenantId" in answer.message


def test_a_tenant_has_so_many_tasks(customer: Api, cloud: Cloud, ecs_id: str) -> None:
    cloud.runtime.settings.schedules_per_tenant = 1
    create(customer, cloud, ecs_id)
    refused = customer.refused("POST", SCHEDULER, an_order(cloud, ecs_id))
    assert refused.code == "ECS.OperationDenied.QuotaExceeded"


BAD: list[tuple[dict[str, Any], str]] = [
    ({"schedulerName": None}, "schedulerName"),
    ({"schedulerName": ""}, "schedulerName"),
    ({"schedulerName": "x" * 128}, "schedulerName"),
    ({"schedulerName": "a\nb"}, "schedulerName"),
    ({"schedulerObject": None}, "schedulerObject"),
    ({"schedulerObject": []}, "schedulerObject"),
    ({"schedulerObject": [f"ecs-{number}" for number in range(101)]}, "schedulerObject"),
    ({"schedulerObject": {"a": 1}}, "schedulerObject"),
    ({"cronExpression": None}, "cronExpression"),
    ({"cronExpression": ""}, "cronExpression"),
    ({"cronExpression": "* * * * * *"}, "cronExpression"),
    ({"cronExpression": "61 * * * *"}, "cronExpression"),
    ({"cronExpression": "0 0 30 2 *"}, "cronExpression"),
    ({"cronExpression": "0," * 200 + "0 * * * *"}, "cronExpression"),
    ({"infectiveAt": -1}, "infectiveAt"),
    ({"infectiveAt": 1690704182000}, "infectiveAt"),
    ({"infectiveAt": NEVER + 1}, "infectiveAt"),
    ({"infectiveAt": "tomorrow"}, "infectiveAt"),
    ({"timeZone": "Mars/Olympus"}, "timeZone"),
    ({"timeZone": "../../etc/localtime"}, "timeZone"),
    ({"enabled": "perhaps"}, "enabled"),
]
BAD_CREATIONS: list[tuple[dict[str, Any], str]] = [
    ({"departmentId": None}, "departmentId"),
    ({"schedulerType": None}, "schedulerType"),
    ({"schedulerType": "explodeEcs"}, "schedulerType"),
    ({"startNow": "perhaps"}, "startNow"),
]


def test_bad_tasks_are_refused(customer: Api, cloud: Cloud, ecs_id: str) -> None:
    for fields, field in [*BAD, *BAD_CREATIONS]:
        answer = customer.refused("POST", SCHEDULER, an_order(cloud, **{"schedulerObject": [ecs_id], **fields}))
        assert (answer.code, field_of(answer)) == (INVALID, field), fields
    assert cloud.rows(Schedule) == []


def test_bad_changes_are_refused(customer: Api, cloud: Cloud, ecs_id: str) -> None:
    path = f"{SCHEDULER}/{create(customer, cloud, ecs_id)}"
    before = customer.ok("GET", path)
    for fields, field in BAD:
        answer = customer.refused("PUT", path, {**a_change(ecs_id), **fields})
        assert (answer.code, field_of(answer)) == (INVALID, field), fields
    assert customer.ok("GET", path) == before


def test_unknown_departments_and_groups_are_refused(customer: Api, cloud: Cloud, ecs_id: str) -> None:
    for fields in ({"departmentId": "1"}, {"resourceGroupId": "1"}):
        assert customer.refused("POST", SCHEDULER, an_order(cloud, ecs_id, **fields)).code == NO_DATA


@BOTH_DATABASES
def test_a_task_that_starts_now_is_run_once_at_once(customer: Api, cloud: Cloud) -> None:
    running, stopped = put(cloud), put(cloud, InstanceStatus.STOPPED)
    order = an_order(cloud, running, stopped, startNow=True, enabled=False)
    answer = customer.call("POST", SCHEDULER, order)
    [task] = cloud.rows(Task)
    assert (task.kind, task.resource_id, task.args["force"]) == ("restart_instance", running, False)
    assert answer.headers["x-operation-id"] == task.id
    [run] = customer.ok("GET", f"{SCHEDULER}/{answer.data['records']}/runs")["records"]
    assert (run["state"], run["trigger"]) == ("PartlyStarted", "request")
    assert run["results"][0] == {
        "ecsId": running,
        "operationId": task.id,
        "operationState": "Pending",
        "code": "",
        "message": "",
    }
    refused = run["results"][1]
    assert (refused["ecsId"], refused["operationId"]) == (stopped, "")
    assert refused["code"] == "ECS.InvalidParameter.Status.NotSupported"
    assert "in status Stopped" in refused["message"]
    chinese = customer.speaking("zh").ok("GET", f"{SCHEDULER}/{answer.data['records']}/runs")["records"][0]
    assert "Stopped" in chinese["results"][1]["message"]
    assert "in status" not in chinese["results"][1]["message"]


def test_a_task_is_run_by_hand_beside_its_times(customer: Api, cloud: Cloud, ecs_id: str) -> None:
    path = f"{SCHEDULER}/{create(customer, cloud, ecs_id)}"
    before = customer.ok("GET", path)["executeAt"]
    answer = customer.call("POST", f"{path}/run")
    assert (answer.data["state"], answer.data["results"][0]["operationState"]) == ("Started", "Pending")
    assert answer.headers["x-operation-id"] == cloud.rows(Instance)[0].task_id
    assert customer.ok("GET", path)["executeAt"] == before


def test_a_deleted_task_takes_its_history_along(customer: Api, cloud: Cloud, ecs_id: str) -> None:
    path = f"{SCHEDULER}/{create(customer, cloud, ecs_id, startNow=True)}"
    customer.ok("DELETE", path)
    assert (cloud.rows(Schedule), cloud.rows(ScheduleRun)) == ([], [])
    assert len(cloud.rows(Task)) == 1
    for method in ("GET", "DELETE"):
        assert customer.refused(method, path).code == NO_DATA
    assert customer.refused("GET", f"{path}/runs").code == NO_DATA


def test_who_owns_tasks_is_not_deleted(customer: Api, operator: Api, cloud: Cloud, ecs_id: str) -> None:
    create(customer, cloud, ecs_id)
    [instance] = cloud.rows(Instance)
    cloud.change(instance, deleted_at=utc_now())
    answer = operator.refused("DELETE", f"/api/iam/v1/tenants/{cloud.tenant.id}")
    assert "scheduled task" in answer.message
    assert (
        operator.refused("DELETE", f"/api/iam/v1/departments/{cloud.department.id}").code == "ECS.OperationDenied.InUse"
    )
