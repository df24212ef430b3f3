"""How many vCPUs a host CPU stands for."""

from typing import Any

import pytest

from coordinator.config import Settings
from coordinator.runtime import Runtime
from coordinator.store.tables import Inventory, Node
from tests.api.client import Api
from tests.api.cloud import INSTANCES, Cloud
from tests.api.order import make_flavor_type
from tests.builders import a_node, add, an_inventory
from tests.database import BOTH_DATABASES, SQLITE_ONLY

OVERCOMMIT = "/api/ecs/v1/global-config/cpu"


def ratios_of(cloud: Cloud) -> dict[str, float]:
    """Present ratio of each node, by its name."""
    names = {node.id: node.name for node in cloud.rows(Node)}
    return {names[row.node_id]: row.allocation_ratio for row in cloud.rows(Inventory) if row.resource_class == "VCPU"}


def config(region: Any, **zones: Any) -> dict[str, Any]:
    return {"globalCpuOR": region, "azCpuConfigs": [{"az": zone, "azCpuOR": ratio} for zone, ratio in zones.items()]}


@BOTH_DATABASES
def test_at_first_the_configuration_counts(operator: Api, runtime: Runtime) -> None:
    assert operator.ok("GET", OVERCOMMIT) == {"globalCpuOR": 1, "azCpuConfigs": []}
    runtime.settings = Settings(**{**runtime.settings.model_dump(), "cpu_allocation_ratio": 1.5})
    assert operator.ok("GET", OVERCOMMIT)["globalCpuOR"] == 1.5


def test_what_is_set_is_told_and_replaces_what_was(operator: Api) -> None:
    for wanted in (config(6, AZ0=1, AZ1=3), config(2, AZ1=4), config(3)):
        assert operator.ok("POST", OVERCOMMIT, wanted) is None
        assert operator.ok("GET", OVERCOMMIT) == wanted
    operator.ok("POST", OVERCOMMIT, {"globalCpuOR": "4", "azCpuConfigs": None})
    assert operator.ok("GET", OVERCOMMIT) == config(4)


def test_a_zones_ratio_beats_the_regions_on_every_node(operator: Api, cloud: Cloud) -> None:
    other = a_node("node-b", zone="AZ1")
    with cloud.runtime.database.write() as session:
        add(session, other, *an_inventory(other))
    operator.ok("POST", OVERCOMMIT, config(4, AZ1=2))
    assert ratios_of(cloud) == {"node-a": 4.0, "node-b": 2.0}
    operator.ok("POST", OVERCOMMIT, config(3))
    assert ratios_of(cloud) == {"node-a": 3.0, "node-b": 3.0}
    assert {row.allocation_ratio for row in cloud.rows(Inventory) if row.resource_class != "VCPU"} == {1.0}


@BOTH_DATABASES
def test_placement_follows_at_once_and_a_lower_ratio_breaks_nothing(operator: Api, cloud: Cloud) -> None:
    order = cloud.order(cpus=10, flavorId=cloud.custom_flavor.flavor_id)
    assert operator.ok("POST", INSTANCES, order)["status"] == "Provisioning"
    refused = operator.ok("POST", INSTANCES, order)
    assert refused["errMessage"].endswith("(wanted 10 vCPUs, at most 6 vCPUs free)")
    operator.ok("POST", OVERCOMMIT, config(2))
    placed = operator.ok("POST", INSTANCES, order)
    assert (placed["status"], placed["cpuExceedRatio"]) == ("Provisioning", 2.0)
    operator.ok("POST", OVERCOMMIT, config(1))
    refused = operator.ok("POST", INSTANCES, order)
    assert refused["errMessage"].endswith("(wanted 10 vCPUs, at most 0 vCPUs free)")
    assert operator.ok("GET", f"{INSTANCES}/{placed['ecsId']}")["nodeName"] == cloud.node.name
    assert operator.ok("GET", f"{INSTANCES}?cpuExceedRatio=1")["totalCount"] == 4
    assert operator.ok("GET", f"{INSTANCES}?cpuExceedRatio=2")["totalCount"] == 0


def test_new_flavor_types_have_the_regions_ratio(operator: Api) -> None:
    operator.ok("POST", OVERCOMMIT, config(3))
    assert make_flavor_type(operator)["cpuOverscalingRatio"] == 3


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"azCpuConfigs": []}, "globalCpuOR"),
        (config(0), "globalCpuOR"),
        (config(7), "globalCpuOR"),
        (config(1.5), "globalCpuOR"),
        (config(2, AZ0=7), "azCpuConfigs.0.azCpuOR"),
        (config(2, AZ0=1, AZ9=2), "azCpuConfigs.1.az"),
        ({"globalCpuOR": 2, "azCpuConfigs": [{"azCpuOR": 2}]}, "azCpuConfigs.0.az"),
        ({"globalCpuOR": 2, "azCpuConfigs": [{"az": "AZ0", "azCpuOR": 2}] * 2}, "azCpuConfigs.1.az"),
    ],
)
def test_what_cannot_be_is_named_and_changes_nothing(operator: Api, body: dict[str, Any], named: str) -> None:
    answer = operator.refused("POST", OVERCOMMIT, body)
    assert (answer.code, answer.message.split(":")[0]) == ("ECS.InvalidParameter", named)
    assert operator.ok("GET", OVERCOMMIT) == config(1)


def test_only_operators_change_it(auditor: Api, customer: Api) -> None:
    assert auditor.refused("POST", OVERCOMMIT, config(2)).code == "ECS.OperationDenied.Identity"
    assert customer.refused("GET", OVERCOMMIT).code == "ECS.OperationDenied.Identity"
    auditor.ok("GET", OVERCOMMIT)
