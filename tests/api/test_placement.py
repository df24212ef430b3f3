"""Why instances are, or would be, where they are, over REST."""

from typing import Any
from uuid import uuid4

import pytest

from coordinator.domain.clock import utc_now
from coordinator.store.tables import (
    Allocation,
    CellAllocation,
    DeviceAllocation,
    Instance,
    Node,
    ReportedDomain,
    Task,
)
from tests.api.client import Api
from tests.api.cloud import INSTANCES, Cloud
from tests.builders import a_node, add, an_inventory
from tests.database import BOTH_DATABASES

EXPLAIN = f"{INSTANCES}/explain-placement"


@pytest.fixture
def other(cloud: Cloud) -> Node:
    """A second host, too small for anything."""
    node = a_node("small")
    with cloud.runtime.database.write() as session:
        add(session, node, *an_inventory(node, vcpus=1, memory_gib=1, storage_gib=1))
    return node


def test_an_operator_sees_every_host_with_its_score_or_its_rejection(operator: Api, cloud: Cloud, other: Node) -> None:
    told = operator.ok("POST", EXPLAIN, cloud.order())
    assert (told["placeable"], told["hostCount"], told["acceptedCount"]) == (True, 2, 1)
    assert told["nodeNames"] == [cloud.node.name]
    best, rejected = told["hosts"]
    assert (best["nodeName"], best["accepted"], best["filter"]) == (cloud.node.name, True, "")
    assert best["score"] == pytest.approx(sum(best["scores"].values()), abs=1e-3)
    assert set(best["scores"]) == {"room", "balance", "rack", "in_flight", "gpu"}
    assert (rejected["nodeName"], rejected["accepted"], rejected["scores"]) == ("small", False, {})
    assert (rejected["filter"], rejected["wanted"], rejected["available"]) == ("capacity", "2 vCPUs", "1 vCPU")


@BOTH_DATABASES
def test_a_tenant_sees_counts_and_no_names(customer: Api, cloud: Cloud, other: Node) -> None:
    told = customer.ok("POST", EXPLAIN, cloud.order())
    assert (told["hosts"], told["nodeNames"]) == (None, None)
    assert told["rejections"] == [
        {
            "filter": "capacity",
            "reason": "too few vCPUs",
            "count": 1,
            "wanted": "2 vCPUs",
            "available": "1 vCPU",
        }
    ]
    assert cloud.node.name not in str(told)


def test_explaining_changes_nothing(customer: Api, cloud: Cloud) -> None:
    customer.ok("POST", EXPLAIN, cloud.order(ecsCount=2))
    assert cloud.rows(Instance) == cloud.rows(Allocation) == cloud.rows(Task) == []


def test_what_cannot_be_placed_is_no_error_to_explain(customer: Api, cloud: Cloud) -> None:
    told = customer.ok("POST", EXPLAIN, cloud.order(ecsCount=50))
    assert (told["placeable"], told["acceptedCount"]) == (False, 0)
    assert "vCPU" in told["summary"]
    assert customer.refused("POST", EXPLAIN, cloud.order(az="nowhere")).code == "ECS.InvalidParameter"


def test_a_placed_instance_tells_why_it_is_where_it_is(customer: Api, operator: Api, cloud: Cloud, other: Node) -> None:
    ecs_id = customer.ok("POST", INSTANCES, cloud.order())["ecsId"]
    told: dict[str, Any] = operator.ok("GET", f"{INSTANCES}/{ecs_id}/placement")
    assert (told["placed"], told["nodeName"], told["hostCount"]) == (True, cloud.node.name, 2)
    assert told["rejected"] == {"capacity": 1}
    assert set(told["scores"]) == {"room", "balance", "rack", "in_flight", "gpu"}
    assert told["decidedAt"] > "2000"
    seen = customer.ok("GET", f"{INSTANCES}/{ecs_id}/placement")
    assert seen == told | {"nodeId": "", "nodeName": ""}


def test_an_operator_sees_what_an_instance_has_by_name(customer: Api, operator: Api, cloud: Cloud) -> None:
    ecs_id = customer.ok("POST", INSTANCES, cloud.order())["ecsId"]
    [instance] = cloud.rows(Instance)
    holder = {"consumer_uuid": instance.uuid, "node_id": cloud.node.id}
    with cloud.runtime.database.write() as session:
        add(session, CellAllocation(**holder, cell=1, vcpus=2, memory_mib=4096, cpus=[4, 5]))
        add(session, DeviceAllocation(**holder, device_id="0000:3b:00.0", kind="gpu", milli=250))
    told = operator.ok("GET", f"{INSTANCES}/{ecs_id}/placement")
    assert told["cells"] == [{"cell": 1, "vcpus": 2, "memoryMib": 4096, "pageKib": 0, "cpus": [4, 5]}]
    assert told["devices"] == [{"deviceId": "0000:3b:00.0", "milli": 250}]
    seen = customer.ok("GET", f"{INSTANCES}/{ecs_id}/placement")
    assert seen["cells"] == seen["devices"] == []


