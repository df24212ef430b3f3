"""Deployment sets: instances of a tenant that run together or apart."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from coordinator.store.tables import DeploymentSet, Instance, ResourceGroup
from tests.api.client import Api
from tests.api.cloud import INSTANCES, Cloud
from tests.builders import a_department, a_node, a_tenant, add, an_inventory
from tests.database import BOTH_DATABASES

SETS = "/api/ecs/v1/deployment-sets"
BATCH = f"{INSTANCES}/batch-create"
EXPLAIN = f"{INSTANCES}/explain-placement"
POLICIES = ("hostPolicy", "rackPolicy", "switchPolicy", "netSwitchPolicy")


def body_of(cloud: Cloud, name: str = "replicas", **fields: Any) -> dict[str, Any]:
    return {"name": name, "tenantId": cloud.tenant.id, "departmentId": cloud.department.id, **fields}


def make_set(api: Api, cloud: Cloud, name: str = "replicas", **fields: Any) -> str:
    return str(api.ok("POST", SETS, body_of(cloud, name, **fields))["deploymentSetId"])


def add_nodes(cloud: Cloud, *names: str, **columns: Any) -> None:
    with cloud.runtime.database.write() as session:
        for name in names:
            node = a_node(name, **columns)
            add(session, node, *an_inventory(node))


def test_a_set_is_told_with_all_its_fields(customer: Api, cloud: Cloud) -> None:
    policies = dict(zip(POLICIES, ("anti-affinity", "soft-anti-affinity", "affinity", "soft-affinity"), strict=True))
    made = customer.ok("POST", SETS, body_of(cloud, resourceGroupId="", **policies))
    assert made["deploymentSetId"][:6] == "d-set-"
    assert len(made["deploymentSetId"]) == 20
    assert {name: made[name] for name in POLICIES} == policies
    assert (made["name"], made["ecsCount"], made["deletedAt"]) == ("replicas", 0, None)
    assert (made["tenantId"], made["tenantName"]) == (cloud.tenant.id, cloud.tenant.name)
    assert (made["departmentId"], made["departmentName"]) == (cloud.department.id, "engineering")
    assert (made["resourceGroupId"], made["resourceGroupName"]) == ("", "")
    assert made["createdAt"] == made["updatedAt"]
    assert customer.ok("GET", f"{SETS}/{made['deploymentSetId']}") == made
    assert customer.ok("GET", f"{SETS}?size=10&current=1") == {"size": 10, "current": 1, "total": 1, "list": [made]}


def test_what_a_set_belongs_to_is_checked(customer: Api, operator: Api, stranger: Api, cloud: Cloud) -> None:
    other = a_tenant()
    foreign = a_department(other)
    group = ResourceGroup(id="17", tenant_id=cloud.tenant.id, name="tier")
    with cloud.runtime.database.write() as session:
        add(session, other, foreign, group)
    no_tenant = "Ecs.InvalidParameter.TenantId.NotFound"
    assert stranger.refused("POST", SETS, body_of(cloud)).code == no_tenant
    assert operator.refused("POST", SETS, body_of(cloud, tenantId="1")).code == no_tenant
    assert customer.refused("POST", SETS, body_of(cloud, departmentId=foreign.id)).code == "ECS.DBGet.NoData"
    assert customer.refused("POST", SETS, body_of(cloud, resourceGroupId="18")).code == "ECS.DBGet.NoData"
    assert customer.ok("POST", SETS, body_of(cloud, resourceGroupId="17"))["resourceGroupName"] == "tier"
    assert operator.refused("DELETE", "/api/iam/v1/resource-groups/17").code == "ECS.OperationDenied.InUse"
    department = f"/api/iam/v1/departments/{cloud.department.id}"
    assert operator.refused("DELETE", department).code == "ECS.OperationDenied.InUse"
    assert "deployment set" in operator.refused("DELETE", f"/api/iam/v1/tenants/{cloud.tenant.id}").message


def test_names_and_policies_are_checked(customer: Api, operator: Api, cloud: Cloud) -> None:
    for name in ("", None, "x" * 128):
        assert customer.refused("POST", SETS, body_of(cloud) | {"name": name}).message.startswith("name: ")
    for policy in POLICIES:
        refused = customer.refused("POST", SETS, body_of(cloud, **{policy: "apart"}))
        assert (refused.code, refused.message.split(":")[0]) == ("ECS.InvalidParameter", policy)
    make_set(customer, cloud)
    assert customer.refused("POST", SETS, body_of(cloud)).code == "ECS.OperationDenied.Repeat"
    other = a_tenant()
    department = a_department(other)
    with cloud.runtime.database.write() as session:
        add(session, other, department)
    operator.ok("POST", SETS, body_of(cloud, tenantId=other.id, departmentId=department.id))


def test_tenants_see_their_own(customer: Api, stranger: Api, operator: Api, auditor: Api, cloud: Cloud) -> None:
    made = make_set(customer, cloud)
    assert stranger.ok("GET", SETS)["list"] == []
    for method in ("GET", "DELETE"):
        refused = stranger.refused(method, f"{SETS}/{made}")
        assert (refused.code, made in refused.message) == ("ECS.DBGet.NoData", True)
    assert operator.ok("GET", f"{SETS}/{made}") == auditor.ok("GET", f"{SETS}/{made}")
    assert auditor.refused("POST", SETS, body_of(cloud)).code == "ECS.OperationDenied.Identity"
    assert customer.ok("DELETE", f"{SETS}/{made}") is None
    assert customer.refused("GET", f"{SETS}/{made}").code == "ECS.DBGet.NoData"


def test_sets_are_found(customer: Api, cloud: Cloud) -> None:
    first, second = make_set(customer, cloud, "one", rackPolicy="affinity"), make_set(customer, cloud, "two")
    expected = {
        "": [second, first],
        "name=NE": [first],
        "filter=rackPolicy:eq:affinity": [first],
        f"filter=deploymentSetId:eq:{second}": [second],
        f"tenantId={cloud.tenant.id}&orderBy=created_at:asc": [first, second],
        "filter=ecsCount:gt:0": [],
        "size=1&current=2": [first],
    }
    found = {
        query: [one["deploymentSetId"] for one in customer.ok("GET", f"{SETS}?{query}")["list"]] for query in expected
    }
    assert found == expected


def test_instances_run_apart_and_a_set_with_members_stays(customer: Api, cloud: Cloud) -> None:
    add_nodes(cloud, "node-b", "node-c")
    apart = make_set(customer, cloud, hostPolicy="anti-affinity")
    batch = customer.ok("POST", BATCH, cloud.order(deploymentSet=apart, ecsCount=2))
    assert {one["deploymentSet"] for one in batch} == {apart}
    third = customer.ok("POST", INSTANCES, cloud.order(deploymentSet=apart))
    assert {one["nodeName"] for one in (*batch, third)} == {"node-a", "node-b", "node-c"}
    told = customer.ok("POST", EXPLAIN, cloud.order(deploymentSet=apart, ecsCount=1))
    assert (told["placeable"], told["summary"]) == (False, "0/3 hosts: 3 host taken by the deployment set")
    nowhere = customer.ok("POST", INSTANCES, cloud.order(deploymentSet=apart))
    assert nowhere["errMessage"] == "0/3 hosts: 3 host taken by the deployment set"
    assert customer.ok("GET", f"{SETS}/{apart}")["ecsCount"] == 4
    assert customer.ok("GET", f"{INSTANCES}?filter=deploymentSet:eq:{apart}")["totalCount"] == 4
    refused = customer.refused("DELETE", f"{SETS}/{apart}")
    assert refused.code == "ECS.OperationDenied.InUse"
    assert all(one["ecsId"] in refused.message for one in (*batch, third, nowhere))
    # A member that leaves makes room.
    cloud.change(next(row for row in cloud.rows(Instance) if row.ecs_id == third["ecsId"]), node_id=None)
    assert customer.ok("POST", EXPLAIN, cloud.order(deploymentSet=apart, ecsCount=1))["placeable"]


def test_a_rack_is_shared_as_labels_say_now(customer: Api, operator: Api, cloud: Cloud) -> None:
    add_nodes(cloud, "node-b", rack="r1")
    add_nodes(cloud, "node-c", rack="r2")
    together = make_set(customer, cloud, rackPolicy="affinity", hostPolicy="soft-anti-affinity")
    refused = customer.refused("POST", BATCH, cloud.order(deploymentSet=together, ecsCount=9))
    assert "no rack label" in refused.message
    nodes = [{"cell": "cell0", "name": "node-a"}]
    operator.ok("POST", "/api/ecs/v1/nodes/label", {"nodes": nodes, "rackLabel": "r1"})
    batch = customer.ok("POST", BATCH, cloud.order(deploymentSet=together, ecsCount=10))
    assert {one["nodeName"] for one in batch} == {"node-a", "node-b"}
    told = operator.ok("POST", EXPLAIN, cloud.order(deploymentSet=together, ecsCount=1))
    verdicts = {one["nodeName"]: one for one in told["hosts"]}
    assert verdicts["node-a"]["scores"]["deployment"] > 0
    assert (verdicts["node-c"]["filter"], verdicts["node-c"]["wanted"], verdicts["node-c"]["available"]) == (
        "deployment_set",
        "rack r1",
        "rack r2",
    )


def test_a_set_without_policies_has_no_effect(customer: Api, cloud: Cloud) -> None:
    made = make_set(customer, cloud)
    batch = customer.ok("POST", BATCH, cloud.order(deploymentSet=made, ecsCount=2))
    assert [one["nodeName"] for one in batch] == ["node-a", "node-a"]


def test_only_a_set_of_the_tenant_can_be_joined(operator: Api, cloud: Cloud) -> None:
    other = a_tenant()
    department = a_department(other)
    with cloud.runtime.database.write() as session:
        add(session, other, department)
    foreign = make_set(operator, cloud, tenantId=other.id, departmentId=department.id)
    for path in (INSTANCES, EXPLAIN):
        refused = operator.refused("POST", path, cloud.order(deploymentSet=foreign))
        assert (refused.code, foreign in refused.message) == ("ECS.DBGet.NoData", True)
    assert cloud.rows(Instance) == []


@BOTH_DATABASES
def test_of_many_orders_at_once_none_shares_a_host(customer: Api, cloud: Cloud) -> None:
    add_nodes(cloud, *(f"node-{letter}" for letter in "bcde"))
    apart = make_set(customer, cloud, hostPolicy="anti-affinity")

    def order(_number: int) -> Any:
        return customer.ok("POST", INSTANCES, cloud.order(deploymentSet=apart))

    with ThreadPoolExecutor(8) as pool:
        placed = [one["nodeName"] for one in pool.map(order, range(8))]
    assert sorted(name for name in placed if name) == [f"node-{letter}" for letter in "abcde"]


def test_a_deleted_set_is_gone(customer: Api, cloud: Cloud) -> None:
    made = make_set(customer, cloud)
    customer.ok("DELETE", f"{SETS}/{made}")
    assert cloud.rows(DeploymentSet) == []
    refused = customer.refused("POST", INSTANCES, cloud.order(deploymentSet=made))
    assert (refused.code, cloud.rows(Instance)) == ("ECS.DBGet.NoData", [])
