"""Events as callers follow and list them."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from fastapi import FastAPI

from coordinator.api import event_stream
from coordinator.domain.caller import Role
from coordinator.domain.event import EventFilter, Severity
from coordinator.event_feed import EventFeed
from coordinator.runtime import Runtime
from coordinator.store.queries.event import record_event
from coordinator.store.tables import Tenant
from tests.api.client import Api
from tests.api.conftest import a_token
from tests.api.served import listening, served
from tests.database import BOTH_DATABASES, SQLITE_ONLY

pytestmark = BOTH_DATABASES

EVENTS = "/api/ecs/v1/events/list"


@pytest.fixture
def url(app: FastAPI, runtime: Runtime) -> Iterator[str]:
    with served(app, runtime) as address:
        yield address


def tell(
    runtime: Runtime,
    name: str,
    *,
    kind: str = "instance.status_changed",
    tenant: Tenant | None = None,
    severity: Severity = Severity.INFO,
) -> None:
    with runtime.database.write() as session:
        record_event(
            session,
            kind,
            resource_type="instance",
            resource_id=name,
            tenant_id=tenant.id if tenant else None,
            severity=severity,
            data={"to": "Running", "reason": "虚拟机"},
        )


def test_events_come_as_they_happen_and_as_the_list_has_them(operator: Api, runtime: Runtime, url: str) -> None:
    with listening(url, operator.token) as listener:
        assert listener.response.status_code == 200
        assert listener.response.headers["content-type"].startswith("text/event-stream")
        tell(runtime, "ecs-1")
        heard = listener.next()
    assert (heard.kind, heard.data["resourceId"]) == ("instance.status_changed", "ecs-1")
    assert heard.data["data"] == {"to": "Running", "reason": "虚拟机"}
    assert operator.ok("GET", EVENTS) == {"list": [heard.data], "totalCount": 1}


@pytest.mark.parametrize("by_header", [True, False])
def test_a_listener_that_was_cut_off_goes_on_where_it_was(
    operator: Api, runtime: Runtime, url: str, by_header: bool
) -> None:
    with listening(url, operator.token) as listener:
        tell(runtime, "ecs-1")
        last = listener.next().id
    for number in range(2, 200):
        tell(runtime, f"ecs-{number}")
    query, headers = ("?after=0", {"last-event-id": str(last)}) if by_header else (f"?after={last}", {})
    with listening(url, operator.token, query, headers) as listener:
        assert [listener.next().data["resourceId"] for _ in range(2, 200)] == [f"ecs-{n}" for n in range(2, 200)]
        tell(runtime, "ecs-200")
        assert listener.next().data["resourceId"] == "ecs-200"


def test_a_listener_that_is_further_behind_than_memory_reaches_misses_nothing(
    operator: Api, runtime: Runtime, url: str
) -> None:
    with listening(url, operator.token) as other:
        for number in range(400):
            tell(runtime, str(number))
        assert [other.next().data["resourceId"] for _ in range(400)] == [str(number) for number in range(400)]
    with listening(url, operator.token, "?after=0&severity=info") as listener:
        assert [listener.next().data["resourceId"] for _ in range(400)] == [str(number) for number in range(400)]


def test_events_of_another_coordinator_come_too(operator: Api, runtime: Runtime, url: str) -> None:
    with listening(url, operator.token) as listener:
        # As if this process had not noticed the commit.
        runtime.database.after_events = None
        tell(runtime, "ecs-1")
        assert listener.next().data["resourceId"] == "ecs-1"


def test_tenants_hear_and_see_only_their_own(
    operator: Api, customer: Api, auditor: Api, runtime: Runtime, url: str, tenant: Tenant
) -> None:
    for name, owner in (("ecs-cloud", None), ("ecs-own", tenant)):
        tell(runtime, name, tenant=owner)
    with listening(url, customer.token, "?after=0") as listener:
        assert listener.next().data["resourceId"] == "ecs-own"
        tell(runtime, "ecs-cloud-2")
        tell(runtime, "ecs-own-2", tenant=tenant)
        assert listener.next().data["resourceId"] == "ecs-own-2"
    assert customer.ok("GET", EVENTS)["totalCount"] == 2
    assert auditor.ok("GET", EVENTS)["totalCount"] == operator.ok("GET", EVENTS)["totalCount"] == 4


def test_a_listener_hears_what_it_asked_for(operator: Api, runtime: Runtime, url: str) -> None:
    tell(runtime, "ecs-1", kind="instance.created")
    tell(runtime, "ecs-1", kind="operation.ended")
    tell(runtime, "ecs-2", kind="migration.failed", severity=Severity.WARNING)
    for query, expected in (
        ("kind=instance.*,migration.failed", ["instance.created", "migration.failed"]),
        ("resource=ecs-1", ["instance.created", "operation.ended"]),
        ("severity=warning", ["migration.failed"]),
    ):
        with listening(url, operator.token, f"?after=0&{query}") as listener:
            assert [listener.next().kind for _ in expected] == expected


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("query", "field"), [("after=5", "after"), ("after=x", "after"), ("kind=Instance", "kind"), ("kind=a*", "kind")]
)
def test_what_makes_no_sense_is_refused(operator: Api, url: str, query: str, field: str) -> None:
    with listening(url, operator.token, f"?{query}") as listener:
        assert listener.response.status_code == 400
        assert listener.response.read()
        assert listener.response.json()["message"].startswith(field)


def test_strangers_hear_nothing(url: str) -> None:
    with listening(url, "nwt_unknown") as listener:
        assert listener.response.status_code == 401


def test_a_caller_has_so_many_streams_at_once(operator: Api, runtime: Runtime, url: str) -> None:
    caller = operator.ok("GET", "/api/iam/v1/whoami")["tokenId"]
    with ExitStack() as others:
        for _ in range(16):
            others.enter_context(runtime.event_streams.hold(caller))
        with listening(url, operator.token) as listener:
            assert listener.response.status_code == 429
    with listening(url, operator.token) as listener:
        assert listener.response.status_code == 200


def test_a_silent_stream_shows_that_it_lives_and_ends_with_its_token(
    operator: Api, runtime: Runtime, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "HEARTBEAT_SECONDS", 0.05)
    token = a_token(runtime, Role.AUDITOR)
    with listening(url, token) as listener:
        assert ": nothing new" in (next(listener.lines), next(listener.lines), next(listener.lines))
        [row] = [row for row in operator.ok("GET", "/api/iam/v1/tokens")["list"] if row["role"] == "auditor"]
        operator.ok("DELETE", f"/api/iam/v1/tokens/{row['tokenId']}")
        assert [line for line in listener.lines if line.startswith("data")] == []


def test_a_stream_on_which_there_is_always_something_new_ends_with_its_token(
    operator: Api, runtime: Runtime, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "HEARTBEAT_SECONDS", 0.3)
    with listening(url, a_token(runtime, Role.AUDITOR)) as listener:
        [row] = [row for row in operator.ok("GET", "/api/iam/v1/tokens")["list"] if row["role"] == "auditor"]
        operator.ok("DELETE", f"/api/iam/v1/tokens/{row['tokenId']}")
        ends_at = time.monotonic() + 60
        while time.monotonic() < ends_at:
            tell(runtime, "ecs-1")
            if next(listener.lines, None) is None:
                break
        else:
            pytest.fail("it goes on")


async def test_who_listened_before_the_feed_began_is_told_at_once(runtime: Runtime) -> None:
    feed = EventFeed(runtime.database)
    tell(runtime, "ecs-1")
    waiting = asyncio.create_task(feed.wait_beyond(0, 10))
    await asyncio.sleep(0)
    running = asyncio.create_task(feed.run())
    assert await waiting
    assert [event.resource_id for event in (await feed.read(0, EventFilter()))[0]] == ["ecs-1"]
    running.cancel()


async def test_a_slow_listener_costs_no_memory(runtime: Runtime) -> None:
    feed = EventFeed(runtime.database)
    for number in range(600):
        tell(runtime, str(number))
    await feed._look()
    assert len(feed._recent) == 256
    assert (await feed.read(0, EventFilter()))[1] == 100


def test_events_are_filtered_and_paged(operator: Api, runtime: Runtime) -> None:
    for number in range(3):
        tell(runtime, f"ecs-{number}", severity=Severity.ALARM if number else Severity.INFO)
    page = operator.ok("GET", f"{EVENTS}?filter=severity:eq:alarm&pageSize=1")
    assert (page["totalCount"], [event["resourceId"] for event in page["list"]]) == (2, ["ecs-2"])
    first = page["list"][0]["id"]
    alarms = operator.ok("GET", f"{EVENTS}?severity=alarm&kind=instance.*&after={first - 2}")
    assert [event["resourceId"] for event in alarms["list"]] == ["ecs-1", "ecs-2"]
    assert operator.ok("GET", f"{EVENTS}?resource=ecs-0&after=0")["totalCount"] == 1
    older = operator.ok("GET", f"{EVENTS}?filter=id:lt:{first}&orderBy=id:asc")["list"]
    assert [event["resourceId"] for event in older] == ["ecs-0", "ecs-1"]
