"""The audit log: each changing call by somebody, however it was answered, and nothing of what was in it."""

import asyncio
import hashlib
import json
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from coordinator.audit_log import AuditLog
from coordinator.domain.clock import utc_now
from coordinator.runtime import Runtime
from coordinator.services.retention import forget_expired
from coordinator.store.tables import AuditRecord, Event, Tenant
from tests.api.client import Api
from tests.api.cloud import INSTANCES, Cloud
from tests.database import BOTH_DATABASES

pytestmark = BOTH_DATABASES

AUDIT = "/api/ecs/v1/audit"
FLAVORS = "/api/ecs/v1/flavors"


def audited(api: Api, query: str = "") -> list[dict[str, Any]]:
    """The audit log, the oldest call first."""
    found: list[dict[str, Any]] = api.ok("GET", f"{AUDIT}?orderBy=auditId:asc&pageSize=1000{query}")["list"]
    return found


def test_a_change_is_noted_with_who_made_it_and_what_it_made(operator: Api) -> None:
    made = operator.call("POST", "/api/iam/v1/tenants", {"name": "research"})
    [noted] = audited(operator)
    caller = operator.ok("GET", "/api/iam/v1/whoami")
    assert noted == {
        "auditId": noted["auditId"],
        "at": noted["at"],
        "requestId": made.headers["x-request-id"],
        "callerId": caller["tokenId"],
        "callerName": "operator of a test",
        "role": "operator",
        "tenantId": None,
        "method": "POST",
        "path": "/api/iam/v1/tenants",
        "operation": "createTenant",
        "resources": [made.data["tenantId"]],
        "status": 200,
        "code": "Success",
        "operationIds": [],
        "sourceAddress": "testclient",
        "bodyDigest": noted["bodyDigest"],
    }


def test_what_an_operation_works_on_is_noted_and_what_the_path_names(
    customer: Api, operator: Api, cloud: Cloud, tenant: Tenant
) -> None:
    created = customer.call("POST", INSTANCES, cloud.order())
    ecs_id = created.data["ecsId"]
    customer.call("DELETE", f"{INSTANCES}/{ecs_id}")
    creation, deletion = audited(operator)
    assert creation["operationIds"] == [created.headers["x-operation-id"]]
    assert creation["resources"] == deletion["resources"] == [ecs_id]
    assert (deletion["operation"], deletion["tenantId"], deletion["role"]) == ("deleteInstance", tenant.id, "tenant")


def test_reading_is_not_noted(operator: Api) -> None:
    operator.ok("GET", FLAVORS)
    operator.refused("GET", f"{INSTANCES}/ecs-nothing")
    assert audited(operator) == []


def test_refused_calls_are_noted(operator: Api, customer: Api, auditor: Api, anybody: Api) -> None:
    customer.refused("POST", "/api/iam/v1/tenants", {"name": "x"})
    auditor.refused("DELETE", f"{INSTANCES}/ecs-nothing")
    operator.refused("POST", "/api/iam/v1/tenants", {"name": ""})
    operator.refused("POST", "/api/nothing", status=404)
    Api(operator.client, "nwt_stolen").refused("POST", "/api/iam/v1/tenants", {"name": "x"}, status=401)
    anybody.refused("POST", "/api/iam/v1/tenants", {"name": "x"}, status=401)
    assert [(noted["role"], noted["operation"], noted["status"], noted["code"]) for noted in audited(auditor)] == [
        ("tenant", "createTenant", 400, "ECS.OperationDenied.Identity"),
        ("auditor", "deleteInstance", 400, "ECS.OperationDenied.Identity"),
        ("operator", "createTenant", 400, "ECS.InvalidParameter"),
        ("", "", 404, "ECS.InvalidParameter.Path.NotFound"),
        ("", "createTenant", 401, "ECS.OperationDenied.AuthFail"),
    ]


def test_equal_bodies_have_equal_digests_that_tell_nothing_without_the_key(operator: Api) -> None:
    bodies = [{"name": "a"}, {"name": "a"}, {"name": "b"}, None]
    for body in bodies:
        operator.call("POST", "/api/iam/v1/tenants", body)
    first, second, third, none = (noted["bodyDigest"] for noted in audited(operator))
    assert first == second != third
    assert none == ""
    assert first != hashlib.sha256(json.dumps({"name": "a"}, separators=(",", ":")).encode()).hexdigest()


