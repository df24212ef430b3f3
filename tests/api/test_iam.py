"""Tokens, tenants, departments and resource groups over REST."""

from datetime import timedelta
from typing import Any

import pytest

from coordinator.domain.backup import BackupStatus
from coordinator.domain.clock import utc_now
from coordinator.runtime import Runtime
from coordinator.store.tables import Instance, Tenant, Volume, VolumeBackup
from tests.api.client import Api
from tests.builders import a_flavor, a_flavor_type, a_volume, add, an_image, an_instance
from tests.database import BOTH_DATABASES, SQLITE_ONLY

TOKENS = "/api/iam/v1/tokens"
TENANTS = "/api/iam/v1/tenants"
DEPARTMENTS = "/api/iam/v1/departments"
GROUPS = "/api/iam/v1/resource-groups"
AUTH_FAIL = "ECS.OperationDenied.AuthFail"


def test_created_token_works_and_is_shown_once(operator: Api) -> None:
    made = operator.ok("POST", TOKENS, {"name": "laptop", "role": "operator"})
    bearer = Api(operator.client, made["token"])
    assert bearer.ok("GET", "/api/iam/v1/whoami")["tokenId"] == made["tokenId"]
    assert made["expiresAt"] == made["lastUsedAt"] == "0001-01-01T00:00:00Z"
    listed = operator.ok("GET", f"{TOKENS}?filter=name:eq:laptop")["list"]
    assert [entry["tokenId"] for entry in listed] == [made["tokenId"]]
    assert made["token"] not in str(listed)


@BOTH_DATABASES
def test_deleted_token_is_refused_at_once(operator: Api) -> None:
    made = operator.ok("POST", TOKENS, {"name": "laptop", "role": "operator"})
    bearer = Api(operator.client, made["token"])
    bearer.ok("GET", "/api/iam/v1/whoami")
    operator.ok("DELETE", f"{TOKENS}/{made['tokenId']}")
    assert bearer.refused("GET", "/api/iam/v1/whoami", status=401).code == AUTH_FAIL
    assert operator.refused("DELETE", f"{TOKENS}/{made['tokenId']}").code == "ECS.DBGet.NoData"


def test_token_that_has_expired_is_refused(operator: Api, runtime: Runtime) -> None:
    made = operator.ok("POST", TOKENS, {"name": "guest", "role": "auditor", "expiresAt": in_an_hour()})
    bearer = Api(operator.client, made["token"])
    runtime.now = lambda: utc_now() + timedelta(minutes=61)
    assert "expired" in bearer.refused("GET", "/api/iam/v1/whoami", status=401).message


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer nwt_unknown", "Basic dXNlcjpwYXNz", "nwt_unknown"])
def test_whoever_shows_no_known_token_is_refused(anybody: Api, header: str) -> None:
    answer = anybody.refused("GET", "/api/iam/v1/whoami", status=401, headers={"authorization": header})
    assert answer.code == AUTH_FAIL


def in_an_hour() -> str:
    return (utc_now() + timedelta(hours=1)).isoformat()


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"role": "operator"}, "name"),
        ({"name": "", "role": "operator"}, "name"),
        ({"name": "x" * 128, "role": "operator"}, "name"),
        ({"name": "x", "role": "king"}, "role"),
        ({"name": "x", "role": "tenant"}, "tenantId"),
        ({"name": "x", "role": "tenant", "tenantId": "9" * 19}, "tenantId"),
        ({"name": "x", "role": "auditor", "expiresAt": "2020-01-01T00:00:00Z"}, "expiresAt"),
        ({"name": "x", "role": "auditor", "expiresAt": "tomorrow"}, "expiresAt"),
    ],
)
def test_bad_token_order_names_the_field(operator: Api, body: dict[str, Any], field: str) -> None:
    assert operator.refused("POST", TOKENS, body).message.startswith(f"{field}:")


def test_token_is_never_kept_for_an_idempotency_key(operator: Api) -> None:
    headers = {"idempotency-key": "once"}
    first = operator.ok("POST", TOKENS, {"name": "laptop", "role": "auditor"}, headers=headers)
    second = operator.ok("POST", TOKENS, {"name": "laptop", "role": "auditor"}, headers=headers)
    assert first["token"] != second["token"]


def test_use_of_a_token_is_noted(operator: Api) -> None:
    made = operator.ok("POST", TOKENS, {"name": "laptop", "role": "auditor"})
    assert listed_token(operator, made["tokenId"])["lastUsedAt"] == "0001-01-01T00:00:00Z"
    Api(operator.client, made["token"]).ok("GET", "/api/iam/v1/whoami")
    assert listed_token(operator, made["tokenId"])["lastUsedAt"] != "0001-01-01T00:00:00Z"


