"""Passwords and host names of guests over REST."""

from typing import Any

import grpc
import pytest
from passlib.hash import sha512_crypt

from coordinator.store.tables import Instance, Task
from tests.api.client import Api
from tests.api.cloud import INSTANCES, Cloud, finish
from tests.database import BOTH_DATABASES, SQLITE_ONLY
from tests.scripted_agent import Refusal, ScriptedAgent
from tests.scripted_guest import ScriptedGuest

PASSWORD = "Secret,1234"
_UNAVAILABLE = Refusal(grpc.StatusCode.FAILED_PRECONDITION, "GuestAgentUnavailable")


@pytest.fixture
def guest(agent: ScriptedAgent) -> ScriptedGuest:
    agent.guest = made = ScriptedGuest()
    return made


@pytest.fixture
def path(customer: Api, cloud: Cloud, guest: ScriptedGuest) -> str:
    """A running instance."""
    return f"{INSTANCES}/{cloud.create(customer, password='First,1234')}"


def stop(api: Api, path: str) -> None:
    assert finish(api, api.call("PUT", f"{path}/stop", {"gracePeriodSeconds": 0}))["state"] == "Succeeded"


def test_a_password_is_set_in_the_guest_before_the_call_is_answered(
    customer: Api, cloud: Cloud, guest: ScriptedGuest, path: str
) -> None:
    assert customer.ok("POST", f"{path}/reset-password", {"user": "debian", "password": PASSWORD}) is None
    assert guest.passwords == {"debian": PASSWORD}
    [row] = cloud.rows(Instance)
    assert sha512_crypt.verify("First,1234", row.password_hash)


def test_root_s_new_password_is_the_seed_s_as_well(
    customer: Api, cloud: Cloud, guest: ScriptedGuest, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    customer.ok("POST", f"{path}/reset-password", {"user": "root", "password": PASSWORD})
    [row] = cloud.rows(Instance)
    assert sha512_crypt.verify(PASSWORD, row.password_hash)
    assert PASSWORD not in capsys.readouterr().out
    assert PASSWORD not in str([task.model_dump() for task in cloud.rows(Task)])


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"password": "short"}, "ECS.InvalidParameter.Password.ValueNotSupported"),
        ({"password": "onlylowercase"}, "ECS.InvalidParameter.Password.ValueNotSupported"),
        ({"password": "Übel,1234"}, "ECS.InvalidParameter.Password.ValueNotSupported"),
        ({"password": None}, "ECS.InvalidParameter.Password.ValueNotSupported"),
        ({"password": ""}, "ECS.InvalidParameter.Password.ValueNotSupported"),
        ({"user": "two words"}, "ECS.InvalidParameter"),
        ({"user": "-x"}, "ECS.InvalidParameter"),
        ({"user": "x" * 33}, "ECS.InvalidParameter"),
        ({"user": ["root"]}, "ECS.InvalidParameter"),
        ({"user": "nobody-here"}, "ECS.OperationFailed.ExecCmd"),
        ({"user": "", "password": "longer than eight"}, "ECS.InvalidParameter.Password.ValueNotSupported"),
    ],
)
def test_a_password_that_cannot_be_set_is_refused(
    customer: Api, guest: ScriptedGuest, path: str, fields: dict[str, Any], code: str
) -> None:
    body = {"user": "root", "password": PASSWORD, **fields}
    assert customer.refused("POST", f"{path}/reset-password", body).code == code
    assert guest.passwords == {}


def test_a_password_needs_a_guest_that_answers(customer: Api, stranger: Api, agent: ScriptedAgent, path: str) -> None:
    body = {"user": "root", "password": PASSWORD}
    assert stranger.refused("POST", f"{path}/reset-password", body).code == "ECS.DBGet.NoData"
    agent.refusals["run_guest_command"] = _UNAVAILABLE
    assert customer.refused("POST", f"{path}/reset-password", body).code == "ECS.OperationDenied.Vmtools"
    customer.ok("PUT", f"{path}/lock", {"isLock": True})
    assert "locked" in customer.refused("POST", f"{path}/reset-password", body).message
    customer.ok("PUT", f"{path}/lock", {"isLock": False})
    stop(customer, path)
    answer = customer.refused("POST", f"{path}/reset-password", body)
    assert answer.code == "ECS.InvalidParameter.Status.NotSupported"


def test_without_a_user_it_is_the_password_of_the_screen(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, path: str
) -> None:
    answer = customer.call("POST", f"{path}/reset-password", {"password": "screen12"})
    assert finish(customer, answer)["state"] == "Succeeded"
    [spec] = agent.specs.values()
    assert spec.graphics.vnc_password == "screen12"
    assert customer.ok("GET", path)["vncPwdEnable"] is True
    stop(customer, path)
    assert "x-operation-id" not in customer.call("POST", f"{path}/reset-password", {"password": "other123"}).headers
    finish(customer, customer.call("PUT", f"{path}/start"))
    assert agent.specs.popitem()[1].graphics.vnc_password == "other123"


@BOTH_DATABASES
def test_a_running_guest_has_its_new_host_name_at_once(
    customer: Api, cloud: Cloud, agent: ScriptedAgent, guest: ScriptedGuest, path: str
) -> None:
    operation = finish(customer, customer.call("PUT", f"{path}/reset-hostname", {"hostname": "Test-LXR"}))
    assert (operation["state"], guest.host_name) == ("Succeeded", "test-lxr")
    assert customer.ok("GET", path)["hostName"] == "Test-LXR"
    stop(customer, path)
    finish(customer, customer.call("PUT", f"{path}/start"))
    assert agent.specs.popitem()[1].cloud_init.hostname == "test-lxr"


def test_one_that_is_off_has_it_with_its_next_start(
    customer: Api, agent: ScriptedAgent, guest: ScriptedGuest, path: str
) -> None:
    stop(customer, path)
    answer = customer.call("PUT", f"{path}/reset-hostname", {"hostname": "later"})
    assert (answer.code, "x-operation-id" in answer.headers) == ("Success", False)
    finish(customer, customer.call("PUT", f"{path}/start"))
    assert agent.specs.popitem()[1].cloud_init.hostname == "later"
    assert guest.sent == []


@SQLITE_ONLY
@pytest.mark.parametrize("name", ["", "-x", "x-", "a.b", "a_b", "主机", "12345", "x" * 64, "a b", None, ["x"]])
def test_a_host_name_that_dns_does_not_take_is_refused(
    customer: Api, guest: ScriptedGuest, path: str, name: Any
) -> None:
    answer = customer.refused("PUT", f"{path}/reset-hostname", {"hostname": name})
    assert (answer.code, "hostname" in answer.message) == ("ECS.InvalidParameter", True)
    assert guest.sent == []


def test_a_guest_that_keeps_its_host_name_makes_the_operation_fail(
    customer: Api, agent: ScriptedAgent, guest: ScriptedGuest, path: str
) -> None:
    guest.enabled.discard("guest-exec")
    error = finish(customer, customer.call("PUT", f"{path}/reset-hostname", {"hostname": "other"}))["error"]
    assert error["code"] == "ECS.OperationFailed.ResetHostName"
    agent.refusals["run_guest_command"] = _UNAVAILABLE
    error = finish(customer, customer.call("PUT", f"{path}/reset-hostname", {"hostname": "other"}))["error"]
    assert error["code"] == "ECS.OperationDenied.Vmtools"
    assert customer.ok("GET", path)["hostName"] == "web"