def test_no_secret_is_noted(operator: Api, runtime: Runtime) -> None:
    token = operator.ok("POST", "/api/iam/v1/tokens", {"name": "new", "role": "operator"})["token"]
    secret = "the-secret-of-a-webhook"
    operator.ok("POST", "/api/ecs/v1/webhooks", {"url": "https://a.example", "secret": secret})
    shown = json.dumps(audited(operator))
    assert token not in shown
    assert secret not in shown
    assert operator.token not in shown


def test_what_is_not_printable_is_noted_escaped(operator: Api) -> None:
    operator.call("DELETE", "/api/ecs/v1/webhooks/a%0Ab%00")
    operator.call("DELETE", "/api/ecs/v1/webhooks/a%0Ab")
    paths = [noted["path"] for noted in audited(operator)]
    assert paths == ["/api/ecs/v1/webhooks/a\\nb\\x00", "/api/ecs/v1/webhooks/a\\nb"]


def test_it_is_for_operators_and_auditors(operator: Api, auditor: Api, customer: Api) -> None:
    assert customer.refused("GET", AUDIT).code == "ECS.OperationDenied.Identity"
    assert auditor.ok("GET", AUDIT) == {"list": [], "totalCount": 0}


def test_it_is_filtered_ordered_and_paged(operator: Api) -> None:
    for name in ("a", "a", "b"):
        operator.call("POST", "/api/iam/v1/tenants", {"name": name})
    assert [noted["status"] for noted in audited(operator, "&filter=status:eq:400")] == [400]
    assert len(audited(operator, "&filter=operation:eq:createTenant|code:eq:Success")) == 2
    made = audited(operator)[0]["resources"][0]
    assert len(audited(operator, f"&filter=resources:lk:{made}")) == 1
    page = operator.ok("GET", f"{AUDIT}?pageSize=1&pageNumber=2")
    assert (page["totalCount"], len(page["list"])) == (3, 1)


async def test_it_is_stored_without_being_asked_for(operator: Api, runtime: Runtime) -> None:
    storing = asyncio.create_task(runtime.audit.run())
    await asyncio.to_thread(operator.call, "POST", "/api/iam/v1/tenants", {"name": "a"})
    async with asyncio.timeout(60):
        while not rows(runtime):
            await asyncio.sleep(0.05)
    storing.cancel()


def rows(runtime: Runtime) -> int:
    with runtime.database.read() as session:
        return len(session.execute(AuditRecord.__table__.select()).all())  # type: ignore[attr-defined]


def a_record(**columns: Any) -> AuditRecord:
    values = {"at": utc_now(), "request_id": "r", "caller_id": "tok-1", "method": "POST", "path": "/", "status": 200}
    return AuditRecord(**{**values, "code": "Success", **columns})


def test_what_could_not_be_stored_is_stored_later(runtime: Runtime) -> None:
    def fail(_session: object) -> None:
        raise OperationalError("the database is away", None, Exception())

    runtime.database.before_commit = fail
    for name in ("a", "b"):
        runtime.audit.record(a_record(request_id=name))
    with pytest.raises(OperationalError):
        runtime.audit.flush()
    runtime.database.before_commit = None
    runtime.audit.record(a_record(request_id="c"))
    runtime.audit.flush()
    runtime.audit.flush()
    with runtime.database.read() as session:
        stored = session.execute(AuditRecord.__table__.select().order_by("id"))  # type: ignore[attr-defined]
        assert [row.request_id for row in stored] == ["a", "b", "c"]


def test_strangers_do_not_fill_it(runtime: Runtime) -> None:
    log = AuditLog(runtime.database, monotonic=lambda: 5.5)
    for _ in range(50):
        log.record(a_record(caller_id=""))
    log.record(a_record())
    log.flush()
    assert rows(runtime) == 11


def test_memory_has_an_end(runtime: Runtime) -> None:
    for _ in range(10_050):
        runtime.audit.record(a_record())
    assert len(runtime.audit._waiting) == 10_000


def test_what_is_old_is_forgotten(runtime: Runtime, operator: Api) -> None:
    now = utc_now()
    for days in (181, 179):
        runtime.audit.record(a_record(at=now - timedelta(days=days)))
    runtime.audit.flush()
    with runtime.database.write() as session:
        for days in (31, 29):
            told: dict[str, Any] = {"kind": "a", "severity": "info", "resource_type": "node", "resource_id": "n"}
            session.add(Event(at=now - timedelta(days=days), position=100 - days, **told))
    forget_expired(runtime)
    assert rows(runtime) == 1
    [left] = operator.ok("GET", "/api/ecs/v1/events/list")["list"]
    assert left["id"] == 71