def listed_token(operator: Api, token_id: str) -> dict[str, Any]:
    entries: list[dict[str, Any]] = operator.ok("GET", f"{TOKENS}?filter=tokenId:eq:{token_id}")["list"]
    return entries[0]


def test_tenant_knows_who_it_is(customer: Api, tenant: Tenant) -> None:
    identity = customer.ok("GET", "/api/iam/v1/whoami")
    assert (identity["role"], identity["tenantId"], identity["tenantName"]) == ("tenant", tenant.id, tenant.name)


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", TOKENS, {"name": "x", "role": "operator"}),
        ("DELETE", f"{TOKENS}/tok-x", None),
        ("POST", TENANTS, {"name": "x"}),
        ("PUT", f"{TENANTS}/1", {"name": "x"}),
        ("PUT", f"{TENANTS}/1/quota", {"vcpus": 1}),
        ("DELETE", f"{TENANTS}/1", None),
        ("POST", DEPARTMENTS, {"tenantId": "1", "name": "x"}),
    ],
)
def test_only_operators_manage(
    customer: Api, auditor: Api, method: str, path: str, body: dict[str, Any] | None
) -> None:
    for caller in (customer, auditor):
        assert caller.refused(method, path, body).code == "ECS.OperationDenied.Identity"


def test_tenant_is_made_with_a_department_and_its_limits(operator: Api) -> None:
    made = operator.ok("POST", TENANTS, {"name": "research", "quota": {"vcpus": "64", "ram": 256}})
    assert made["quota"] == {
        "instances": None,
        "vcpus": 64,
        "ram": 256,
        "gpus": None,
        "volumes": None,
        "storage": None,
    }
    departments = operator.ok("GET", f"{DEPARTMENTS}?tenantId={made['tenantId']}")
    assert [entry["name"] for entry in departments["list"]] == ["default"]


def test_tenants_have_names_of_their_own(operator: Api) -> None:
    operator.ok("POST", TENANTS, {"name": "research"})
    other = operator.ok("POST", TENANTS, {"name": "sales"})
    assert operator.refused("POST", TENANTS, {"name": "research"}).code == "ECS.OperationDenied.Repeat"
    answer = operator.refused("PUT", f"{TENANTS}/{other['tenantId']}", {"name": "research"})
    assert answer.code == "ECS.OperationDenied.Repeat"


def test_limit_that_is_not_given_stays_and_null_lifts_it(operator: Api) -> None:
    made = operator.ok("POST", TENANTS, {"name": "research", "quota": {"vcpus": 64, "instances": 3}})
    path = f"{TENANTS}/{made['tenantId']}"
    changed = operator.ok("PUT", f"{path}/quota", {"VCPUs": None, "gpus": "2", "instances": ""})["quota"]
    assert (changed["vcpus"], changed["instances"], changed["gpus"]) == (None, 3, 2)
    assert operator.ok("GET", path)["quota"] == changed


@SQLITE_ONLY
@pytest.mark.parametrize("limit", [-1, 2**31, "many", 1.5])
def test_bad_limit_names_the_field(operator: Api, limit: Any) -> None:
    made = operator.ok("POST", TENANTS, {"name": "research"})
    answer = operator.refused("PUT", f"{TENANTS}/{made['tenantId']}/quota", {"vcpus": limit})
    assert answer.message.startswith("vcpus:")


def test_tenant_sees_itself_and_nobody_else(customer: Api, operator: Api, tenant: Tenant) -> None:
    other = operator.ok("POST", TENANTS, {"name": "research"})["tenantId"]
    assert [entry["tenantId"] for entry in customer.ok("GET", TENANTS)["list"]] == [tenant.id]
    assert customer.ok("GET", f"{TENANTS}/{tenant.id}")["name"] == tenant.name
    assert customer.refused("GET", f"{TENANTS}/{other}").code == "ECS.DBGet.NoData"
    assert customer.ok("GET", f"{DEPARTMENTS}?tenantId={other}")["totalCount"] == 0


def test_deleted_tenant_takes_its_departments_and_tokens_along(operator: Api) -> None:
    tenant_id = operator.ok("POST", TENANTS, {"name": "research"})["tenantId"]
    token = operator.ok("POST", TOKENS, {"name": "x", "role": "tenant", "tenantId": tenant_id})["token"]
    operator.ok("DELETE", f"{TENANTS}/{tenant_id}")
    assert Api(operator.client, token).refused("GET", "/api/iam/v1/whoami", status=401).code == AUTH_FAIL
    assert operator.ok("GET", f"{DEPARTMENTS}?tenantId={tenant_id}")["totalCount"] == 0


