"""What every call has in common: envelope, languages, errors, credentials, region, bad bodies."""

from dataclasses import replace
from typing import Any

import pytest
import structlog
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy.exc import OperationalError

from coordinator.runtime import Runtime
from tests.api.client import Api
from tests.api.order import FLAVORS, a_flavor_order, make_flavor_type
from tests.database import SQLITE_ONLY

ZONES = "/api/ecs/v1/zones"
JSON = {"content-type": "application/json"}


@SQLITE_ONLY
def test_success_is_told_in_the_callers_language(operator: Api) -> None:
    assert operator.call("GET", ZONES).message == "Success"
    assert operator.speaking("zh").call("GET", ZONES).message == "调用成功"
    assert operator.speaking("").call("GET", ZONES).message == "调用成功"
    assert operator.speaking("fr;q=1, en;q=0.4, zh;q=0.3").call("GET", ZONES).message == "Success"


@SQLITE_ONLY
def test_a_request_id_from_outside_is_not_taken_over(operator: Api) -> None:
    answer = operator.call("GET", ZONES, headers={"x-request-id": "mine"})
    assert answer.headers["x-request-id"] != "mine"


def test_errors_are_told_in_the_callers_language(operator: Api) -> None:
    body = {"cpu": 300}
    assert operator.refused("POST", FLAVORS, {**body, "flavorTypeId": "x", "name": "n", "ram": 1}).message == (
        "cpu: at most 256"
    )
    chinese = operator.speaking("zh").refused("POST", FLAVORS, {**body, "flavorTypeId": "x", "name": "n", "ram": 1})
    assert chinese.message == "cpu：不能大于256"


@pytest.mark.parametrize(
    ("path", "noun"),
    [
        ("/api/ecs/v1/instances/x", "实例"),
        ("/api/ecs/v1/operations/x", "操作"),
        ("/api/image/v1/images/x", "镜像"),
        ("/api/ebs/v1/volumes/x", "云盘"),
        ("/api/vpc/v1/vpcs/x", "VPC"),
        ("/api/vpc/v1/subnets/x", "子网"),
        ("/api/vpc/v1/security-groups/x", "安全组"),
        ("/api/vpc/v1/ports/x", "端口"),
        ("/api/iam/v1/tenants/x", "租户"),
        ("/api/iam/v1/departments/x", "部门"),
        ("/api/iam/v1/resource-groups/x", "资源组"),
    ],
)
def test_what_does_not_exist_is_named_in_the_callers_language(operator: Api, path: str, noun: str) -> None:
    assert operator.speaking("zh").refused("GET", path).message == f"资源不存在：{noun}'x'"


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer nwt_wrong", "Basic eDp5", "bearer \tx", "Bearer " + "x" * 9000]
)
def test_bad_credentials_are_refused(client: TestClient, authorization: str) -> None:
    answer = Api(client).refused("GET", ZONES, status=401, headers={"authorization": authorization})
    assert answer.code == "ECS.OperationDenied.AuthFail"


@SQLITE_ONLY
@pytest.mark.parametrize("query", ["filter=nonsense", "pageSize=x", "name=" + "x" * 128])
def test_credentials_come_before_everything_else(anybody: Api, query: str) -> None:
    assert anybody.refused("GET", f"{FLAVORS}?{query}", status=401).code == "ECS.OperationDenied.AuthFail"


@SQLITE_ONLY
def test_an_unknown_path_and_an_unknown_method(operator: Api) -> None:
    for path in ("/api/ecs/v1/nothing", f"{ZONES}/", f"{FLAVORS}/"):
        assert operator.refused("GET", path, status=404).code == "ECS.InvalidParameter.Path.NotFound"
    answer = operator.refused("DELETE", ZONES, status=405)
    assert answer.code == "ECS.InvalidParameter.Method.NotSupported"
    assert answer.headers["allow"] == "GET"


@SQLITE_ONLY
def test_all_paths_need_the_region_but_those_that_tell_it(client: TestClient, operator: Api) -> None:
    wrong = Api(client, operator.token, region="region1").refused("GET", ZONES)
    assert wrong.code == "ECS.InvalidParameter"
    assert "x-regionid" in wrong.message
    nowhere = Api(client, operator.token, region="")
    for path in (ZONES, "/api/image/v1/images", "/api/ebs/v1/volumes", "/api/vpc/v1/vpcs", "/api/iam/v1/tokens"):
        assert "x-regionid" in nowhere.refused("GET", path).message
    assert nowhere.ok("GET", "/api/iam/v1/whoami")["region"] == "region0"
    tenant_id = operator.ok("POST", "/api/iam/v1/tenants", {"name": "research"})["tenantId"]
    body = {"tenantId": tenant_id}
    assert nowhere.ok("POST", "/api/ecs/v1/service-region-info", body)[0]["regionId"] == "region0"


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", FLAVORS),
        ("POST", FLAVORS),
        ("DELETE", f"{FLAVORS}/flavor-x"),
        ("GET", "/api/ecs/v1/flavortypes"),
        ("GET", "/api/ecs/v1/flavortypes/supported-gpus"),
        ("GET", "/api/ecs/v1/nodes"),
        ("GET", "/api/ecs/v1/monitor/vmcount"),
        ("GET", "/api/ecs/v1/monitor/capacity"),
    ],
)
def test_chapter_1_is_for_operators(customer: Api, method: str, path: str) -> None:
    body: dict[str, str] | None = {} if method == "POST" else None
    assert customer.refused(method, path, body).code == "ECS.OperationDenied.Identity"


