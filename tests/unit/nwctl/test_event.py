"""Events, webhooks and the audit log at the command line."""

import json
from typing import Any

import pytest

from nwctl.command import event as command
from tests.unit.nwctl.conftest import Nwctl, data_of
from tests.unit.nwctl.standin import Reply, StandIn

EVENTS, LIST = "/api/ecs/v1/events", "/api/ecs/v1/events/list"
WEBHOOKS, WEBHOOK_ID = "/api/ecs/v1/webhooks", "wh-" + "a" * 14
WEBHOOK = {"webhookId": WEBHOOK_ID, "url": "https://a.example", "kinds": []}


def an_event(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "id": number,
        "at": "2026-03-14T09:26:53.589Z",
        "kind": "instance.status_changed",
        "severity": "info",
        "resourceType": "instance",
        "resourceId": "ecs-1",
        "nodeId": "node-1",
        "data": {"from": "Starting", "to": "Running", "reason": ""},
        **fields,
    }


def a_stream(*events: dict[str, Any]) -> Reply:
    told = "".join(f"id: {it['id']}\nevent: {it['kind']}\ndata: {json.dumps(it)}\n\n" for it in events)
    return Reply(text=f"retry: 2000\n\n: nothing new\n\n{told}", headers={"content-type": "text/event-stream"})


GONE = Reply(status=401, code="ECS.OperationDenied.AuthFail", message="unknown")


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "FIRST_PAUSE_SECONDS", 0.01)


def test_the_latest_events_are_shown_the_newest_last(coordinator: StandIn, nwctl: Nwctl) -> None:
    alarm = an_event(8, kind="alarm.a", data={"url": "x"}, nodeId=None)
    coordinator.on("GET", LIST, {"list": [alarm, an_event(7)], "totalCount": 2})
    first, second = nwctl(
        "events", "--kind", "alarm.*", "--kind", "instance.*", "--severity", "info"
    ).stdout.splitlines()
    assert first.endswith("7  info     instance.status_changed  ecs-1 on node-1  Starting -> Running")
    assert second.endswith('alarm.a  ecs-1  url="x"')
    [asked] = coordinator.asked("GET", LIST)
    assert asked.query == {"kind": "alarm.*,instance.*", "severity": "info", "pageSize": "50"}


def test_events_after_one_are_shown_in_their_order(coordinator: StandIn, nwctl: Nwctl) -> None:
    page = {"list": [an_event(7), an_event(8)], "totalCount": 2}
    coordinator.on("GET", LIST, page)
    shown = nwctl("events", "--after", "6", "--resource", "ecs-1", "--limit", "5").stdout.splitlines()
    assert ["  7  " in shown[0], "  8  " in shown[1]] == [True, True]
    assert coordinator.asked("GET", LIST)[0].query == {"after": "6", "resource": "ecs-1", "pageSize": "5"}
    assert data_of(nwctl("events", "--json")) == page


def test_a_reason_is_told_without_driving_the_terminal(coordinator: StandIn, nwctl: Nwctl) -> None:
    data = {"from": None, "to": "Unknown", "reason": "gone\x1b[2J\nreally"}
    coordinator.on("GET", LIST, {"list": [an_event(1, data=data)], "totalCount": 1})
    [line] = nwctl("events").stdout.splitlines()
    assert line.endswith("- -> Unknown: gone\N{REPLACEMENT CHARACTER}[2J really")


def test_events_are_followed_across_broken_connections(coordinator: StandIn, nwctl: Nwctl) -> None:
    coordinator.on("GET", LIST, {"list": [an_event(5)], "totalCount": 1})
    coordinator.on(
        "GET",
        EVENTS,
        a_stream(an_event(6), an_event(7)),
        Reply(status=0),
        Reply(status=503),
        a_stream(an_event(8)),
        GONE,
    )
    result = nwctl("events", "--follow", "--json", "--kind", "instance.*")
    assert result.exit_code == 3
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == [6, 7, 8]
    assert [asked.query["after"] for asked in coordinator.asked("GET", EVENTS)] == ["5", "7", "7", "7", "8"]
    assert {asked.query["kind"] for asked in coordinator.asked("GET", EVENTS)} == {"instance.*"}


