"""Snapshot policies on the command line."""

import pytest

from tests.unit.nwctl.builders import DEPARTMENT_ID, INSTANCE_ID, TENANT_ID
from tests.unit.nwctl.conftest import Nwctl
from tests.unit.nwctl.standin import StandIn

POLICY = "/api/ecs/v1/policy"
POLICY_ID = "ecs.policy-" + "a" * 16
ROW = {"policyId": POLICY_ID, "policyName": "nightly", "status": "enabled", "hourOfDay": "2", "weekDays": "1,4"}


@pytest.fixture
def cloud(coordinator: StandIn) -> StandIn:
    """A coordinator with one policy, and a tenant that asks."""
    whoami = {"role": "tenant", "tenantId": TENANT_ID, "departmentId": DEPARTMENT_ID}
    coordinator.on("GET", "/api/iam/v1/whoami", whoami)
    coordinator.on("GET", POLICY, {"snapshotPolicies": [ROW], "totalCount": 1})
    return coordinator


def test_a_policy_is_made_of_names_of_days_and_a_duration(cloud: StandIn, nwctl: Nwctl) -> None:
    cloud.on("POST", POLICY, None)
    options = ("--name", "nightly", "--hours", "2,14")
    assert nwctl("snapshot-policy", "create", *options).exit_code == 0
    more = ("--days", "mon,Thursday", "--keep", "14d", "--zone", "Europe/Berlin")
    assert nwctl("snapshot-policy", "create", *options, *more).exit_code == 0
    plain, full = (request.body for request in cloud.asked("POST", POLICY))
    same = {"policyName": "nightly", "hourOfDay": "2,14", "tenantId": TENANT_ID, "departmentId": DEPARTMENT_ID}
    assert plain == {**same, "weekDays": "1,2,3,4,5,6,7", "expire": 0}
    assert full == {**same, "weekDays": "1,4", "expire": 20160, "timeZone": "Europe/Berlin"}
    assert nwctl("snapshot-policy", "create", *options, "--days", "someday").exit_code == 2


def test_it_is_bound_paused_and_deleted_by_its_name(cloud: StandIn, nwctl: Nwctl) -> None:
    for verb in ("bind", "unbind", "pause", "resume"):
        cloud.on("POST", f"{POLICY}/{POLICY_ID}/{verb}", None)
    cloud.on("DELETE", f"{POLICY}/{POLICY_ID}", None)
    for verb in ("bind", "unbind"):
        assert nwctl("snapshot-policy", verb, "nightly", INSTANCE_ID).exit_code == 0
        assert [it.body for it in cloud.asked("POST", f"{POLICY}/{POLICY_ID}/{verb}")] == [{"ecsId": INSTANCE_ID}]
    for verb in ("pause", "resume", "delete", "show"):
        assert nwctl("snapshot-policy", verb, "nightly").exit_code == 0
