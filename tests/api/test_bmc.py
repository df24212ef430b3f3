"""Management controllers of nodes: set, shown without the password, asked, forgotten."""

from typing import Any

import pytest

from coordinator.fencing.node import read_subject
from coordinator.store.tables import Bmc, Node
from tests.api.client import Api
from tests.api.cloud import Cloud
from tests.database import SQLITE_ONLY

REDFISH = {
    "kind": "redfish",
    "address": "https://198.51.100.7",
    "username": "admin",
    "password": "hush",
    "verifyTls": False,
}


@pytest.fixture
def path(cloud: Cloud) -> str:
    return f"/api/ecs/v1/nodes/{cloud.node.id}/bmc"


def test_what_is_set_is_shown_but_for_the_password(operator: Api, cloud: Cloud, path: str) -> None:
    made = operator.ok("PUT", path, REDFISH)
    assert {name: made[name] for name in ("nodeId", "kind", "address", "username", "verifyTls")} == {
        "nodeId": cloud.node.id,
        "kind": "redfish",
        "address": "https://198.51.100.7",
        "username": "admin",
        "verifyTls": False,
    }
    assert operator.ok("GET", path) == made
    assert "hush" not in str(made)
    [row] = cloud.rows(Bmc)
    assert "hush" not in row.password_encrypted


def test_fences_get_what_was_set_last(operator: Api, cloud: Cloud, path: str) -> None:
    operator.ok("PUT", path, REDFISH)
    operator.ok("PUT", path, {"kind": "ipmi", "address": "198.51.100.8:6230", "username": "root", "password": "secret"})
    with cloud.runtime.database.read() as session:
        access = read_subject(session, cloud.runtime.secrets, cloud.node.id).bmc
    assert access is not None
    assert (access.kind, access.address, access.username, access.password, access.verify_tls) == (
        "ipmi",
        "198.51.100.8:6230",
        "root",
        "secret",
        True,
    )
    assert "secret" not in repr(access)


def test_it_can_be_forgotten_once(operator: Api, path: str) -> None:
    operator.ok("PUT", path, REDFISH)
    operator.ok("DELETE", path)
    for method in ("GET", "DELETE"):
        assert operator.refused(method, path).code == "ECS.DBGet.NoData"
    assert operator.refused("POST", f"{path}/test").code == "ECS.DBGet.NoData"


def test_a_controller_that_does_not_answer_is_told_with_the_reason(operator: Api, path: str) -> None:
    operator.ok("PUT", path, {**REDFISH, "address": "http://127.0.0.1:1"})
    answer = operator.refused("POST", f"{path}/test")
    assert answer.code == "ECS.OperationFailed.Bmc"
    assert "127.0.0.1:1" in answer.message
    assert "hush" not in answer.message


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"kind": "ilo"}, "kind"),
        ({"address": ""}, "address"),
        ({"address": "ftp://198.51.100.7"}, "address"),
        ({"address": "https://"}, "address"),
        ({"address": "https://admin:hush@198.51.100.7"}, "address"),
        ({"address": "https://198.51.100.7:port"}, "address"),
        ({"kind": "ipmi", "address": "https://198.51.100.7"}, "address"),
        ({"kind": "ipmi", "address": "198.51.100.7:port"}, "address"),
        ({"kind": "ipmi", "address": ":623"}, "address"),
        ({"username": ""}, "username"),
        ({"password": None}, "password"),
        ({"password": "x" * 128}, "password"),
    ],
)
def test_what_cannot_be_is_named(operator: Api, cloud: Cloud, path: str, change: dict[str, Any], named: str) -> None:
    answer = operator.refused("PUT", path, {**REDFISH, **change})
    assert answer.code.startswith("ECS.InvalidParameter")
    assert answer.message.split(":")[0] == named
    assert cloud.rows(Bmc) == []


def test_the_longest_password_is_kept(operator: Api, cloud: Cloud, path: str) -> None:
    operator.ok("PUT", path, {**REDFISH, "password": "密" * 127})
    with cloud.runtime.database.read() as session:
        access = read_subject(session, cloud.runtime.secrets, cloud.node.id).bmc
    assert access is not None
    assert access.password == "密" * 127


def test_a_node_that_does_not_exist_has_none(operator: Api, cloud: Cloud) -> None:
    assert [row.id for row in cloud.rows(Node)] == [cloud.node.id]
    assert operator.refused("PUT", "/api/ecs/v1/nodes/node-x/bmc", REDFISH).code == "ECS.DBGet.NoData"


def test_only_operators_change_and_test_it(operator: Api, auditor: Api, customer: Api, path: str) -> None:
    operator.ok("PUT", path, REDFISH)
    auditor.ok("GET", path)
    for method, where, body in (("PUT", path, REDFISH), ("DELETE", path, None), ("POST", f"{path}/test", None)):
        assert auditor.refused(method, where, body).code == "ECS.OperationDenied.Identity"
        assert customer.refused(method, where, body).code == "ECS.OperationDenied.Identity"
    assert customer.refused("GET", path).code == "ECS.OperationDenied.Identity"
