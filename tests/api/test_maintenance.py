"""Nodes that are emptied: the plan, the moves, and what keeps an instance."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.domain.instance import InstanceStatus
from coordinator.store.tables import Allocation, Instance, Migration, Node
from tests.api.client import Api
from tests.api.cloud import INSTANCES, Cloud, finish
from tests.builders import a_node, add, an_inventory
from tests.lab.waiting import wait_until
from tests.scripted_agent import Refusal, ScriptedAgent, all_at_work

NODES = "/api/ecs/v1/nodes"
MAINTENANCE = f"{NODES}/maintenance"


@pytest.fixture
def other(cloud: Cloud) -> Node:
    node = a_node("node-b")
    with cloud.runtime.database.write() as session:
        add(session, node, *an_inventory(node))
    return node


@pytest.fixture
def agents(cloud: Cloud, other: Node, tmp_path: Path) -> Iterator[list[ScriptedAgent]]:
    with all_at_work(cloud.runtime, [cloud.node, other], tmp_path / "pki") as agents:
        agents[0].peer, agents[1].peer = agents[1], agents[0]
        yield agents


def drain(api: Api, node: Node, **fields: Any) -> Any:
    return api.call("PUT", MAINTENANCE, {"nodeName": node.name, "maintenance": True, **fields})


def fates(answer: Any) -> dict[str, str]:
    return {it["displayName"]: it["fate"] for it in answer.data["instances"]}


def nodes_of(cloud: Cloud) -> dict[str, str | None]:
    return {row.display_name: row.node_id for row in cloud.rows(Instance)}


def test_what_runs_moves_and_what_is_off_stays(
    customer: Api, operator: Api, cloud: Cloud, other: Node, agents: list[ScriptedAgent]
) -> None:
    for name in ("web", "db", "off"):
        cloud.create(customer, displayName=name, hostId=cloud.node.id)
    off = next(row for row in cloud.rows(Instance) if row.display_name == "off")
    finish(customer, customer.call("PUT", f"{INSTANCES}/{off.ecs_id}/stop", {"gracePeriodSeconds": 0}))
    planned = drain(operator, cloud.node, dryRun=True)
    assert fates(planned) == {"web": "moves", "db": "moves", "off": "stays"}
    assert "x-operation-id" not in planned.headers
    assert cloud.rows(Migration) == []
    assert not {it["inMaintenance"] for it in operator.ok("GET", NODES)["list"]} - {False}

    answer = drain(operator, cloud.node)
    assert fates(answer) == fates(planned)
    operation = finish(operator, answer)
    assert (operation["state"], operation["kind"]) == ("Succeeded", "drain_node"), operation
    assert nodes_of(cloud) == {"web": other.id, "db": other.id, "off": cloud.node.id}
    shown = {it["name"]: it["inMaintenance"] for it in operator.ok("GET", NODES)["list"]}
    assert shown == {cloud.node.name: True, "node-b": False}
    refused = customer.call("POST", INSTANCES, cloud.order(hostId=cloud.node.id, displayName="late"))
    assert customer.ok("GET", f"{INSTANCES}/{refused.data['ecsId']}")["status"] == "ErrorUnschedulable"

    again = drain(operator, cloud.node)
    assert (fates(again), again.data["operationId"]) == ({"off": "stays"}, "")
    operator.ok("PUT", MAINTENANCE, {"nodeName": cloud.node.name, "maintenance": False})
    cloud.create(customer, displayName="late", hostId=cloud.node.id)


def test_nothing_moves_while_something_cannot(
    customer: Api, operator: Api, cloud: Cloud, agents: list[ScriptedAgent]
) -> None:
    cloud.create(customer, displayName="web", hostId=cloud.node.id)
    pinned = cloud.create(customer, displayName="pinned", hostId=cloud.node.id, evictionStrategy="None")
    locked = cloud.create(customer, displayName="locked", hostId=cloud.node.id)
    customer.ok("PUT", f"{INSTANCES}/{locked}/lock", {"isLock": True})
    before = len(cloud.rows(Allocation))
    answer = drain(operator, cloud.node)
    assert answer.code == "ECS.OperationDenied.NotEvictable"
    assert pinned in answer.message
    assert locked in answer.message
    assert "evictionStrategy" in answer.message
    assert (len(cloud.rows(Allocation)), cloud.rows(Migration)) == (before, [])
    assert not any(it["inMaintenance"] for it in operator.ok("GET", NODES)["list"])
    assert customer.ok("GET", f"{INSTANCES}/{pinned}")["evictionStrategy"] == "None"
    forced = drain(operator, cloud.node, force=True)
    assert fates(forced) == {"web": "moves", "pinned": "blocks", "locked": "blocks"}
    assert finish(operator, forced)["state"] == "Succeeded"
    assert len(set(nodes_of(cloud).values())) == 2


def test_what_hibernates_moves_if_it_can_and_holds_nobody_up(
    customer: Api, operator: Api, cloud: Cloud, other: Node, agents: list[ScriptedAgent]
) -> None:
    for name, strategy in (("asleep", "LiveMigrate"), ("held", "None")):
        ecs_id = cloud.create(customer, displayName=name, hostId=cloud.node.id, evictionStrategy=strategy)
        finish(customer, customer.call("PUT", f"{INSTANCES}/{ecs_id}/hibernate"))
    answer = drain(operator, cloud.node)
    assert fates(answer) == {"asleep": "moves", "held": "stays"}
    assert finish(operator, answer)["state"] == "Succeeded"
    assert nodes_of(cloud) == {"asleep": other.id, "held": cloud.node.id}
    assert {row.status for row in cloud.rows(Instance)} == {InstanceStatus.HIBERNATED}


def test_it_never_moves_to_nodes_in_maintenance_or_beyond_their_room(
    customer: Api, operator: Api, cloud: Cloud, other: Node, agents: list[ScriptedAgent]
) -> None:
    cloud.create(customer, displayName="web", hostId=cloud.node.id)
    assert drain(operator, other).data == {"nodeName": "node-b", "operationId": "", "instances": []}
    answer = drain(operator, cloud.node)
    assert answer.code == "ECS.OperationDenied.NotEvictable"
    assert "closed" in answer.message or "停止调度" in answer.message


def test_a_drain_that_is_cancelled_leaves_all_that_has_not_moved(
    customer: Api, operator: Api, cloud: Cloud, agents: list[ScriptedAgent]
) -> None:
    for name in ("web", "db", "more"):
        cloud.create(customer, displayName=name, hostId=cloud.node.id)
    agents[0].gates["move"] = threading.Event()
    answer = drain(operator, cloud.node)
    wait_until(lambda: len(agents[0].orders) == 2, "two are under way")
    assert drain(operator, cloud.node).code == "ECS.InvalidParameter.Status.NotSupported"
    operator.ok("DELETE", f"/api/ecs/v1/operations/{answer.headers['x-operation-id']}")
    assert finish(operator, answer)["state"] == "Canceled"
    assert set(nodes_of(cloud).values()) == {cloud.node.id}
    assert {row.state for row in cloud.rows(Migration)} == {"Canceled"}
    assert {row.status for row in cloud.rows(Instance)} == {InstanceStatus.RUNNING}


def test_ending_the_maintenance_cancels_what_still_moves(
    customer: Api, operator: Api, cloud: Cloud, agents: list[ScriptedAgent]
) -> None:
    cloud.create(customer, displayName="web", hostId=cloud.node.id)
    agents[0].gates["move"] = threading.Event()
    answer = drain(operator, cloud.node)
    wait_until(lambda: agents[0].orders, "it is under way")
    operator.ok("PUT", MAINTENANCE, {"nodeName": cloud.node.name, "maintenance": False})
    assert finish(operator, answer)["state"] == "Canceled"
    assert set(nodes_of(cloud).values()) == {cloud.node.id}


def test_who_did_not_make_it_is_named(customer: Api, operator: Api, cloud: Cloud, agents: list[ScriptedAgent]) -> None:
    ecs_id = cloud.create(customer, displayName="web", hostId=cloud.node.id)
    agents[1].refusals["prepare_incoming"] = Refusal(code="GuestIncompatible", message="the CPU lacks avx9")
    operation = finish(operator, drain(operator, cloud.node))
    assert operation["state"] == "Failed"
    assert ecs_id in operation["error"]["message"]
    assert "avx9" in operation["error"]["message"]


def test_it_is_for_operators_and_for_nodes_that_exist(customer: Api, auditor: Api, operator: Api, cloud: Cloud) -> None:
    for api in (customer, auditor):
        assert drain(api, cloud.node).code == "ECS.OperationDenied.Identity"
    answer = operator.call("PUT", MAINTENANCE, {"nodeName": "nowhere", "maintenance": True})
    assert answer.code == "ECS.DBGet.NoData"
    assert operator.call("PUT", MAINTENANCE, {"nodeName": cloud.node.name}).code == "ECS.InvalidParameter"
