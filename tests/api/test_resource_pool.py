"""Resource pools: which hosts belong to them, what is placed there, and what keeps them."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from coordinator.store.tables import Inventory, Node
from tests.api.client import Api
from tests.api.cloud import INSTANCES, Cloud
from tests.api.order import FLAVOR_TYPES, make_flavor_type
from tests.builders import a_flavor, a_flavor_type, a_node, add, an_inventory
from tests.database import BOTH_DATABASES, SQLITE_ONLY

POOLS = "/api/ecs/v1/resource-pools"
POOL = "/api/ecs/v1/resource-pool"
BATCH = f"{INSTANCES}/batch-create"


def make_pool(api: Api, name: str = "fast", az: str = "AZ0", ratio: int = 1) -> str:
    return str(api.ok("POST", POOLS, {"az": az, "name": name, "cpuAllocationRatio": ratio})["rpId"])


def named(node: Node, **fields: Any) -> dict[str, Any]:
    """How a call names the host."""
    return {"cell": "cell0", "name": node.name, "innerIp": node.host_ip, **fields}


def add_host(api: Api, pool: str, *nodes: Node) -> None:
    assert api.ok("POST", f"{POOLS}/{pool}/add-hosts", {"hosts": [named(node) for node in nodes]}) is None


def add_node(cloud: Cloud, name: str, **columns: Any) -> Node:
    node = a_node(name, **columns)
    with cloud.runtime.database.write() as session:
        add(session, node, *an_inventory(node))
    return node


def bound_flavor(cloud: Cloud, *pools: str) -> str:
    """A flavor of a type that is bound to the pools."""
    kind = a_flavor_type(rp_ids=list(pools))
    flavor = a_flavor(kind)
    with cloud.runtime.database.write() as session:
        add(session, kind, flavor)
    return flavor.flavor_id


def hosts_of(api: Api, pool: str) -> list[str]:
    return [host["name"] for host in api.ok("GET", f"{POOL}/hosts?rpId={pool}")["rpHosts"]]


def test_a_pool_is_told_with_all_its_fields(operator: Api) -> None:
    made = operator.ok("POST", POOLS, {"az": "AZ1", "name": "fast", "cpuAllocationRatio": "2"})
    assert made["rpId"].startswith("rp-")
    assert len(made["rpId"]) == len("rp-") + 14
    assert made["createTime"] == made["updateTime"]
    expected = {"name": "fast", "az": "AZ1", "hostCnt": 0, "ftCnt": 0, "cpuAllocationRatio": 2}
    assert {name: made[name] for name in expected} == expected
    assert operator.ok("GET", f"{POOL}/{made['rpId']}") == made
    assert operator.ok("GET", POOLS) == {"resourcePools": [made], "totalCount": 1}


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"az": None}, "az"),
        ({"az": "AZ9"}, "az"),
        ({"name": None}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 128}, "name"),
        ({"cpuAllocationRatio": None}, "cpuAllocationRatio"),
        ({"cpuAllocationRatio": 0}, "cpuAllocationRatio"),
        ({"cpuAllocationRatio": 7}, "cpuAllocationRatio"),
    ],
)
def test_a_value_out_of_range_is_named(operator: Api, fields: dict[str, Any], field: str) -> None:
    answer = operator.refused("POST", POOLS, {"az": "AZ0", "name": "fast", "cpuAllocationRatio": 1, **fields})
    assert (answer.code, answer.message.split(":")[0]) == ("ECS.InvalidParameter", field)


def test_a_name_is_taken_once(operator: Api) -> None:
    pool = make_pool(operator)
    again = {"az": "AZ1", "name": "fast", "cpuAllocationRatio": 1}
    assert operator.refused("POST", POOLS, again).code == "ECS.OperationDenied.Repeat"
    operator.ok("DELETE", f"{POOLS}/{pool}")
    operator.ok("POST", POOLS, again)


def test_pools_are_found(operator: Api) -> None:
    first, second = make_pool(operator, "fast one"), make_pool(operator, "slow", "AZ1", 6)
    expected = {
        "": [second, first],
        "name=FAST": [first],
        f"rpId={second}": [second],
        f"rpld={second}": [second],
        "filter=az:eq:AZ1": [second],
        "filter=cpuAllocationRatio:gt:2": [second],
        "filter=hostCnt:eq:0|ftCnt:eq:0": [second, first],
        "orderBy=create_time:asc": [first, second],
        "pageSize=1&pageNumber=2": [first],
    }
    found = {
        query: [pool["rpId"] for pool in operator.ok("GET", f"{POOLS}?{query}")["resourcePools"]] for query in expected
    }
    assert found == expected
    assert operator.refused("GET", f"{POOLS}?filter=colour:eq:red").code == "ECS.InvalidParameter"


@BOTH_DATABASES
def test_hosts_join_and_are_listed(operator: Api, cloud: Cloud) -> None:
    pool, other = make_pool(operator), add_node(cloud, "node-b", address="[2001:db8::7]:8446", architecture="arm")
    add_host(operator, pool, cloud.node, other)
    listed = operator.ok("GET", f"{POOL}/hosts?rpId={pool}")
    assert listed["totalCount"] == 2
    first, second = listed["rpHosts"]
    assert (first["name"], first["innerIp"], first["archType"], first["cell"]) == (
        "node-a",
        "192.0.2.1",
        "amd64",
        "cell0",
    )
    assert (first["rpId"], first["rpName"], first["hostId"]) == (pool, "fast", cloud.node.id)
    assert first["addRpTime"] == first["createTime"]
    assert (second["innerIp"], second["archType"]) == ("2001:db8::7", "arm64")
    assert operator.ok("GET", f"{POOL}/{pool}")["hostCnt"] == 2
    node = operator.ok("GET", f"/api/ecs/v1/nodes?filter=rpId:eq:{pool}")["list"][0]
    assert (node["rpId"], node["rpName"]) == (pool, "fast")
    for query, names in {
        "name=DE-B": ["node-b"],
        "innerIp=2.0.2": ["node-a"],
        "archType=arm": ["node-b"],
        "archType=amd64": ["node-a"],
        "filter=innerIp:eq:2001:db8::7": ["node-b"],
        "rpId=rp-nothing": [],
        "orderBy=name:desc&pageSize=1": ["node-b"],
    }.items():
        assert [host["name"] for host in operator.ok("GET", f"{POOL}/hosts?{query}")["rpHosts"]] == names, query


def test_candidates_are_hosts_of_no_pool(operator: Api, cloud: Cloud) -> None:
    add_node(cloud, "node-b"), add_node(cloud, "node-c", zone="AZ1")
    add_host(operator, make_pool(operator), cloud.node)
    found = operator.ok("GET", f"{POOL}/host-list")
    assert [host["name"] for host in found["hosts"]] == [node["name"] for node in found["list"]] == ["node-b", "node-c"]
    assert (found["totalCount"], found["total"], found["current"]) == (2, 2, 1)
    gpus = {"gpuType": "", "gpus": 0, "mode": "", "product": "", "vgpuDisplayName": ""}
    assert {**found["hosts"][0], "hostId": ""} == {
        "cell": "cell0",
        "innerIp": "192.0.2.1",
        "name": "node-b",
        "hostId": "",
        "gpuInfo": gpus,
    }
    assert [host["name"] for host in operator.ok("GET", f"{POOL}/host-list?az=AZ1")["hosts"]] == ["node-c"]


def test_of_several_hosts_all_join_or_none(operator: Api, cloud: Cloud) -> None:
    pool, rival = make_pool(operator), make_pool(operator, "slow")
    free, taken, far = add_node(cloud, "free"), add_node(cloud, "taken"), add_node(cloud, "far", zone="AZ1")
    add_host(operator, rival, taken)
    path = f"{POOLS}/{pool}/add-hosts"
    for host, code in (
        (named(taken), "ECS.OperationDenied.InUse"),
        (named(far), "ECS.InvalidParameter"),
        (named(free, name="nobody"), "ECS.DBGet.NoData"),
        (named(free, innerIp="192.0.2.99"), "ECS.DBGet.NoData"),
        (named(free, cell="cell9"), "ECS.DBGet.NoData"),
        ({"name": "free"}, "ECS.InvalidParameter"),
    ):
        assert operator.refused("POST", path, {"hosts": [named(free), host]}).code == code, host
    assert operator.refused("POST", path, {"hosts": []}).code == "ECS.InvalidParameter"
    assert hosts_of(operator, pool) == []
    add_host(operator, pool, free, free)
    add_host(operator, pool, free)
    assert hosts_of(operator, pool) == ["free"]


def test_namesakes_are_told_apart_by_address(operator: Api, cloud: Cloud) -> None:
    twin, pool = add_node(cloud, cloud.node.name, address="192.0.2.2:8446"), make_pool(operator)
    answer = operator.refused("POST", f"{POOLS}/{pool}/add-hosts", {"hosts": [named(twin, innerIp="")]})
    assert (answer.code, twin.id in answer.message) == ("ECS.DBGet.NotUnique", True)
    add_host(operator, pool, twin)
    assert operator.ok("GET", f"{POOL}/hosts")["rpHosts"][0]["hostId"] == twin.id


def test_a_pools_ratio_beats_its_zones(operator: Api, cloud: Cloud) -> None:
    def ratio() -> float:
        (row,) = [row for row in cloud.rows(Inventory) if row.resource_class == "VCPU"]
        return float(row.allocation_ratio)

    operator.ok("POST", "/api/ecs/v1/global-config/cpu", {"globalCpuOR": 2, "azCpuConfigs": []})
    first, second = make_pool(operator, ratio=4), make_pool(operator, "slow", ratio=5)
    add_host(operator, first, cloud.node)
    assert ratio() == 4
    operator.ok(
        "POST", "/api/ecs/v1/global-config/cpu", {"globalCpuOR": 2, "azCpuConfigs": [{"az": "AZ0", "azCpuOR": 3}]}
    )
    assert ratio() == 4
    operator.ok("POST", f"{POOLS}/{first}/host-modify-rp", {"destRpId": second, "host": named(cloud.node)})
    assert ratio() == 5
    assert operator.ok("GET", "/api/ecs/v1/nodes")["list"][0]["cpuAllocationRatio"] == 5
    operator.ok("POST", f"{POOLS}/{second}/remove-host", named(cloud.node))
    assert ratio() == 3


def test_a_bound_flavor_type_is_placed_in_its_pools_only(operator: Api, cloud: Cloud) -> None:
    pool = make_pool(operator)
    order = cloud.order(flavorId=bound_flavor(cloud, pool))
    nowhere = operator.ok("POST", INSTANCES, order)
    assert nowhere["errMessage"] == f"0/1 hosts: 1 other resource pool (wanted {pool})"
    assert nowhere["rpId"] == ""
    pooled = add_node(cloud, "node-b")
    add_host(operator, pool, pooled)
    batch = operator.ok("POST", BATCH, {**order, "ecsCount": 4})
    assert {(one["nodeName"], one["rpId"], one["rpName"]) for one in batch} == {("node-b", pool, "fast")}
    told = batch[0]["flavor"]["flavorType"]
    assert (told["rpId"], told["rpName"]) == (pool, "fast")
    assert told["resourcePools"] == [{"rpId": pool, "rpName": "fast", "name": "fast", "az": "AZ0"}]
    for query in (f"rpId={pool}", "rpName=fast"):
        assert operator.ok("GET", f"{INSTANCES}?{query}")["totalCount"] == 4
    assert operator.ok("GET", f"{INSTANCES}?rpName=slow")["totalCount"] == 0


def test_rp_id_narrows(customer: Api, operator: Api, cloud: Cloud) -> None:
    fast, slow, far = make_pool(operator), make_pool(operator, "slow"), make_pool(operator, "far", "AZ1")
    add_host(operator, fast, add_node(cloud, "node-b"))
    add_host(operator, slow, add_node(cloud, "node-c"))
    for flavor in (cloud.flavor.flavor_id, bound_flavor(cloud, fast, slow)):
        batch = customer.ok("POST", BATCH, cloud.order(flavorId=flavor, rpId=slow, ecsCount=3))
        assert {(one["nodeName"], one["rpId"]) for one in batch} == {("node-c", slow)}
    order = cloud.order(flavorId=bound_flavor(cloud, fast), rpId=slow)
    answer = customer.refused("POST", INSTANCES, order)
    assert (answer.code, answer.message) == ("ECS.InvalidParameter", f"rpId: the flavor is bound to {fast}")
    assert customer.refused("POST", INSTANCES, cloud.order(rpId=far)).message.startswith("rpId: ")
    assert customer.refused("POST", INSTANCES, cloud.order(rpId="rp-nothing")).code == "ECS.DBGet.NoData"


def test_an_unbound_flavor_runs_anywhere_and_belongs_to_no_pool(operator: Api, cloud: Cloud) -> None:
    pool = make_pool(operator)
    add_host(operator, pool, cloud.node)
    made = operator.ok("POST", INSTANCES, cloud.order())
    assert (made["nodeName"], made["rpId"]) == (cloud.node.name, "")
    operator.ok("POST", f"{POOLS}/{pool}/remove-host", named(cloud.node))


def test_a_host_with_instances_of_its_pool_stays(operator: Api, cloud: Cloud) -> None:
    pool, other = make_pool(operator), make_pool(operator, "slow")
    add_host(operator, pool, cloud.node)
    batch = operator.ok("POST", BATCH, cloud.order(rpId=pool, ecsCount=2))
    for path, body in (
        ("remove-host", named(cloud.node)),
        ("host-modify-rp", {"destRpId": other, "host": named(cloud.node)}),
    ):
        answer = operator.refused("POST", f"{POOLS}/{pool}/{path}", body)
        assert answer.code == "ECS.OperationDenied.InUse"
        assert all(one["ecsId"] in answer.message for one in batch)
        chinese = operator.speaking("zh").refused("POST", f"{POOLS}/{pool}/{path}", body)
        assert "上仍有2台实例" in chinese.message
    assert hosts_of(operator, pool) == [cloud.node.name]


def test_a_host_moves_to_another_pool(operator: Api, cloud: Cloud) -> None:
    first, second, far = make_pool(operator), make_pool(operator, "slow"), make_pool(operator, "far", "AZ1")
    add_host(operator, first, cloud.node)
    (before,) = operator.ok("GET", f"{POOL}/hosts")["rpHosts"]
    path = f"{POOLS}/{first}/host-modify-rp"
    for destination, code in ((far, "ECS.InvalidParameter"), ("rp-nothing", "ECS.DBGet.NoData")):
        assert operator.refused("POST", path, {"destRpId": destination, "host": named(cloud.node)}).code == code
    assert operator.ok("POST", path, {"destRpId": second, "host": named(cloud.node)}) is None
    (after,) = operator.ok("GET", f"{POOL}/hosts")["rpHosts"]
    assert (after["rpId"], after["createTime"]) == (second, before["createTime"])
    assert after["addRpTime"] > before["addRpTime"]
    # It is in the first pool no more.
    assert (
        operator.refused("POST", path, {"destRpId": second, "host": named(cloud.node)}).code == "ECS.InvalidParameter"
    )


def test_a_host_leaves_only_the_pool_that_it_is_in(operator: Api, cloud: Cloud) -> None:
    pool, other = make_pool(operator), make_pool(operator, "slow")
    add_host(operator, pool, cloud.node)
    answer = operator.refused("POST", f"{POOLS}/{other}/remove-host", named(cloud.node))
    assert answer.message == f"name: host node-a is not in resource pool {other}"
    assert operator.ok("POST", f"{POOLS}/{pool}/remove-host", named(cloud.node)) is None
    assert operator.refused("POST", f"{POOLS}/{pool}/remove-host", named(cloud.node)).code == "ECS.InvalidParameter"


def test_a_pool_in_use_is_not_deleted(operator: Api, cloud: Cloud) -> None:
    pool = make_pool(operator)

    def refusal() -> str:
        answer = operator.refused("DELETE", f"{POOLS}/{pool}")
        assert answer.code == "ECS.OperationDenied.InUse"
        return answer.message

    kind = make_flavor_type(operator, rpIds=[pool])
    made = operator.ok("POST", INSTANCES, cloud.order(rpId=pool))
    assert made["status"] == "ErrorUnschedulable"
    add_host(operator, pool, cloud.node)
    assert refusal() == f"resource pool {pool} has 1 hosts"
    operator.ok("POST", f"{POOLS}/{pool}/remove-host", named(cloud.node))
    assert kind["flavorTypeId"] in refusal()
    operator.ok("PUT", f"{FLAVOR_TYPES}/{kind['flavorTypeId']}", {"name": "unbound", "rpIds": []})
    assert made["ecsId"] in refusal()
    operator.ok("DELETE", f"{INSTANCES}/{made['ecsId']}")
    assert operator.ok("DELETE", f"{POOLS}/{pool}") is None
    assert operator.refused("GET", f"{POOL}/{pool}").code == "ECS.DBGet.NoData"


def test_flavor_types_tell_their_pools(operator: Api) -> None:
    first, second, far = make_pool(operator), make_pool(operator, "slow"), make_pool(operator, "far", "AZ1")
    made = make_flavor_type(operator, rpIds=[first, second], az="AZ0")
    assert (made["rpId"], made["rpName"]) == (first, "fast")
    assert [pool["rpName"] for pool in made["resourcePools"]] == ["fast", "slow"]
    assert operator.ok("GET", f"{FLAVOR_TYPES}?rpId={second}")["flavorTypes"] == [made]
    assert [operator.ok("GET", f"{POOL}/{pool}")["ftCnt"] for pool in (first, second, far)] == [1, 1, 0]
    path = f"{FLAVOR_TYPES}/{made['flavorTypeId']}"
    assert operator.refused("PUT", path, {"name": "n", "rpId": far}).message.startswith("rpIds: ")
    operator.ok("PUT", path, {"name": "n", "rpId": second})
    (listed,) = operator.ok("GET", FLAVOR_TYPES)["flavorTypes"]
    assert (listed["rpId"], len(listed["resourcePools"])) == (second, 1)
    operator.ok("PUT", path, {"name": "n", "rpIds": [""]})
    assert operator.ok("GET", FLAVOR_TYPES)["flavorTypes"][0]["resourcePools"] is None


@BOTH_DATABASES
def test_one_host_joins_one_of_two_pools_that_want_it_at_once(operator: Api, cloud: Cloud) -> None:
    pools = [make_pool(operator, str(number)) for number in range(4)]
    body = {"hosts": [named(cloud.node)]}
    with ThreadPoolExecutor(4) as executor:
        answers = list(executor.map(lambda pool: operator.call("POST", f"{POOLS}/{pool}/add-hosts", body), pools))
    assert sorted(answer.code for answer in answers) == ["ECS.OperationDenied.InUse"] * 3 + ["Success"]
    assert operator.ok("GET", f"{POOL}/hosts")["totalCount"] == 1


def test_tenants_have_no_business_here(customer: Api, auditor: Api) -> None:
    for path in (POOLS, f"{POOL}/hosts", f"{POOL}/host-list", f"{POOL}/rp-1"):
        assert customer.refused("GET", path).code == "ECS.OperationDenied.Identity"
    auditor.ok("GET", POOLS)
    assert auditor.refused("POST", POOLS, {}).code == "ECS.OperationDenied.Identity"


def test_a_pool_that_does_not_exist(operator: Api, cloud: Cloud) -> None:
    path = f"{POOLS}/rp-nothing"
    assert operator.refused("DELETE", path).code == "ECS.DBGet.NoData"
    assert operator.refused("POST", f"{path}/add-hosts", {"hosts": [named(cloud.node)]}).code == "ECS.DBGet.NoData"
    assert operator.refused("POST", f"{path}/remove-host", named(cloud.node)).code == "ECS.DBGet.NoData"


@BOTH_DATABASES
def test_a_host_never_leaves_while_an_instance_arrives(operator: Api, cloud: Cloud) -> None:
    pool = make_pool(operator)
    add_host(operator, pool, cloud.node)
    order = cloud.order(flavorId=bound_flavor(cloud, pool))
    calls = [("POST", INSTANCES, order)] * 3 + [("POST", f"{POOLS}/{pool}/remove-host", named(cloud.node))]
    with ThreadPoolExecutor(len(calls)) as executor:
        *created, removed = executor.map(lambda call: operator.call(*call), calls)
    assert {answer.code for answer in created} == {"Success"}
    placed = [answer.data["ecsId"] for answer in created if answer.data["nodeName"]]
    assert removed.code == ("ECS.OperationDenied.InUse" if placed else "Success")
    assert hosts_of(operator, pool) == ([cloud.node.name] if placed else [])


def test_a_pool_can_be_packed_while_others_are_spread(operator: Api, customer: Api, cloud: Cloud) -> None:
    pool = make_pool(operator)
    add_host(operator, pool, *[add_node(cloud, f"pooled-{number}") for number in range(3)])
    assert operator.ok("PUT", f"{POOLS}/{pool}/weights", {"weights": {"room": -2}})["weights"] == {"room": -2}
    order = cloud.order(flavorId=bound_flavor(cloud, pool), ecsCount=4)
    assert len({it["nodeName"] for it in customer.ok("POST", BATCH, order)}) == 1
    operator.ok("PUT", f"{POOLS}/{pool}/weights", {"weights": {}})
    assert len({it["nodeName"] for it in customer.ok("POST", BATCH, order)}) > 1


@SQLITE_ONLY
@pytest.mark.parametrize("weights", [{"luck": 1}, {"room": "much"}, {"room": "inf"}, ["room"]])
def test_weights_that_are_none_are_refused(operator: Api, weights: Any) -> None:
    answer = operator.refused("PUT", f"{POOLS}/{make_pool(operator)}/weights", {"weights": weights})
    assert answer.code == "ECS.InvalidParameter"
    assert "weights" in answer.message


def test_weights_are_a_pools(operator: Api, customer: Api) -> None:
    path = f"{POOLS}/rp-nowhere/weights"
    assert operator.refused("PUT", path, {"weights": {}}).code == "ECS.DBGet.NoData"
    assert customer.refused("PUT", path, {"weights": {}}).code == "ECS.OperationDenied.Identity"
