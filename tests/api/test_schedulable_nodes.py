"""Which nodes could take an instance that runs on another one."""

from typing import Any

from coordinator.store.tables import Instance, Node
from tests.api.client import Api
from tests.api.cloud import INSTANCES, Cloud
from tests.builders import a_node, add, an_inventory
from tests.database import BOTH_DATABASES

pytestmark = BOTH_DATABASES

BATCH = f"{INSTANCES}/batch-schedulable-nodes"


def add_node(cloud: Cloud, name: str, memory_gib: int = 64, **columns: Any) -> Node:
    node = a_node(name, **columns)
    with cloud.runtime.database.write() as session:
        add(session, node, *an_inventory(node, memory_gib=memory_gib))
    return node


def order(api: Api, cloud: Cloud, **fields: Any) -> str:
    """An instance on node-a, which is told where it stands by its order."""
    return str(api.ok("POST", INSTANCES, cloud.order(hostId=cloud.node.id, **fields))["ecsId"])


def nodes_for(api: Api, ecs_id: str, query: str = "") -> list[str]:
    found: list[str] = api.ok("GET", f"{INSTANCES}/{ecs_id}/schedulable-nodes{query}")
    assert api.ok("POST", BATCH, {"type": "live", "ecsIds": [ecs_id]})[ecs_id] == found or query
    return found


def test_nodes_that_could_take_it_are_named(customer: Api, cloud: Cloud) -> None:
    ecs_id = order(customer, cloud)
    assert nodes_for(customer, ecs_id) == []
    add_node(cloud, "node-c")
    add_node(cloud, "node-b")
    others: dict[str, dict[str, Any]] = {
        "away": {"ready": False},
        "closed": {"schedulable": False},
        "elsewhere": {"zone": "AZ1"},
        "arm": {"architecture": "arm"},
    }
    for name, columns in others.items():
        add_node(cloud, name, **columns)
    add_node(cloud, "small", memory_gib=3)
    assert nodes_for(customer, ecs_id) == ["node-b", "node-c"]


def test_pools_and_groups_count(customer: Api, operator: Api, cloud: Cloud) -> None:
    ecs_id = order(customer, cloud)
    pooled, grouped = add_node(cloud, "pooled"), add_node(cloud, "grouped")
    pool = operator.ok("POST", "/api/ecs/v1/resource-pools", {"az": "AZ0", "name": "p", "cpuAllocationRatio": 1})
    hosts = {"hosts": [{"cell": "cell0", "name": pooled.name, "innerIp": pooled.host_ip}]}
    operator.ok("POST", f"/api/ecs/v1/resource-pools/{pool['rpId']}/add-hosts", hosts)
    group = operator.ok("POST", "/api/ecs/v1/host-groups", {"name": "g"})
    hosts = {"hosts": [{"cell": "cell0", "name": grouped.name, "innerIp": grouped.host_ip}]}
    operator.ok("POST", f"/api/ecs/v1/host-groups/{group['hgId']}/add-hosts", hosts)
    assert nodes_for(customer, ecs_id) == ["pooled"]
    change(cloud, ecs_id, hg_id=group["hgId"])
    assert nodes_for(customer, ecs_id) == ["grouped"]
    change(cloud, ecs_id, hg_id="", rp_id=pool["rpId"])
    add_node(cloud, "node-b")
    assert nodes_for(customer, ecs_id) == ["pooled"]
    cloud.change(cloud.flavor_type, rp_ids=["rp-of-nobody"])
    assert nodes_for(customer, ecs_id) == []


def change(cloud: Cloud, ecs_id: str, **columns: Any) -> None:
    cloud.change(next(row for row in cloud.rows(Instance) if row.ecs_id == ecs_id), **columns)


def test_a_guest_that_sees_the_processor_keeps_it_while_it_runs(customer: Api, cloud: Cloud) -> None:
    ecs_id = order(customer, cloud)
    add_node(cloud, "alike")
    add_node(cloud, "other", cpu_model="Xeon")
    assert nodes_for(customer, ecs_id) == ["alike", "other"]
    change(cloud, ecs_id, vcpu_type="host-passthrough")
    assert nodes_for(customer, ecs_id) == ["alike"]
    assert nodes_for(customer, ecs_id, "?type=cold") == ["alike", "other"]
    assert customer.ok("POST", BATCH, {"ecsIds": [ecs_id]}) == {ecs_id: ["alike", "other"]}
    cloud.change(cloud.flavor_type, cpu_model="Xeon")
    assert nodes_for(customer, ecs_id, "?type=cold") == ["other"]


def test_the_others_of_its_deployment_set_count(customer: Api, operator: Api, cloud: Cloud) -> None:
    nodes = [{"cell": "cell0", "name": cloud.node.name}]
    operator.ok("POST", "/api/ecs/v1/nodes/label", {"nodes": nodes, "rackLabel": "r1"})
    owner = {"tenantId": cloud.tenant.id, "departmentId": cloud.department.id}
    sets = {
        policy: customer.ok("POST", "/api/ecs/v1/deployment-sets", {"name": policy, "rackPolicy": policy, **owner})
        for policy in ("affinity", "anti-affinity")
    }
    together, apart = ({"deploymentSet": it["deploymentSetId"]} for it in sets.values())
    alone, single = order(customer, cloud, **together), order(customer, cloud, **apart)
    for name, rack in {"node-b": "r1", "node-c": "r2", "node-d": ""}.items():
        add_node(cloud, name, rack=rack)
    # Without itself the set has no member, and the rack is open.
    assert nodes_for(customer, alone) == nodes_for(customer, single) == ["node-b", "node-c"]
    order(customer, cloud, **together)
    customer.ok("POST", INSTANCES, cloud.order(**apart))
    assert nodes_for(customer, alone) == ["node-b"]
    assert nodes_for(customer, single) == ["node-b"]


def test_ids_and_type_are_checked(customer: Api, stranger: Api, cloud: Cloud) -> None:
    ecs_id = order(customer, cloud)
    too_many = [f"ecs-{number}" for number in range(1001)]
    bodies: list[dict[str, Any]] = [{"ecsIds": []}, {"ecsIds": too_many}, {}]
    for wrong in bodies:
        refused = customer.refused("POST", BATCH, wrong)
        assert (refused.code, refused.message[:6]) == ("ECS.InvalidParameter", "ecsIds")
    assert customer.refused("POST", BATCH, {"ecsIds": [ecs_id], "type": "warm"}).message.startswith("type: ")
    assert customer.refused("GET", f"{INSTANCES}/{ecs_id}/schedulable-nodes?type=warm").message.startswith("type: ")
    unknown = customer.refused("POST", BATCH, {"ecsIds": [ecs_id, "ecs-x", "ecs-y"]})
    assert unknown.code == "ECS.DBGet.NoData"
    assert "ecs-x, ecs-y" in unknown.message
    assert ecs_id not in unknown.message
    assert stranger.refused("GET", f"{INSTANCES}/{ecs_id}/schedulable-nodes").code == "ECS.DBGet.NoData"
    assert customer.ok("POST", BATCH, {"ecsIds": [ecs_id, ecs_id]}) == {ecs_id: []}
