"""For how long a node may be silent."""

from typing import Any

import pytest

from coordinator.runtime import Runtime
from coordinator.services.ha_config import read_told_tolerance
from tests.api.client import Api
from tests.database import BOTH_DATABASES, SQLITE_ONLY

HA = "/api/ecs/v1/instances/global-ha-config"


def test_two_minutes_unless_somebody_sets_another_time(operator: Api) -> None:
    assert operator.ok("GET", HA) == {"toleranceTime": 120}
    for seconds in (30, 60, 300, 600, 120):
        assert operator.ok("PUT", HA, {"toleranceTime": seconds}) is None
        assert operator.ok("GET", HA) == {"toleranceTime": seconds}


@SQLITE_ONLY
@pytest.mark.parametrize("body", [{}, {"toleranceTime": 0}, {"toleranceTime": 61}, {"toleranceTime": "soon"}])
def test_other_times_are_refused(operator: Api, body: dict[str, Any]) -> None:
    answer = operator.refused("PUT", HA, body)
    assert (answer.code, answer.message.split(":")[0]) == ("ECS.InvalidParameter", "toleranceTime")
    assert operator.ok("GET", HA) == {"toleranceTime": 120}


def test_numbers_may_come_as_texts(operator: Api) -> None:
    operator.ok("PUT", HA, {"toleranceTime": "60"})
    assert operator.ok("GET", HA) == {"toleranceTime": 60}


def test_only_operators_change_it(auditor: Api, customer: Api) -> None:
    assert auditor.ok("GET", HA) == {"toleranceTime": 120}
    assert auditor.refused("PUT", HA, {"toleranceTime": 60}).code == "ECS.OperationDenied.Identity"
    assert customer.refused("GET", HA).code == "ECS.OperationDenied.Identity"


@BOTH_DATABASES
def test_nodes_are_told_of_it_only_where_their_own_fence_counts(operator: Api, runtime: Runtime) -> None:
    operator.ok("PUT", HA, {"toleranceTime": 60})
    with runtime.database.read() as session:
        assert read_told_tolerance(session, runtime.settings) == 60
        bmc_only = runtime.settings.model_copy(update={"fences": ["redfish", "ipmi"]})
        assert read_told_tolerance(session, bmc_only) == 0
