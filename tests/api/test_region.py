"""Region, zones and what is offered there."""

import pytest

from coordinator.runtime import Runtime
from coordinator.store.tables import Tenant
from tests.api.client import Api
from tests.api.conftest import a_stored_tenant
from tests.builders import a_department, a_node, add

ATTRIBUTES = "/api/ecs/v1/instances/get-service-attrs"
REGIONS = "/api/ecs/v1/service-region-info"


def test_zones_are_the_configured_ones_and_those_of_nodes(customer: Api, runtime: Runtime) -> None:
    with runtime.database.write() as session:
        add(session, a_node("a", zone="AZ1"), a_node("b", zone="AZ7"), a_node("c", zone=""))
    (region,) = customer.ok("GET", "/api/ecs/v1/zones")["zones"]
    assert region == {"name": "region0", "members": [{"name": "AZ0"}, {"name": "AZ1"}, {"name": "AZ7"}]}


def test_service_attributes_speak_the_callers_language(customer: Api, tenant: Tenant) -> None:
    attributes = customer.speaking("zh").ok("GET", f"{ATTRIBUTES}?tenantId={tenant.id}")
    assert attributes == {
        "serviceOpenable": True,
        "departmentRequired": True,
        "resourceGroupRequired": False,
        "billingMode": {
            "labelName": "计费模式",
            "labelVisible": True,
            "defaultMode": "OnDemand",
            "displayModes": [{"value": "ByCycle", "name": "包年包月"}, {"value": "OnDemand", "name": "按需计费"}],
        },
    }
    assert customer.ok("GET", ATTRIBUTES)["billingMode"]["labelName"] == "Billing mode"


def test_the_region_of_a_tenant(customer: Api, operator: Api, runtime: Runtime, tenant: Tenant) -> None:
    department = a_department(tenant)
    with runtime.database.write() as session:
        add(session, department)
    zones = [{"azId": name, "azDisplayName": name} for name in ("AZ0", "AZ1")]
    expected = [{"regionId": "region0", "regionDisplayName": "region0", "azList": zones}]
    body = {"tenantId": tenant.id, "departmentId": department.id}
    assert customer.ok("POST", REGIONS, body) == expected
    assert operator.ok("POST", REGIONS, body) == expected


@pytest.mark.parametrize("tenant_id", ["1", "x" * 32, "4821073956120384751"])
def test_a_tenant_that_does_not_exist(operator: Api, tenant_id: str) -> None:
    assert operator.refused("POST", REGIONS, {"tenantId": tenant_id}).code == "Ecs.InvalidParameter.TenantId.NotFound"
    answer = operator.refused("GET", f"{ATTRIBUTES}?tenantId={tenant_id}")
    assert answer.code == "Ecs.InvalidParameter.TenantId.NotFound"


def test_another_tenant_does_not_exist_for_a_tenant(stranger: Api, tenant: Tenant) -> None:
    answer = stranger.refused("POST", REGIONS, {"tenantId": tenant.id})
    assert answer.code == "Ecs.InvalidParameter.TenantId.NotFound"


@pytest.mark.parametrize("body", [{}, {"tenantId": ""}, {"tenantId": "x" * 33}])
def test_a_tenant_id_that_is_none(operator: Api, body: dict[str, str]) -> None:
    answer = operator.refused("POST", REGIONS, body)
    assert answer.code == "ECS.InvalidParameter.TenantId.ValueNotSupported"
    assert "tenantId" in answer.message


def test_a_department_that_does_not_exist(operator: Api, tenant: Tenant) -> None:
    body = {"tenantId": tenant.id, "departmentId": "1"}
    assert operator.refused("POST", REGIONS, body).code == "ECS.DBGet.NoData"


def test_a_department_of_another_tenant(operator: Api, runtime: Runtime, tenant: Tenant) -> None:
    department = a_department(a_stored_tenant(runtime))
    with runtime.database.write() as session:
        add(session, department)
    body = {"tenantId": tenant.id, "departmentId": department.id}
    assert operator.refused("POST", REGIONS, body).code == "ECS.DBGet.NoData"
    query = f"tenantId={tenant.id}&departmentId={department.id}"
    assert operator.refused("GET", f"{ATTRIBUTES}?{query}").code == "ECS.DBGet.NoData"