def test_an_instance_that_is_nowhere_tells_why(customer: Api, cloud: Cloud) -> None:
    with cloud.runtime.database.write() as session:
        session.get_one(Node, cloud.node.id).generation += 1
        session.get_one(Node, cloud.node.id).schedulable = False
    ecs_id = customer.ok("POST", INSTANCES, cloud.order())["ecsId"]
    told = customer.ok("GET", f"{INSTANCES}/{ecs_id}/placement")
    assert (told["placed"], told["scores"], told["hostCount"]) == (False, {}, None)
    assert "1 closed for new instances" in told["reason"]


def test_another_tenants_instance_is_not_explained(customer: Api, stranger: Api, cloud: Cloud) -> None:
    ecs_id = customer.ok("POST", INSTANCES, cloud.order())["ecsId"]
    assert stranger.refused("GET", f"{INSTANCES}/{ecs_id}/placement").code == "ECS.DBGet.NoData"


DIFFERENCES = "/api/ecs/v1/placement/differences"


def reported(node: Node, uuid: str, **columns: Any) -> ReportedDomain:
    fields = {"name": "ecs-x", "foreign": False, "power_state": "running", "reported_at": utc_now(), **columns}
    return ReportedDomain(node_id=node.id, uuid=uuid, **fields)


def an_instance_at_rest(customer: Api, cloud: Cloud) -> Instance:
    """It runs, its node reports it, and no task is busy with it."""
    customer.ok("POST", INSTANCES, cloud.order())
    instance: Instance
    [instance] = cloud.rows(Instance)
    cloud.change(instance, task_id=None, status="Running")
    size = {"vcpus": instance.vcpus, "memory_bytes": instance.memory_bytes}
    with cloud.runtime.database.write() as session:
        add(session, reported(cloud.node, instance.uuid, **size))
    return instance


def differences(operator: Api) -> list[tuple[str, str, str]]:
    return [(it["kind"], it["nodeName"], it["consumerUuid"]) for it in operator.ok("GET", DIFFERENCES)]


def test_where_all_agree_there_are_no_differences(operator: Api, customer: Api, cloud: Cloud) -> None:
    an_instance_at_rest(customer, cloud)
    with cloud.runtime.database.write() as session:
        add(session, reported(cloud.node, str(uuid4()), foreign=True))
    assert differences(operator) == []


def test_each_kind_of_difference_is_told(operator: Api, customer: Api, cloud: Cloud, other: Node) -> None:
    instance = an_instance_at_rest(customer, cloud)
    stray, leaked, name = str(uuid4()), str(uuid4()), cloud.node.name
    with cloud.runtime.database.write() as session:
        add(session, reported(cloud.node, stray))
        leak: dict[str, Any] = {"node_id": other.id, "resource_class": "VCPU", "amount": 1}
        add(
            session,
            Allocation(consumer_uuid=leaked, **leak),
            Allocation(consumer_uuid=str(uuid4()), external=True, **leak),
        )
        session.get_one(ReportedDomain, (cloud.node.id, instance.uuid)).vcpus = 8
        for holder, device_id in ((leaked, "wwn-1"), (instance.uuid, "wwn-2")):
            held: dict[str, Any] = {"node_id": cloud.node.id, "device_id": device_id, "kind": "disk", "milli": 1000}
            add(session, DeviceAllocation(consumer_uuid=holder, **held))
    assert differences(operator) == [
        ("allocation-without-instance", "small", leaked),
        ("domain-without-allocation", name, stray),
        ("domain-of-other-size", name, instance.uuid),
        ("device-without-instance", name, leaked),
    ]
    assert operator.ok("GET", DIFFERENCES)[-1]["name"] == "wwn-1"
    cloud.change(instance, node_id=other.id, task_id=None, status="Running")
    assert {it for it in differences(operator) if it[2] == instance.uuid} == {
        ("allocation-elsewhere", name, instance.uuid),
        ("instance-without-allocation", "small", instance.uuid),
        ("instance-without-domain", "small", instance.uuid),
        ("device-elsewhere", name, instance.uuid),
    }


def test_a_task_at_work_is_no_difference(operator: Api, customer: Api, cloud: Cloud) -> None:
    customer.ok("POST", INSTANCES, cloud.order())
    assert differences(operator) == []


def test_differences_are_the_operators_business(customer: Api) -> None:
    assert customer.refused("GET", DIFFERENCES).code == "ECS.OperationDenied.Identity"
