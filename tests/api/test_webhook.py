"""Webhooks, with a real receiver: signed, in order, at least once, by one coordinator, and given up in the end."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from coordinator.domain.clock import utc_now
from coordinator.domain.event import Severity
from coordinator.event_feed import EventFeed
from coordinator.pki import Authority, CoordinatorIdentity
from coordinator.runtime import Runtime
from coordinator.services import webhook_call
from coordinator.services.webhook_delivery import WebhookSender
from coordinator.store.database import Database
from coordinator.store.queries.event import record_event
from coordinator.store.tables import Tenant, Webhook
from tests.api.client import Api
from tests.api.receiver import Receiver, receiving
from tests.database import SQLITE_ONLY

WEBHOOKS = "/api/ecs/v1/webhooks"
SECRET = "0123456789abcdef"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as started:
        yield started


@pytest.fixture(autouse=True)
def admit_loopback(runtime: Runtime) -> None:
    runtime.settings.allow_private_webhook_urls = True


class Clock:
    """The real time, and what a test adds to it."""

    def __init__(self) -> None:
        self.added = timedelta()

    def __call__(self) -> datetime:
        return utc_now() + self.added


@asynccontextmanager
async def sending(*runtimes: Runtime) -> AsyncIterator[None]:
    """The senders of so many coordinators, without pauses worth mentioning, until the block ends."""
    parts = []
    for runtime in runtimes:
        parts.append(asyncio.create_task(runtime.events.run()))
        await asyncio.sleep(0)
        parts.append(asyncio.create_task(WebhookSender(runtime, jitter=lambda: 0.01).run()))
    yield
    for part in parts:
        part.cancel()
    await asyncio.gather(*parts, return_exceptions=True)


def create(operator: Api, receiver: Receiver, **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = operator.ok("POST", WEBHOOKS, {"url": receiver.url, "secret": SECRET, **fields})
    return made


def tell(runtime: Runtime, *names: str, kind: str = "instance.created", **facts: Any) -> None:
    for name in names:
        with runtime.database.write() as session:
            record_event(session, kind, resource_type="instance", resource_id=name, **facts)


async def until(operator: Api, webhook_id: str, **expected: Any) -> dict[str, Any]:
    """The webhook, once it shows what is expected."""
    async with asyncio.timeout(60):
        while True:
            shown: dict[str, Any] = await asyncio.to_thread(operator.ok, "GET", f"{WEBHOOKS}/{webhook_id}")
            if expected.items() <= shown.items():
                return shown
            await asyncio.sleep(0.02)


def row_of(runtime: Runtime, webhook_id: str) -> Webhook:
    with runtime.database.read() as session:
        return session.get_one(Webhook, webhook_id)


async def test_events_arrive_signed_and_in_order(operator: Api, runtime: Runtime, receiver: Receiver) -> None:
    tell(runtime, "before")
    made = create(operator, receiver)
    names = [f"ecs-{number}" for number in range(20)]
    async with sending(runtime):
        tell(runtime, *names)
        deliveries = await asyncio.to_thread(receiver.wait_for, 20)
        shown = await until(operator, made["webhookId"], lastEventId=deliveries[-1].event["id"])
    assert [delivery.event["resourceId"] for delivery in deliveries] == names
    for delivery in deliveries:
        assert delivery.is_signed_with(SECRET)
        assert not delivery.is_signed_with(SECRET + "!")
        assert delivery.headers["x-nodewright-event-id"] == str(delivery.event["id"])
        assert delivery.headers["x-nodewright-event-kind"] == "instance.created"
    listed = operator.ok("GET", "/api/ecs/v1/events/list?orderBy=id:asc&pageSize=100")["list"]
    assert [delivery.event for delivery in deliveries] == listed[-20:]
    assert (shown["attempts"], shown["lastError"], "secret" in shown) == (0, "", False)
    assert not shown["lastDeliveredAt"].startswith("0001")


async def test_only_what_is_wanted_arrives(operator: Api, runtime: Runtime, receiver: Receiver, tenant: Tenant) -> None:
    create(operator, receiver, kinds=["migration.*", "instance.moved"], severity="warning", tenantId=tenant.id)
    warning = {"severity": Severity.WARNING, "tenant_id": tenant.id}
    async with sending(runtime):
        tell(runtime, "a", kind="instance.created", **warning)
        tell(runtime, "b", kind="migration.started", tenant_id=tenant.id)
        tell(runtime, "c", kind="migration.failed", severity=Severity.ALARM)
        tell(runtime, "d", kind="migration.failed", **warning)
        tell(runtime, "e", kind="instance.moved", **warning)
        deliveries = await asyncio.to_thread(receiver.wait_for, 2)
    assert [delivery.event["resourceId"] for delivery in deliveries] == ["d", "e"]


async def test_what_fails_is_sent_again_before_what_follows(
    operator: Api, runtime: Runtime, receiver: Receiver
) -> None:
    receiver.statuses = [204, 500, 302, 204]
    made = create(operator, receiver)
    async with sending(runtime):
        tell(runtime, "a", "b", "c")
        deliveries = await asyncio.to_thread(receiver.wait_for, 5)
        shown = await until(operator, made["webhookId"], lastEventId=deliveries[-1].event["id"])
    assert [delivery.event["resourceId"] for delivery in deliveries] == ["a", "b", "b", "b", "c"]
    assert deliveries[1].headers["x-nodewright-event-id"] == deliveries[3].headers["x-nodewright-event-id"]
    assert (shown["attempts"], shown["lastError"]) == (0, "it answers 302")
    assert not shown["lastErrorAt"].startswith("0001")


async def test_pauses_grow_to_an_hour(operator: Api, runtime: Runtime, receiver: Receiver) -> None:
    clock = Clock()
    runtime.now = clock
    receiver.statuses = [500] * 20
    webhook_id = create(operator, receiver)["webhookId"]
    tell(runtime, "a")
    pauses = []
    feed = asyncio.create_task(runtime.events.run())
    await runtime.events.wait_beyond(0, 10)
    for _ in range(14):
        sender = WebhookSender(runtime, jitter=lambda: 1)
        await sender._start_due(runtime.events.position)
        await asyncio.gather(*sender._sending.values())
        row = row_of(runtime, webhook_id)
        assert row.not_before
        pauses.append(round((row.not_before - clock()).total_seconds()))
        clock.added += row.not_before - clock()
    feed.cancel()
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600]


async def test_who_fails_for_days_is_given_up_with_an_alarm_and_can_be_enabled(
    operator: Api, runtime: Runtime, receiver: Receiver
) -> None:
    clock = Clock()
    runtime.now = clock
    receiver.statuses = [500, 500]
    webhook_id = create(operator, receiver)["webhookId"]
    async with sending(runtime):
        tell(runtime, "a")
        await until(operator, webhook_id, attempts=1)
        clock.added += timedelta(days=3)
        shown = await until(operator, webhook_id, enabled=False)
    assert shown["nextAttemptAt"].startswith("0001")
    [alarm] = operator.ok("GET", "/api/ecs/v1/events/list?filter=severity:eq:alarm")["list"]
    assert (alarm["kind"], alarm["resourceId"]) == ("alarm.webhook_disabled", webhook_id)
    assert operator.ok("POST", f"{WEBHOOKS}/{webhook_id}/enable")["enabled"]
    runtime.events = EventFeed(runtime.database)
    async with sending(runtime):
        deliveries = await asyncio.to_thread(receiver.wait_for, 4)
    assert [delivery.event["resourceId"] for delivery in deliveries] == ["a", "a", "a", webhook_id]


async def test_two_coordinators_send_once(operator: Api, runtime: Runtime, receiver: Receiver) -> None:
    if runtime.database.is_sqlite:
        pytest.skip("one coordinator only")
    other = Runtime(runtime.settings, Database(runtime.database.url), runtime.secrets, runtime.agents)
    create(operator, receiver)
    names = [f"ecs-{number}" for number in range(30)]
    async with sending(runtime, other):
        for name in names:
            await asyncio.to_thread(tell, runtime, name)
        await asyncio.to_thread(receiver.wait_for, 30)
    other.database.close()
    assert [delivery.event["resourceId"] for delivery in receiver.deliveries] == names


async def test_what_a_dead_coordinator_did_not_store_is_sent_again(
    operator: Api, runtime: Runtime, receiver: Receiver
) -> None:
    webhook_id = create(operator, receiver)["webhookId"]
    tell(runtime, "a")
    with runtime.database.write() as session:
        row = session.get_one(Webhook, webhook_id)
        row.lease_owner, row.lease_expires_at = "sender-dead", runtime.now() + timedelta(seconds=0.5)
        session.add(row)
    runtime.events.position = runtime.events._recent_after = 0
    async with sending(runtime):
        [delivery] = await asyncio.to_thread(receiver.wait_for, 1)
    assert delivery.event["resourceId"] == "a"
    assert row_of(runtime, webhook_id).lease_owner == ""


async def test_nothing_is_sent_into_the_own_network(operator: Api, runtime: Runtime, receiver: Receiver) -> None:
    runtime.settings.allow_private_webhook_urls = False
    webhook_id = create(operator, receiver)["webhookId"]
    answer = operator.ok("POST", f"{WEBHOOKS}/{webhook_id}/test")
    assert (answer["delivered"], answer["status"]) == (False, 0)
    assert "private network" in answer["error"]
    assert receiver.deliveries == []


def test_a_test_tells_how_it_was_answered(operator: Api, receiver: Receiver) -> None:
    receiver.statuses = [204, 410]
    webhook_id = create(operator, receiver)["webhookId"]
    path = f"{WEBHOOKS}/{webhook_id}/test"
    assert operator.ok("POST", path) == {"delivered": True, "status": 204, "error": ""}
    assert operator.ok("POST", path) == {"delivered": False, "status": 410, "error": "it answers 410"}
    first = receiver.deliveries[0]
    assert first.is_signed_with(SECRET)
    assert (first.event["kind"], first.event["resourceId"]) == ("webhook.test", webhook_id)


@pytest.mark.parametrize("is_trusted", [True, False])
def test_receivers_show_a_certificate_that_the_machine_trusts(
    operator: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_trusted: bool
) -> None:
    identity = CoordinatorIdentity(Authority.open(tmp_path / "own"), tmp_path / "own", ["127.0.0.1"])
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(identity.path)
    trusted = identity.ca_pem if is_trusted else Authority.open(tmp_path / "other").pem
    (tmp_path / "ca.pem").write_bytes(trusted)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    webhook_call._trust_of_system.cache_clear()
    with receiving(tls) as receiver:
        webhook_id = create(operator, receiver)["webhookId"]
        answer = operator.ok("POST", f"{WEBHOOKS}/{webhook_id}/test")
    webhook_call._trust_of_system.cache_clear()
    assert (answer["delivered"], "CERTIFICATE_VERIFY_FAILED" in answer["error"]) == (is_trusted, not is_trusted)


def test_nobody_who_answers_is_told_why(operator: Api) -> None:
    webhook_id = operator.ok("POST", WEBHOOKS, {"url": "http://127.0.0.1:1/"})["webhookId"]
    answer = operator.ok("POST", f"{WEBHOOKS}/{webhook_id}/test")
    assert (answer["delivered"], answer["error"].split(":")[0]) == (False, "ConnectError")


def test_webhooks_are_made_shown_and_deleted(operator: Api, runtime: Runtime, receiver: Receiver) -> None:
    made = operator.ok("POST", WEBHOOKS, {"url": receiver.url, "kinds": ["ha.*"]})
    secret = made.pop("secret")
    assert secret.startswith("whsec_")
    assert secret not in row_of(runtime, made["webhookId"]).secret_encrypted
    assert runtime.secrets.decrypt(row_of(runtime, made["webhookId"]).secret_encrypted) == secret
    assert operator.ok("GET", WEBHOOKS) == {"list": [made], "totalCount": 1}
    assert operator.ok("GET", f"{WEBHOOKS}?filter=url:lk:nothing")["totalCount"] == 0
    operator.ok("DELETE", f"{WEBHOOKS}/{made['webhookId']}")
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/test"), ("POST", "/enable")):
        answer = operator.refused(method, f"{WEBHOOKS}/{made['webhookId']}{path}")
        assert answer.code == "ECS.DBGet.NoData"


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"url": ""}, "url"),
        ({"url": "ftp://example.com"}, "url"),
        ({"url": "https://me:secret@example.com"}, "url"),
        ({"url": "https://example.com", "kinds": ["Instance"]}, "kinds"),
        ({"url": "https://example.com", "secret": "short"}, "secret"),
        ({"url": "https://example.com", "severity": "loud"}, "severity"),
        ({"url": "https://example.com", "tenantId": "1"}, "tenantId"),
    ],
)
def test_what_makes_no_sense_is_refused(operator: Api, fields: dict[str, Any], field: str) -> None:
    assert operator.refused("POST", WEBHOOKS, fields).message.startswith(field)


def test_webhooks_are_for_operators(customer: Api, auditor: Api, operator: Api, receiver: Receiver) -> None:
    webhook_id = create(operator, receiver)["webhookId"]
    for path in ("", f"/{webhook_id}/test", f"/{webhook_id}/enable"):
        for api in (customer, auditor):
            assert api.refused("POST", f"{WEBHOOKS}{path}", {"url": "https://a.example"}).code.endswith("Identity")
    assert customer.refused("GET", WEBHOOKS).code.endswith("Identity")
    assert auditor.ok("GET", WEBHOOKS)["totalCount"] == 1


def test_there_is_an_end_to_webhooks(operator: Api, runtime: Runtime) -> None:
    with runtime.database.write() as session:
        for number in range(100):
            session.add(Webhook(id=f"wh-{number}", url="https://a", least_severity="info", secret_encrypted=""))
    assert operator.refused("POST", WEBHOOKS, {"url": "https://a.example"}).code.endswith("QuotaExceeded")
