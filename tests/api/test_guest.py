"""Commands to the guest agent over REST, with an agent that answers as the test says."""

import json
from contextlib import ExitStack
from typing import Any

import grpc
import pytest

from coordinator.runtime import Runtime
from coordinator.store.tables import Tenant
from tests.api.client import Api
from tests.api.cloud import INSTANCES, Cloud
from tests.database import BOTH_DATABASES, SQLITE_ONLY
from tests.scripted_agent import Refusal, ScriptedAgent


@pytest.fixture
def path(customer: Api, cloud: Cloud, agent: ScriptedAgent) -> str:
    """Where commands to a running instance go."""
    return f"{INSTANCES}/{cloud.create(customer)}/vmtools"


@pytest.mark.parametrize(
    ("command", "sent"),
    [
        ("guest-info", {"execute": "guest-info"}),
        ('{"execute": "guest-ping"}', {"execute": "guest-ping"}),
        ({"command": "guest-info"}, {"execute": "guest-info"}),
        (
            {"execute": "guest-exec", "arguments": {"path": "/bin/true"}},
            {"execute": "guest-exec", "arguments": {"path": "/bin/true"}},
        ),
    ],
)
def test_a_command_reaches_the_guest_agent_as_it_is(
    customer: Api, path: str, agent: ScriptedAgent, command: Any, sent: dict[str, Any]
) -> None:
    agent.guest_answer = '{"pid": 7}'
    assert customer.ok("PUT", path, {"qgaCommand": command}) == {"pid": 7}
    assert [json.loads(text) for text in agent.guest_commands] == [sent]


def test_a_sync_without_a_number_gets_one(customer: Api, path: str, agent: ScriptedAgent) -> None:
    agent.guest_answer = "42"
    assert customer.ok("PUT", path, {"qgaCommand": {"command": "guest-sync"}}) == 42
    assert isinstance(json.loads(agent.guest_commands[0])["arguments"]["id"], int)


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (Refusal(grpc.StatusCode.FAILED_PRECONDITION, "GuestAgentUnavailable"), "ECS.OperationDenied.Vmtools"),
        (Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, "GuestAgentTimeout"), "ECS.OperationDenied.Vmtools"),
        (Refusal(grpc.StatusCode.ABORTED, "GuestAgentCommandFailed"), "ECS.OperationFailed.ExecCmd"),
        (Refusal(grpc.StatusCode.PERMISSION_DENIED, "GuestAgentCommandForbidden"), "ECS.OperationFailed.ExecCmd"),
        (Refusal(grpc.StatusCode.UNAVAILABLE, ""), "ECS.OperationDenied.Disconnection"),
    ],
)
def test_failures_have_their_documented_codes(
    customer: Api, path: str, agent: ScriptedAgent, refusal: Refusal, code: str
) -> None:
    agent.refusals["run_guest_command"] = refusal
    answer = customer.refused("PUT", path, {"qgaCommand": "guest-info"})
    assert (answer.code, "injected" in answer.message) == (code, True)


@SQLITE_ONLY
@pytest.mark.parametrize("command", ["", "{", "[1]", {}, {"execute": 7}, {"execute": "x", "arguments": []}, 7, None])
def test_what_is_no_command_is_refused(customer: Api, path: str, agent: ScriptedAgent, command: Any) -> None:
    answer = customer.refused("PUT", path, {"qgaCommand": command})
    assert (answer.code, "qgaCommand" in answer.message) == ("ECS.InvalidParameter", True)
    assert agent.guest_commands == []


@BOTH_DATABASES
def test_the_allow_list_binds_tenants(
    customer: Api, operator: Api, path: str, agent: ScriptedAgent, cloud: Cloud
) -> None:
    cloud.runtime.settings.guest_commands = ["guest-info"]
    customer.ok("PUT", path, {"qgaCommand": "guest-info"})
    answer = customer.refused("PUT", path, {"qgaCommand": "guest-exec"})
    assert (answer.code, "guest-exec" in answer.message) == ("ECS.OperationDenied.Identity", True)
    operator.ok("PUT", path, {"qgaCommand": "guest-exec"})


def test_a_locked_instance_answers_questions_only(customer: Api, path: str, agent: ScriptedAgent) -> None:
    customer.ok("PUT", path.replace("/vmtools", "/lock"), {"isLock": True})
    customer.ok("PUT", path, {"qgaCommand": "guest-info"})
    assert "locked" in customer.refused("PUT", path, {"qgaCommand": "guest-shutdown"}).message


def test_only_a_running_instance_is_asked(customer: Api, path: str, agent: ScriptedAgent, cloud: Cloud) -> None:
    ecs_id = customer.ok("POST", INSTANCES, cloud.order(cpus=200, flavorId=cloud.custom_flavor.flavor_id))["ecsId"]
    answer = customer.refused("PUT", f"{INSTANCES}/{ecs_id}/vmtools", {"qgaCommand": "guest-info"})
    assert answer.code == "ECS.InvalidParameter.Status.NotSupported"


def test_a_tenant_with_too_many_commands_under_way_is_told_so(
    customer: Api, path: str, agent: ScriptedAgent, runtime: Runtime, tenant: Tenant
) -> None:
    agent.guest_answer = "{}"
    with ExitStack() as under_way:
        for _ in range(8):
            under_way.enter_context(runtime.guest_calls.hold(tenant.id))
        customer.refused("PUT", path, {"qgaCommand": "guest-ping"}, status=429)
        with runtime.guest_calls.hold("another tenant"):
            pass
    assert customer.ok("PUT", path, {"qgaCommand": "guest-ping"}) == {}


def test_a_guest_that_answers_no_number_is_passed_on_as_text(customer: Api, path: str, agent: ScriptedAgent) -> None:
    agent.guest_answer = '{"load": NaN}'
    assert customer.ok("PUT", path, {"qgaCommand": "guest-info"}) == {"load": "NaN"}
