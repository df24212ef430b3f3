"""Deployment sets on the command line."""

import pytest

from tests.unit.nwctl.builders import DEPARTMENT_ID, TENANT_ID
from tests.unit.nwctl.conftest import Nwctl, data_of
from tests.unit.nwctl.standin import StandIn

SETS = "/api/ecs/v1/deployment-sets"
SET_ID = "d-set-" + "a" * 14
SET = {"deploymentSetId": SET_ID, "name": "apart", "rackPolicy": "anti-affinity", "ecsCount": 2}


@pytest.fixture
def cloud(coordinator: StandIn) -> StandIn:
    """A coordinator with one set, and a tenant that asks."""
    whoami = {"role": "tenant", "tenantId": TENANT_ID, "departmentId": DEPARTMENT_ID}
    coordinator.on("GET", "/api/iam/v1/whoami", whoami)
    coordinator.on("GET", SETS, {"list": [SET], "total": 1})
    return coordinator


def test_a_set_is_created_for_who_asks(cloud: StandIn, nwctl: Nwctl) -> None:
    cloud.on("POST", SETS, SET)
    made = nwctl(
        "deployment-set", "create", "--name", "apart", "--rack", "anti-affinity", "--host", "soft-affinity", "--json"
    )
    assert data_of(made) == SET
    [request] = cloud.asked("POST", SETS)
    assert request.body == {
        "name": "apart",
        "tenantId": TENANT_ID,
        "departmentId": DEPARTMENT_ID,
        "resourceGroupId": "",
        "hostPolicy": "soft-affinity",
        "rackPolicy": "anti-affinity",
        "switchPolicy": "",
        "netSwitchPolicy": "",
    }
    assert nwctl("deployment-set", "create", "--name", "x", "--rack", "apart").exit_code == 2


def test_a_set_is_shown_and_deleted_by_name(cloud: StandIn, nwctl: Nwctl) -> None:
    assert SET_ID in nwctl("deployment-set", "show", "apart").stdout
    cloud.on("DELETE", f"{SETS}/{SET_ID}")
    assert nwctl("deployment-set", "delete", "apart").exit_code == 0
    assert len(cloud.asked("DELETE", f"{SETS}/{SET_ID}")) == 1
