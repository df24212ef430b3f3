"""Host groups: hosts for the group's instances alone."""

from typing import Any

import pytest

from coordinator.store.tables import Node
from tests.api.client import Api
from tests.api.cloud import INSTANCES, Cloud
from tests.builders import a_node, add, an_inventory
from tests.database import BOTH_DATABASES

GROUPS = "/api/ecs/v1/host-groups"
GROUP = "/api/ecs/v1/host-group"
HOSTS = "/api/ecs/v1/hosts"
BATCH = f"{INSTANCES}/batch-create"


def make_group(api: Api, name: str = "licensed") -> str:
    return str(api.ok("POST", GROUPS, {"name": name})["hgId"])


def named(node: Node, **fields: Any) -> dict[str, Any]:
    """How a call names the host."""
    return {"cell": "cell0", "name": node.name, "innerIp": node.host_ip, **fields}


def add_host(api: Api, group: str, *nodes: Node) -> None:
    assert api.ok("POST", f"{GROUPS}/{group}/add-hosts", {"hosts": [named(node) for node in nodes]}) is None


def add_node(cloud: Cloud, name: str, **columns: Any) -> Node:
    node = a_node(name, **columns)
    with cloud.runtime.database.write() as session:
        add(session, node, *an_inventory(node))
    return node


def test_a_group_is_told_with_all_its_fields(operator: Api) -> None:
    made = operator.ok("POST", GROUPS, {"name": "licensed"})
    assert (made["hgId"][:3], len(made["hgId"])) == ("hg-", 11)
    assert (made["name"], made["hostCnt"]) == ("licensed", 0)
    assert made["createTime"] == made["updateTime"]
    assert operator.ok("GET", f"{GROUP}/{made['hgId']}") == made
    assert operator.ok("GET", GROUPS) == {"hostGroups": [made], "totalCount": 1}


def test_a_name_has_1_to_127_characters_and_is_taken_once(operator: Api) -> None:
    for name in ("", None, "x" * 128):
        assert operator.refused("POST", GROUPS, {"name": name}).message.startswith("name: ")
    make_group(operator, "x" * 127)
    make_group(operator)
    assert operator.refused("POST", GROUPS, {"name": "licensed"}).code == "ECS.OperationDenied.Repeat"


def test_groups_are_found(operator: Api) -> None:
    first, second = make_group(operator, "one"), make_group(operator, "two")
    expected = {
        "": [second, first],
        "name=NE": [first],
        f"hgId={second}": [second],
        f"hgld={second}": [second],
        "filter=hostCnt:eq:0|name:eq:two": [second],
        "orderBy=create_time:asc": [first, second],
        "pageSize=1&pageNumber=2": [first],
    }
    found = {
        query: [one["hgId"] for one in operator.ok("GET", f"{GROUPS}?{query}")["hostGroups"]] for query in expected
    }
    assert found == expected


@BOTH_DATABASES
def test_hosts_join_and_are_listed_under_both_names(operator: Api, cloud: Cloud) -> None:
    group = make_group(operator)
    add_host(operator, group, cloud.node, add_node(cloud, "node-b"))
    listed = operator.ok("GET", f"{GROUP}/hosts?hgId={group}")
    assert listed["totalCount"] == 2
    assert listed["hgHosts"] == listed["hostGroups"]
    first = listed["hgHosts"][0]
    assert (first["name"], first["innerIp"], first["archType"], first["cell"]) == (
        "node-a",
        "192.0.2.1",
        "amd64",
        "cell0",
    )
    assert (first["hgId"], first["hgName"]) == (group, "licensed")
    assert operator.ok("GET", f"{GROUP}/hosts?name=E-B")["totalCount"] == 1
    assert operator.ok("GET", f"{GROUP}/hosts?hgId=hg-nothing")["totalCount"] == 0
    assert operator.ok("GET", f"{GROUP}/{group}")["hostCnt"] == 2
    node = operator.ok("GET", f"/api/ecs/v1/nodes?filter=hgId:eq:{group}")["list"][0]
    assert (node["hgId"], node["hgName"]) == (group, "licensed")


def test_candidates_are_hosts_of_no_group(operator: Api, cloud: Cloud) -> None:
    group = make_group(operator)
    add_host(operator, group, cloud.node)
    add_node(cloud, "node-b", address="")
    for query in ("", f"?hgId={group}"):
        found = operator.ok("GET", f"{HOSTS}{query}")
        assert [(host["name"], host["innerIp"], host["cell"]) for host in found["hosts"]] == [("node-b", "", "cell0")]
        assert found["totalCount"] == 1
    assert operator.refused("GET", f"{HOSTS}?hgId=hg-nothing").code == "ECS.DBGet.NoData"