def a_backup(tenant: Tenant, instance: Instance) -> VolumeBackup:
    return VolumeBackup(
        backup_id="backup-1",
        point_id="backup-0",
        tenant_id=tenant.id,
        ecs_id=instance.ecs_id,
        volume_uuid="0f1e8c1e-7e64-4a7e-9c60-0e2a4a7a7d12",
        volume_name="data",
        node_id="node-1",
        status=BackupStatus.AVAILABLE,
        size_gib=1,
    )


def test_tenant_with_an_instance_cannot_be_deleted_until_that_is(
    operator: Api, runtime: Runtime, tenant: Tenant
) -> None:
    kind = a_flavor_type()
    flavor = a_flavor(kind)
    instance = an_instance(tenant, flavor)
    with runtime.database.write() as session:
        add(session, kind, flavor, instance)
    assert operator.refused("DELETE", f"{TENANTS}/{tenant.id}").code == "ECS.OperationDenied.InUse"
    with runtime.database.write() as session:
        instance.deleted_at = utc_now()
        session.add(instance)
        add(session, a_backup(tenant, instance))
    # A backup outlives what it is of, but not its owner.
    operator.ok("DELETE", f"{TENANTS}/{tenant.id}")


def test_others_lose_only_the_images_of_a_deleted_tenant(operator: Api, runtime: Runtime, tenant: Tenant) -> None:
    other_id = operator.ok("POST", TENANTS, {"name": "research"})["tenantId"]
    kind = a_flavor_type()
    flavor = a_flavor(kind)
    image = an_image(tenant_id=other_id, deleted_at=utc_now())
    instance = an_instance(tenant, flavor, image_id=image.id, deleted_at=utc_now())
    kept = a_volume(tenant, image_id=image.id)
    with runtime.database.write() as session:
        add(session, kind, flavor, image, instance, kept)
    operator.ok("DELETE", f"{TENANTS}/{other_id}")
    with runtime.database.read() as session:
        assert session.get_one(Instance, instance.id).image_id is None
        assert session.get_one(Volume, kept.id).image_id is None


def test_departments_live_within_their_tenant(operator: Api, tenant: Tenant) -> None:
    made = operator.ok("POST", DEPARTMENTS, {"tenantId": tenant.id, "name": "physics"})
    path = f"{DEPARTMENTS}/{made['departmentId']}"
    body = {"tenantId": tenant.id, "name": "physics"}
    assert operator.refused("POST", DEPARTMENTS, body).code == "ECS.OperationDenied.Repeat"
    assert operator.ok("PUT", path, {"name": "chemistry"})["name"] == "chemistry"
    operator.ok("DELETE", path)
    assert operator.refused("GET", path).code == "ECS.DBGet.NoData"
    missing = operator.refused("POST", DEPARTMENTS, {"tenantId": "9" * 19, "name": "x"})
    assert missing.code == "ECS.DBGet.NoData"


def test_department_in_use_stays(operator: Api, tenant: Tenant) -> None:
    department_id = operator.ok("POST", DEPARTMENTS, {"tenantId": tenant.id, "name": "physics"})["departmentId"]
    operator.ok("POST", GROUPS, {"tenantId": tenant.id, "departmentId": department_id, "name": "lab"})
    answer = operator.refused("DELETE", f"{DEPARTMENTS}/{department_id}")
    assert answer.code == "ECS.OperationDenied.InUse"


def test_tenant_groups_its_own_resources(customer: Api, stranger: Api, tenant: Tenant) -> None:
    made = customer.ok("POST", GROUPS, {"name": "web"})
    path = f"{GROUPS}/{made['resourceGroupId']}"
    assert made["tenantId"] == tenant.id
    assert customer.ok("PUT", path, {"name": "front"})["name"] == "front"
    assert stranger.refused("GET", path).code == "ECS.DBGet.NoData"
    assert stranger.refused("DELETE", path).code == "ECS.DBGet.NoData"
    assert stranger.ok("GET", GROUPS)["totalCount"] == 0
    assert stranger.refused("POST", GROUPS, {"tenantId": tenant.id, "name": "x"}).code == "ECS.DBGet.NoData"
    customer.ok("DELETE", path)
    assert customer.ok("GET", GROUPS)["totalCount"] == 0
