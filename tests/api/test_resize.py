"""Other sizes for instances over REST: what is held when, what the guest is asked, and what each failure leaves."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from coordinator.domain.clock import utc_now
from coordinator.domain.growth import OUTGROWN
from coordinator.domain.unit import GIB
from coordinator.store.tables import Allocation, Flavor, FlavorType, Instance, Node, ReportedDomain
from tests.api.client import Answer, Api
from tests.api.cloud import INSTANCES, OPERATIONS, Cloud, finish
from tests.builders import a_flavor, a_flavor_type, a_node, add, an_inventory
from tests.lab.waiting import wait_until
from tests.scripted_agent import Refusal, ScriptedAgent, all_at_work

DIFFERENCES = "/api/ecs/v1/placement/differences"
NO_STATUS = "ECS.InvalidParameter.Status.NotSupported"
NOT_IN_ROOM = Refusal(grpc.StatusCode.FAILED_PRECONDITION, "DomainGrowthUnsupported", "no room", times=1)


@pytest.fixture
def other_node(cloud: Cloud) -> Node:
    node = a_node("node-b")
    with cloud.runtime.database.write() as session:
        add(session, node, *an_inventory(node))
    return node


@pytest.fixture
def agents(cloud: Cloud, other_node: Node, tmp_path: Path) -> Iterator[list[ScriptedAgent]]:
    with all_at_work(cloud.runtime, [cloud.node, other_node], tmp_path / "pki") as scripted:
        scripted[0].peer = scripted[1]
        yield scripted


def stored_flavor(cloud: Cloud, flavor_type: FlavorType | None = None, **fields: Any) -> Flavor:
    flavor = a_flavor(flavor_type or cloud.flavor_type, **fields)
    with cloud.runtime.database.write() as session:
        add(session, *([flavor_type] if flavor_type else []), flavor)
    return flavor


def resize(api: Api, ecs_id: str, flavor: Flavor, **fields: Any) -> Answer:
    body = {"cpus": flavor.cpu, "memory": {"amount": f"{flavor.ram_gib}Gi"}, "flavorId": flavor.flavor_id, **fields}
    return api.call("PATCH", f"{INSTANCES}/{ecs_id}", body)


def held(cloud: Cloud) -> dict[str, dict[str, int]]:
    """What each consumer holds."""
    found: dict[str, dict[str, int]] = {}
    for row in cloud.rows(Allocation):
        found.setdefault(row.consumer_uuid, {})[row.resource_class] = row.amount
    return found


def row_of(cloud: Cloud, ecs_id: str) -> Instance:
    found: Instance = next(row for row in cloud.rows(Instance) if row.ecs_id == ecs_id)
    return found


def create(cloud: Cloud, api: Api, agents: list[ScriptedAgent]) -> str:
    ecs_id = cloud.create(api, hostId=cloud.node.id)
    for agent in agents:
        agent.calls.clear()
    return ecs_id


def test_a_guest_that_takes_it_grows_while_it_runs_and_holds_both_until_then(
    customer: Api, operator: Api, cloud: Cloud, agents: list[ScriptedAgent]
) -> None:
    ecs_id, (agent, _) = create(cloud, customer, agents), agents
    uuid, large = row_of(cloud, ecs_id).uuid, stored_flavor(cloud, vcpus=6, memory_gib=12)
    before = held(cloud)[uuid]
    gate = agent.gates["ensure_grown"] = threading.Event()
    answer = resize(customer, ecs_id, large)
    assert (answer.data["ecsId"], answer.data["vCpus"]) == (ecs_id, 2)
    wait_until(lambda: "ensure_grown" in agent.calls, "the guest is asked")
    (reserve,) = held(cloud).keys() - {uuid}
    assert held(cloud) == {uuid: before, reserve: {"VCPU": 4, "MEMORY_MIB": 8 * 1024}}
    assert operator.ok("GET", DIFFERENCES) == []
    gate.set()
    assert finish(customer, answer)["state"] == "Succeeded"
    assert held(cloud) == {uuid: {**before, "VCPU": 6, "MEMORY_MIB": 12 * 1024}}
    shown = customer.ok("GET", f"{INSTANCES}/{ecs_id}")
    assert (shown["vCpus"], shown["ram"], shown["flavorId"]) == (6, 12 * GIB, large.flavor_id)
    assert (shown["status"], shown["errMessage"]) == ("Running", "")
    assert agent.calls == ["ensure_defined", "ensure_grown"]
    spec = agent.specs[uuid]
    assert (spec.vcpus, spec.memory_bytes, spec.max_vcpus, spec.max_memory_bytes) == (6, 12 * GIB, 24, 48 * GIB)


def test_a_guest_that_does_not_take_it_is_restarted_and_so_is_one_that_shrinks(
    customer: Api, cloud: Cloud, agents: list[ScriptedAgent]
) -> None:
    ecs_id, (agent, _) = create(cloud, customer, agents), agents
    agent.refusals["ensure_grown"] = NOT_IN_ROOM
    assert (
        finish(customer, resize(customer, ecs_id, stored_flavor(cloud, vcpus=4, memory_gib=8)))["state"] == "Succeeded"
    )
    assert agent.calls == ["ensure_defined", "ensure_grown", "ensure_stopped", "ensure_running"]
    agent.calls.clear()
    assert finish(customer, resize(customer, ecs_id, cloud.flavor))["state"] == "Succeeded"
    assert agent.calls == ["ensure_defined", "ensure_stopped", "ensure_running"]
    (amounts,) = held(cloud).values()
    assert (amounts["VCPU"], amounts["MEMORY_MIB"]) == (2, 4 * 1024)
    # One that is off stays off.
    finish(customer, customer.call("PUT", f"{INSTANCES}/{ecs_id}/stop", {"gracePeriodSeconds": 0}))
    agent.calls.clear()
    dedicated = stored_flavor(cloud, a_flavor_type(is_dedicated_mem=True), vcpus=1, memory_gib=3)
    assert finish(customer, resize(customer, ecs_id, dedicated))["state"] == "Succeeded"
    assert agent.calls == ["ensure_defined"]
    assert customer.ok("GET", f"{INSTANCES}/{ecs_id}")["status"] == "Stopped"
    spec = agent.specs[row_of(cloud, ecs_id).uuid]
    assert (spec.memory_locked, spec.max_vcpus, spec.max_memory_bytes) == (True, 0, 0)


def test_a_guest_that_has_grown_though_nobody_waited_for_it_keeps_what_it_holds(
    customer: Api, cloud: Cloud, agents: list[ScriptedAgent]
) -> None:
    ecs_id, (agent, _) = create(cloud, customer, agents), agents
    uuid = row_of(cloud, ecs_id).uuid
    agent.gates["ensure_grown"] = threading.Event()
    answer = resize(customer, ecs_id, stored_flavor(cloud, vcpus=6, memory_gib=12))
    wait_until(lambda: "ensure_grown" in agent.calls, "the guest is asked")
    domain = agent.domains[uuid]
    domain.vcpus, domain.memory_bytes = 6, 12 * GIB
    customer.ok("DELETE", f"{OPERATIONS}/{answer.headers['x-operation-id']}")
    assert finish(customer, answer)["state"] == "Canceled"
    (amounts,) = held(cloud).values()
    assert (amounts["VCPU"], amounts["MEMORY_MIB"]) == (6, 12 * 1024)
    shown = customer.ok("GET", f"{INSTANCES}/{ecs_id}")
    assert (shown["vCpus"], shown["status"], agent.specs[uuid].vcpus) == (6, "Running", 6)


def test_a_guest_that_has_grown_in_part_runs_on_with_that_and_nobody_is_alarmed(
    customer: Api, operator: Api, cloud: Cloud, agents: list[ScriptedAgent]
) -> None:
    ecs_id, (agent, _) = create(cloud, customer, agents), agents
    uuid, before = row_of(cloud, ecs_id).uuid, held(cloud)
    gate = agent.gates["ensure_grown"] = threading.Event()
    answer = resize(customer, ecs_id, stored_flavor(cloud, vcpus=6, memory_gib=12))
    wait_until(lambda: "ensure_grown" in agent.calls, "the guest is asked")
    agent.domains[uuid].vcpus, agent.domains[uuid].memory_bytes = 6, 4 * GIB
    customer.ok("DELETE", f"{OPERATIONS}/{answer.headers['x-operation-id']}")
    assert finish(customer, answer)["state"] == "Canceled"
    assert held(cloud) == before
    shown = customer.ok("GET", f"{INSTANCES}/{ecs_id}")
    assert (shown["vCpus"], shown["status"], agent.specs[uuid].vcpus) == (2, "Running", 2)
    report: dict[str, Any] = {
        "uuid": uuid,
        "name": ecs_id,
        "foreign": False,
        "power_state": "running",
        "reported_at": utc_now(),
    }
    row = ReportedDomain(node_id=cloud.node.id, vcpus=6, memory_bytes=4 * GIB, **report)
    with cloud.runtime.database.write() as session:
        add(session, row)
    assert operator.ok("GET", DIFFERENCES) == []
    cloud.change(row, vcpus=5)
    assert [it["kind"] for it in operator.ok("GET", DIFFERENCES)] == ["domain-of-other-size"]
    # Tried again, it has what it was to have, and nothing is left of that.
    gate.set()
    assert (
        finish(customer, resize(customer, ecs_id, stored_flavor(cloud, vcpus=8, memory_gib=12)))["state"] == "Succeeded"
    )
    assert OUTGROWN not in row_of(cloud, ecs_id).options


@pytest.mark.parametrize(
    ("call", "code"),
    [("ensure_defined", "CapabilityMissing"), ("ensure_stopped", "DomainStopTimeout"), ("ensure_running", "Failed")],
)
def test_what_fails_leaves_the_instance_as_it_was(
    customer: Api, cloud: Cloud, agents: list[ScriptedAgent], call: str, code: str
) -> None:
    ecs_id, (agent, _) = create(cloud, customer, agents), agents
    uuid, before = row_of(cloud, ecs_id).uuid, held(cloud)
    agent.refusals |= {"ensure_grown": NOT_IN_ROOM, call: Refusal(grpc.StatusCode.INTERNAL, code, "injected", times=1)}
    operation = finish(customer, resize(customer, ecs_id, stored_flavor(cloud, vcpus=4, memory_gib=8)))
    assert operation["state"] == "Failed", operation
    assert held(cloud) == before
    shown = customer.ok("GET", f"{INSTANCES}/{ecs_id}")
    assert (shown["vCpus"], shown["status"], shown["flavorId"]) == (2, "Running", cloud.flavor.flavor_id)
    assert "injected" in shown["errMessage"]
    assert (agent.specs[uuid].vcpus, agent.specs[uuid].memory_bytes) == (2, 4 * GIB)


def test_another_node_is_taken_when_its_own_is_full(
    customer: Api, cloud: Cloud, agents: list[ScriptedAgent], other_node: Node
) -> None:
    ecs_id, (source, target) = create(cloud, customer, agents), agents
    uuid, huge = row_of(cloud, ecs_id).uuid, stored_flavor(cloud, vcpus=12, memory_gib=8)
    filler = cloud.create(
        customer, hostId=cloud.node.id, flavorId=stored_flavor(cloud, vcpus=8, memory_gib=4).flavor_id, cpus=8
    )
    before = held(cloud)
    target.refusals["ensure_running"] = Refusal(times=1)
    assert finish(customer, resize(customer, ecs_id, huge))["state"] == "Failed"
    wait_until(lambda: held(cloud) == before, "the place on the other node is let go of")
    shown = customer.ok("GET", f"{INSTANCES}/{ecs_id}")
    assert (shown["nodeName"], shown["status"], shown["vCpus"]) == (cloud.node.name, "Running", 2)
    assert uuid not in target.domains
    answer = resize(customer, ecs_id, huge)
    assert finish(customer, answer)["state"] == "Succeeded"
    shown = customer.ok("GET", f"{INSTANCES}/{ecs_id}")
    assert (shown["nodeName"], shown["status"], shown["vCpus"]) == ("node-b", "Running", 12)
    assert held(cloud)[uuid] == {**before[uuid], "VCPU": 12, "MEMORY_MIB": 8 * 1024}
    assert target.specs[uuid].vcpus == 12
    wait_until(lambda: set(source.domains) == {row_of(cloud, filler).uuid}, "its own node is clean")
    # Nowhere is room for more, which is told of both.
    refused = resize(customer, ecs_id, stored_flavor(cloud, vcpus=200, memory_gib=8))
    assert refused.code == "ECS.OperationFailed.Unschedulable"
    assert "its own node" in refused.message
    assert "others" in refused.message


def test_bad_sizes_are_refused_and_hold_nothing(customer: Api, stranger: Api, cloud: Cloud, agents: Any) -> None:
    ecs_id = create(cloud, customer, agents)
    before = held(cloud)
    large = stored_flavor(cloud, vcpus=6, memory_gib=12)
    secure = stored_flavor(cloud, a_flavor_type(security_type="2.0"), vcpus=6, memory_gib=12)
    with_gpu = stored_flavor(
        cloud, a_flavor_type(gpu_type="10de1eb8", device_type="gpu"), vcpus=6, memory_gib=12, gpu=1
    )
    for code, field, flavor, fields in (
        ("ECS.InvalidParameter", "cpus", large, {"cpus": 5}),
        ("ECS.InvalidParameter", "cpus", large, {"cpus": 0}),
        ("ECS.InvalidParameter", "cpus", large, {"cpus": None}),
        ("ECS.InvalidParameter", "flavorId", large, {"flavorId": ""}),
        ("ECS.InvalidParameter", "cpus", cloud.flavor, {}),
        ("ECS.DBGet.NoData", "flavor-00000000", large, {"flavorId": "flavor-00000000"}),
        ("ECS.DBGet.NoData", "rp-", large, {"rpId": "rp-00000000000000"}),
        ("ECS.InvalidParameter.MemoryAmount.ValueNotSupported", "memory", large, {"memory": {"amount": "lots"}}),
        ("ECS.InvalidParameter", "memory.hugePage", large, {"memory": {"amount": "12Gi", "hugePage": "3Mi"}}),
        ("ECS.InvalidParameter", "hostGpus", large, {"hostGpus": {"gpuType": "10de1eb8", "number": 1}}),
        ("ECS.OperationFailed.Resize", "flavorId", secure, {}),
        ("ECS.OperationFailed.Unschedulable", "gpu", with_gpu, {}),
    ):
        answer = resize(customer, ecs_id, flavor, **fields)
        assert (answer.code, field in answer.message) == (code, True), (answer, fields)
    assert resize(stranger, ecs_id, large).code == "ECS.DBGet.NoData"
    cloud.change(cloud.tenant, quota_vcpus=5)
    assert resize(customer, ecs_id, large).code == "ECS.OperationDenied.QuotaExceeded"
    cloud.change(cloud.tenant, quota_vcpus=6)
    customer.ok("PUT", f"{INSTANCES}/{ecs_id}/lock", {"isLock": True})
    assert resize(customer, ecs_id, large).code == "ECS.OperationDenied.Identity"
    customer.ok("PUT", f"{INSTANCES}/{ecs_id}/lock", {"isLock": False})
    customer.call("PUT", f"{INSTANCES}/{ecs_id}/suspend")
    wait_until(lambda: customer.ok("GET", f"{INSTANCES}/{ecs_id}")["status"] == "Paused", "it is paused")
    assert resize(customer, ecs_id, large).code == NO_STATUS
    assert held(cloud) == before
