"""Scheduled tasks on the command line."""

from datetime import datetime

import pytest

from tests.unit.nwctl.builders import DEPARTMENT_ID, INSTANCE_ID, TENANT_ID
from tests.unit.nwctl.conftest import Nwctl, data_of
from tests.unit.nwctl.standin import StandIn

SCHEDULER = "/api/ecs/v1/scheduler"
TASK_ID = "schd-" + "a" * 14
TASK = {
    "schedulerId": TASK_ID,
    "schedulerName": "nightly",
    "schedulerType": "restartEcs",
    "schedulerObject": [INSTANCE_ID],
    "cronExpression": "30 3 * * *",
    "enabled": True,
    "executeAt": 1704042060000,
    "infectiveAt": 253402271999000,
}
SAME = {name: TASK[name] for name in ("schedulerName", "schedulerObject", "cronExpression")}
PATH = f"{SCHEDULER}/{TASK_ID}"


@pytest.fixture
def cloud(coordinator: StandIn) -> StandIn:
    """A coordinator with one task, and a tenant that asks."""
    whoami = {"role": "tenant", "tenantId": TENANT_ID, "departmentId": DEPARTMENT_ID}
    coordinator.on("GET", "/api/iam/v1/whoami", whoami)
    coordinator.on("GET", SCHEDULER, {"records": [TASK], "count": 1})
    return coordinator


def test_a_task_is_created_for_who_asks(cloud: StandIn, nwctl: Nwctl) -> None:
    cloud.on("POST", SCHEDULER, {"records": TASK_ID})
    options = ("--name", "nightly", "--action", "restart", "--cron", "30 3 * * *")
    assert data_of(nwctl("schedule", "create", INSTANCE_ID, *options, "--json")) == {"records": TASK_ID}
    more = ("--zone", "Europe/Berlin", "--until", "2027-01-31T18:00+01:00", "--disabled", "--now")
    nwctl("schedule", "create", INSTANCE_ID, *options, *more)
    plain, full = cloud.asked("POST", SCHEDULER)
    expected = {
        **SAME,
        "schedulerType": "restartEcs",
        "infectiveAt": 0,
        "enabled": True,
        "startNow": False,
        "tenantId": TENANT_ID,
        "departmentId": DEPARTMENT_ID,
    }
    assert plain.body == expected
    end = round(datetime.fromisoformat("2027-01-31T18:00+01:00").timestamp() * 1000)
    changed = {"timeZone": "Europe/Berlin", "infectiveAt": end, "enabled": False, "startNow": True}
    assert full.body == expected | changed


@pytest.mark.parametrize(
    "wrong",
    [("--action", "explode"), ("--until", "soon"), ("--until", "99999-01-01")],
)
def test_what_makes_no_sense_is_a_usage_error(cloud: StandIn, nwctl: Nwctl, wrong: tuple[str, str]) -> None:
    options = {"--name": "nightly", "--action": "stop", "--cron": "* * * * *", wrong[0]: wrong[1]}
    arguments = [part for option in options.items() for part in option]
    assert nwctl("schedule", "create", INSTANCE_ID, *arguments).exit_code == 2
    assert cloud.asked("POST", SCHEDULER) == []


def test_a_task_is_shown_with_its_next_run(cloud: StandIn, nwctl: Nwctl) -> None:
    shown = nwctl("schedule", "show", "nightly").stdout
    assert datetime.fromtimestamp(1704042060).strftime("%Y-%m-%d %H:%M:%S") in shown
    assert "9999" not in shown


def test_a_change_sends_what_stays_as_well(cloud: StandIn, nwctl: Nwctl) -> None:
    cloud.on("PUT", PATH)
    nwctl("schedule", "disable", "nightly")
    nwctl("schedule", "enable", TASK_ID)
    nwctl("schedule", "set", "nightly", "--cron", "0 4 * * *", "--until", "never")
    bodies = [request.body for request in cloud.asked("PUT", PATH)]
    assert bodies == [
        {**SAME, "enabled": False},
        {**SAME, "enabled": True},
        {**SAME, "cronExpression": "0 4 * * *", "infectiveAt": 0},
    ]
    assert nwctl("schedule", "set", "nightly").exit_code == 2


def test_runs_are_listed_by_instance(cloud: StandIn, nwctl: Nwctl) -> None:
    started = {"ecsId": INSTANCE_ID, "operationId": "op-1", "operationState": "Succeeded", "code": "", "message": ""}
    refused = {"ecsId": "ecs-other", "operationId": "", "operationState": "", "code": "X", "message": "it is locked"}
    runs = [
        {"state": "PartlyStarted", "trigger": "schedule", "message": "", "results": [started, refused]},
        {"state": "Missed", "trigger": "schedule", "message": "no coordinator ran", "results": []},
    ]
    cloud.on("GET", f"{PATH}/runs", {"records": runs, "count": 2})
    shown = nwctl("schedule", "runs", "nightly", "--limit", "5").stdout
    assert len(shown.splitlines()) == 4
    for part in ("op-1", "it is locked", "Missed", "no coordinator ran"):
        assert part in shown
    assert cloud.requests[-1].query == {"pageSize": "5"}


def test_a_task_is_run_and_deleted(cloud: StandIn, nwctl: Nwctl) -> None:
    result = {"ecsId": INSTANCE_ID, "code": "", "message": ""}
    cloud.on("POST", f"{PATH}/run", {"results": [result]}, {"results": [result | {"code": "X", "message": "locked"}]})
    assert nwctl("schedule", "run", "nightly").exit_code == 0
    failed = nwctl("schedule", "run", "nightly")
    assert (failed.exit_code, "locked" in failed.stderr) == (6, True)
    cloud.on("DELETE", PATH)
    assert nwctl("schedule", "delete", "nightly").exit_code == 0