def test_of_several_hosts_all_join_or_none(operator: Api, cloud: Cloud) -> None:
    group, rival = make_group(operator), make_group(operator, "rival")
    taken = add_node(cloud, "taken")
    add_host(operator, rival, taken)
    path = f"{GROUPS}/{group}/add-hosts"
    both = {"hosts": [named(cloud.node), named(taken)]}
    assert operator.refused("POST", path, both).code == "ECS.OperationDenied.InUse"
    unknown = {"hosts": [named(cloud.node), named(taken, name="nobody")]}
    assert operator.refused("POST", path, unknown).code == "ECS.DBGet.NoData"
    assert operator.ok("GET", f"{GROUP}/{group}")["hostCnt"] == 0
    add_host(operator, group, cloud.node, cloud.node)
    add_host(operator, group, cloud.node)
    assert operator.ok("GET", f"{GROUP}/{group}")["hostCnt"] == 1


def test_instances_of_a_group_run_there_and_others_stay_off(customer: Api, operator: Api, cloud: Cloud) -> None:
    group, empty = make_group(operator), make_group(operator, "empty")
    before = customer.ok("POST", INSTANCES, cloud.order())
    grouped = add_node(cloud, "node-b")
    add_host(operator, group, grouped)
    batch = customer.ok("POST", BATCH, cloud.order(hgId=group, ecsCount=3))
    assert {(one["nodeName"], one["hgId"], one["hgName"]) for one in batch} == {("node-b", group, "licensed")}
    others = customer.ok("POST", BATCH, cloud.order(ecsCount=3))
    assert {(one["nodeName"], one["hgId"]) for one in others} == {("node-a", "")}
    nowhere = customer.ok("POST", INSTANCES, cloud.order(hgId=empty))
    assert nowhere["errMessage"] == "0/2 hosts: 2 other host group"
    # The only other host joins, too: what runs there stays, and nothing is added.
    add_host(operator, group, cloud.node)
    assert customer.ok("GET", f"{INSTANCES}/{before['ecsId']}")["nodeName"] == "node-a"
    refused = customer.ok("POST", INSTANCES, cloud.order())
    assert refused["errMessage"] == "0/2 hosts: 2 reserved for a host group"
    assert customer.ok("GET", f"{INSTANCES}?filter=hgId:eq:{group}")["totalCount"] == 3
    assert customer.refused("POST", INSTANCES, cloud.order(hgId="hg-nothing")).code == "ECS.DBGet.NoData"


def test_a_host_with_instances_of_its_group_stays(operator: Api, cloud: Cloud) -> None:
    stranger = operator.ok("POST", INSTANCES, cloud.order())
    group = make_group(operator)
    add_host(operator, group, cloud.node)
    made = operator.ok("POST", INSTANCES, cloud.order(hgId=group))
    answer = operator.refused("POST", f"{GROUPS}/{group}/remove-host", named(cloud.node))
    assert answer.code == "ECS.OperationDenied.InUse"
    assert (made["ecsId"] in answer.message, stranger["ecsId"] in answer.message) == (True, False)
    assert operator.ok("GET", f"{GROUP}/{group}")["hostCnt"] == 1


def test_a_host_leaves_only_the_group_that_it_is_in(operator: Api, cloud: Cloud) -> None:
    group, other = make_group(operator), make_group(operator, "other")
    add_host(operator, group, cloud.node)
    answer = operator.refused("POST", f"{GROUPS}/{other}/remove-host", named(cloud.node))
    assert answer.message == f"name: host node-a is not in host group {other}"
    assert operator.ok("POST", f"{GROUPS}/{group}/remove-host", named(cloud.node)) is None
    assert operator.ok("POST", INSTANCES, cloud.order())["nodeName"] == "node-a"


@pytest.mark.parametrize("path", [GROUP, GROUPS])
def test_a_group_in_use_is_not_deleted(operator: Api, cloud: Cloud, path: str) -> None:
    group = make_group(operator)
    made = operator.ok("POST", INSTANCES, cloud.order(hgId=group))
    add_host(operator, group, cloud.node)
    assert operator.refused("DELETE", f"{path}/{group}").message == f"host group {group} has 1 hosts"
    operator.ok("POST", f"{GROUPS}/{group}/remove-host", named(cloud.node))
    assert made["ecsId"] in operator.refused("DELETE", f"{path}/{group}").message
    operator.ok("DELETE", f"{INSTANCES}/{made['ecsId']}")
    assert operator.ok("DELETE", f"{path}/{group}") is None
    assert operator.refused("DELETE", f"{path}/{group}").code == "ECS.DBGet.NoData"
    assert operator.refused("GET", f"{GROUP}/{group}").code == "ECS.DBGet.NoData"


def test_tenants_have_no_business_here(customer: Api, auditor: Api) -> None:
    for path in (GROUPS, f"{GROUP}/hosts", HOSTS, f"{GROUP}/hg-1"):
        assert customer.refused("GET", path).code == "ECS.OperationDenied.Identity"
    auditor.ok("GET", GROUPS)
    assert auditor.refused("POST", GROUPS, {}).code == "ECS.OperationDenied.Identity"