def test_an_auditor_looks_and_touches_nothing(auditor: Api, operator: Api) -> None:
    flavor_type = make_flavor_type(operator)
    auditor.ok("GET", FLAVORS)
    auditor.ok("GET", "/api/ebs/v1/volumes")
    for method, path, body in (
        ("POST", FLAVORS, a_flavor_order(flavor_type)),
        ("DELETE", f"/api/ecs/v1/flavortypes/{flavor_type['flavorTypeId']}", None),
        ("POST", "/api/ebs/v1/volumes", {"name": "v", "size": 1}),
    ):
        assert auditor.refused(method, path, body).code == "ECS.OperationDenied.Identity"


@SQLITE_ONLY
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"17",
        b"\xff\xfe",
        b'{"name": "\xff"}',
        b"[" * 100_000,
        b'{"cpu": ' + b"9" * 5000 + b"}",
        b'{"cpu": 1e999}',
        b'{"cpu": NaN}',
        b'{"name": "a\\u0000b"}',
        b'{"name": "\\ud800"}',
        b'{"\\u0000": 1}',
        b'{"name": {"deep": ["a\\u0000b"]}}',
    ],
    ids=lambda body: body[:24].decode("latin-1"),
)
def test_a_body_that_is_no_order_is_refused(operator: Api, body: bytes) -> None:
    assert operator.refused("POST", FLAVORS, content=body, headers=JSON).code == "ECS.InvalidParameter"


@SQLITE_ONLY
def test_a_body_of_another_type_is_refused(operator: Api) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert operator.refused("POST", FLAVORS, content=b"cpu=1", headers=form).code == "ECS.InvalidParameter"


@SQLITE_ONLY
def test_a_body_without_a_type_is_read_as_json(operator: Api, client: TestClient) -> None:
    flavor_type = make_flavor_type(operator)
    body = f'{{"flavorTypeId": "{flavor_type["flavorTypeId"]}", "name": "n", "cpu": 1, "ram": 1}}'
    headers = {"authorization": f"Bearer {operator.token}", "x-regionid": "region0"}
    request = client.build_request("POST", FLAVORS, content=body, headers=headers)
    assert "content-type" not in request.headers
    assert client.send(request).json()["code"] == "Success"


@SQLITE_ONLY
def test_a_body_that_is_too_large_is_refused(operator: Api, runtime: Runtime) -> None:
    too_much = b'{"name": "' + b"x" * runtime.settings.max_body_bytes + b'"}'
    operator.refused("POST", FLAVORS, content=too_much, headers=JSON, status=413)

    def chunks() -> Any:
        for start in range(0, len(too_much), 65536):
            yield too_much[start : start + 65536]

    operator.refused("POST", FLAVORS, content=chunks(), headers=JSON, status=413)


@pytest.mark.parametrize("path", [f"{FLAVORS}/%00", f"{FLAVORS}/%ff%fe", f"{FLAVORS}/" + "x" * 3000, f"{FLAVORS}/é"])
def test_strange_ids_are_ids_that_do_not_exist(operator: Api, path: str) -> None:
    assert operator.refused("DELETE", path).code in {"ECS.DBGet.NoData", "ECS.InvalidParameter"}


@pytest.mark.parametrize(
    "query", ["name=%00", "filter=name:eq:%00", "flavorId=%00", "name=%ff", "orderBy=%00", "pageSize=%00"]
)
def test_strange_queries_never_fail_inside(operator: Api, query: str) -> None:
    assert operator.call("GET", f"{FLAVORS}?{query}").status in {200, 400}


@SQLITE_ONLY
def test_a_failure_inside_is_logged_and_not_shown(own_app: FastAPI, operator: Api) -> None:
    @own_app.get("/api/ecs/v1/broken")
    def break_down() -> None:
        raise RuntimeError("the secret reason")

    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        answer = replace(operator, client=TestClient(own_app)).refused("GET", "/api/ecs/v1/broken", status=500)
    assert answer.code == "ECS.InternalError"
    assert "secret" not in answer.message
    failure = next(line for line in logs if line["event"] == "request failed")
    assert failure["exc_info"]
    assert failure["requestId"] == answer.headers["x-request-id"]


def test_a_database_that_is_away_is_told_as_such(own_app: FastAPI, operator: Api) -> None:
    @own_app.get("/api/ecs/v1/away")
    def lose_connection() -> None:
        raise OperationalError("SELECT 1", {}, Exception("connection refused"))

    answer = replace(operator, client=TestClient(own_app)).refused("GET", "/api/ecs/v1/away", status=503)
    assert answer.code == "ECS.ServiceUnavailable"


@SQLITE_ONLY
def test_one_log_line_a_request_without_bodies_or_credentials(operator: Api) -> None:
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        answer = operator.refused("DELETE", f"{FLAVORS}/flavor-nothing")
    line = next(line for line in logs if line["event"] == "request")
    assert line["route"] == f"{FLAVORS}/{{flavor_id}}"
    assert (line["method"], line["status"]) == ("DELETE", 400)
    assert line["requestId"] == answer.headers["x-request-id"]
    assert line["tokenId"].startswith("tok-")
    assert operator.token not in str(logs)