def test_following_begins_where_it_is_told_to(coordinator: StandIn, nwctl: Nwctl) -> None:
    coordinator.on("GET", EVENTS, a_stream(an_event(3)), GONE)
    assert "Starting -> Running" in nwctl("events", "-f", "--after", "2").stdout
    assert coordinator.asked("GET", LIST) == []
    assert [asked.query["after"] for asked in coordinator.asked("GET", EVENTS)] == ["2", "3"]


def test_a_refused_stream_is_an_error(coordinator: StandIn, nwctl: Nwctl) -> None:
    coordinator.on("GET", EVENTS, Reply(status=400, code="ECS.InvalidParameter", message="kind: no"))
    result = nwctl("events", "-f", "--after", "2", "--kind", "X")
    assert (result.exit_code, "kind: no" in result.stderr) == (1, True)


def test_a_webhook_is_made_and_its_secret_shown_once(coordinator: StandIn, nwctl: Nwctl) -> None:
    coordinator.on("POST", WEBHOOKS, {**WEBHOOK, "secret": "whsec_x"})
    made = nwctl("webhook", "create", "https://a.example", "--kind", "migration.*", "--severity", "warning")
    assert made.stdout == "whsec_x\n"
    [asked] = coordinator.asked("POST", WEBHOOKS)
    assert asked.body == {"url": "https://a.example", "kinds": ["migration.*"], "severity": "warning"}
    assert "idempotency-key" not in asked.headers


def test_a_webhook_takes_a_secret_of_ones_own(coordinator: StandIn, nwctl: Nwctl) -> None:
    tenant_id = "1" * 19
    coordinator.on("POST", WEBHOOKS, {**WEBHOOK, "secret": "0123456789abcdef"})
    made = nwctl("webhook", "create", "https://a", "--secret", "--tenant", tenant_id, stdin="0123456789abcdef\n")
    assert "0123456789abcdef" not in made.stdout + made.stderr
    body = coordinator.asked("POST", WEBHOOKS)[0].body
    assert (body["secret"], body["tenantId"]) == ("0123456789abcdef", tenant_id)


def test_webhooks_are_shown_enabled_and_deleted_by_url(coordinator: StandIn, nwctl: Nwctl) -> None:
    coordinator.on("GET", WEBHOOKS, {"list": [WEBHOOK], "totalCount": 1})
    coordinator.on("POST", f"{WEBHOOKS}/{WEBHOOK_ID}/enable", WEBHOOK)
    coordinator.on("DELETE", f"{WEBHOOKS}/{WEBHOOK_ID}")
    assert data_of(nwctl("webhook", "show", "https://a.example", "--json")) == WEBHOOK
    for verb in ("enable", "delete"):
        assert nwctl("webhook", verb, "https://a.example").exit_code == 0


@pytest.mark.parametrize(
    ("answer", "exit_status", "told"),
    [
        ({"delivered": True, "status": 204, "error": ""}, 0, "answers 204"),
        ({"delivered": False, "status": 0, "error": "ConnectError: no"}, 6, "ConnectError: no"),
    ],
)
def test_a_webhook_is_tested(
    coordinator: StandIn, nwctl: Nwctl, answer: dict[str, Any], exit_status: int, told: str
) -> None:
    coordinator.on("POST", f"{WEBHOOKS}/{WEBHOOK_ID}/test", answer)
    result = nwctl("webhook", "test", WEBHOOK_ID)
    assert (result.exit_code, told in result.stderr) == (exit_status, True)
    assert json.loads(nwctl("webhook", "test", WEBHOOK_ID, "--json").stdout) == answer


def test_the_audit_log_is_listed(coordinator: StandIn, nwctl: Nwctl) -> None:
    row = {"callerId": "tok-1", "operation": "deleteInstance", "resources": ["ecs-1", "op-1"], "status": 200}
    coordinator.on("GET", "/api/ecs/v1/audit", {"list": [row], "totalCount": 1})
    shown = nwctl("audit", "list", "--filter", "role:eq:operator").stdout
    assert "ecs-1, op-1" in shown
    assert coordinator.asked("GET", "/api/ecs/v1/audit")[0].query["filter"] == "role:eq:operator"
