"""Elastic local disks of flavors over REST: made, counted, shown, kept where they are, and gone with their instance."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.domain.placement import ResourceClass
from coordinator.store.tables import Allocation, Inventory, Node, Volume
from tests.api.client import Api
from tests.api.cloud import INSTANCES, Cloud, an_os_disk, finish
from tests.api.launch_template import create as create_template
from tests.api.launch_template import launch
from tests.builders import a_flavor, a_flavor_type, a_node, add, an_inventory
from tests.database import SQLITE_ONLY
from tests.lab.waiting import wait_until
from tests.scripted_agent import ScriptedAgent, all_at_work

UNSUPPORTED = "ECS.InvalidParameter.Status.NotSupported"
VOLUMES = "/api/ebs/v1/volumes"


@pytest.fixture
def agents(cloud: Cloud, tmp_path: Path) -> Iterator[list[ScriptedAgent]]:
    """Of the first node with 200 GiB for such disks, and of another one without any."""
    other = a_node("node-b")
    with cloud.runtime.database.write() as session:
        local = Inventory(node_id=cloud.node.id, resource_class=ResourceClass.LOCAL_STORAGE_GIB, total=200)
        add(session, other, *an_inventory(other), local)
        session.get_one(Node, cloud.node.id).generation += 1
    with all_at_work(cloud.runtime, [cloud.node, other], tmp_path / "pki") as scripted:
        yield scripted


def an_elastic_flavor(cloud: Cloud, **columns: Any) -> dict[str, Any]:
    """The fields of an order that name it: a system disk of 40 GiB and two others of 50 unless said otherwise."""
    flavor_type = a_flavor_type(local_disk_type="elasticity")
    same = {
        "use_elasticity_local_sys_disk": True,
        "elasticity_local_sys_disk_size_gib": 40,
        "elasticity_local_data_disk_num": 2,
        "elasticity_local_data_disk_size_gib": 50,
    }
    flavor = a_flavor(flavor_type, **{**same, **columns})
    with cloud.runtime.database.write() as session:
        add(session, flavor_type, flavor)
    return {"flavorId": flavor.flavor_id}


def held(cloud: Cloud, name: ResourceClass) -> list[int]:
    return [row.amount for row in cloud.rows(Allocation) if row.resource_class == name]


def test_they_come_with_the_instance_and_go_with_it(customer: Api, cloud: Cloud, agents: list[ScriptedAgent]) -> None:
    flavor = an_elastic_flavor(cloud)
    data = {"volumeSize": 30, "volumeType": "hdd", "deleteOnTermination": True}
    disks = [an_os_disk(volumeSize=40), data]
    ecs_id = cloud.create(customer, **flavor, volumes=disks)
    shown = customer.ok("GET", f"{INSTANCES}/{ecs_id}")
    assert shown["nodeName"] == "node-a"
    mapped = [(it["volumeType"], it["volumeSize"]) for it in shown["blockDeviceMappings"]]
    assert mapped == [("elasticity", 40), ("hdd", 30), ("elasticity", 50), ("elasticity", 50)]
    assert (held(cloud, ResourceClass.LOCAL_STORAGE_GIB), held(cloud, ResourceClass.STORAGE_GIB)) == ([140], [30])
    assert sorted(agents[0].volumes.values()) == [size * 1024**3 for size in (30, 40, 50, 50)]
    # There is room for no second one, on any node; the reason names it.
    full = customer.call("POST", INSTANCES, cloud.order(**flavor, volumes=disks, displayName="full"))
    assert full.data["status"] == "ErrorUnschedulable"
    assert "local storage" in customer.ok("GET", f"{INSTANCES}/{full.data['ecsId']}")["errMessage"]
    customer.ok("DELETE", f"{INSTANCES}/{full.data['ecsId']}")
    finish(customer, customer.call("DELETE", f"{INSTANCES}/{ecs_id}"))
    wait_until(lambda: not agents[0].volumes, "all of its disks are gone")
    assert held(cloud, ResourceClass.LOCAL_STORAGE_GIB) == []


def test_what_would_take_them_away_from_it_is_refused(
    customer: Api, operator: Api, cloud: Cloud, agents: list[ScriptedAgent]
) -> None:
    flavor = an_elastic_flavor(cloud, elasticity_local_data_disk_num=1)
    ecs_id = cloud.create(customer, **flavor, volumes=[an_os_disk(volumeSize=40)])
    system, data = sorted(cloud.rows(Volume), key=lambda row: row.id)
    path = f"{INSTANCES}/{ecs_id}"
    for method, where, body in (
        ("PUT", f"{path}/detach-volumes", {"volumeUuids": [f"volume-{data.uuid}"]}),
        ("PUT", f"{path}/reset-voldelflag", {"volumeId": data.id, "deleteOnTermination": False}),
        ("PUT", f"{VOLUMES}/{data.id}/resize", {"volumeSize": 60}),
        ("POST", "/api/ecs/v1/snapshot", {"ecsId": ecs_id, "snapshotName": "s"}),
        ("POST", "/api/ecs/v1/backups", {"ecsId": ecs_id}),
        ("POST", f"{path}/change-os", {"imageId": cloud.image.id}),
        ("GET", f"{path}/check-clone?tenantId={cloud.tenant.id}", None),
    ):
        answer = customer.call(method, where, body)
        assert (answer.code, "elastic" in answer.message) == (UNSUPPORTED, True), (where, answer)
    live = operator.refused("POST", f"{path}/live-migrate", {"nodeName": "node-b"})
    nodes = customer.refused("GET", f"{path}/schedulable-nodes?type=cold")
    drain = operator.refused("PUT", "/api/ecs/v1/nodes/maintenance", {"nodeName": "node-a", "maintenance": True})
    assert all("elastic" in answer.message for answer in (live, nodes, drain)), (live, nodes, drain)
    body = {"cpus": 2, "memory": {"amount": "4Gi"}, "flavorId": cloud.flavor.flavor_id}
    assert customer.call("PATCH", path, body).code == "ECS.OperationFailed.Resize"
    assert {row.volume_type for row in cloud.rows(Volume)} == {"elasticity"}
    assert system.delete_on_termination
    # With more vCPUs and the same disks it is another size.
    wider = an_elastic_flavor(cloud, elasticity_local_data_disk_num=1, cpu=4)
    resized = customer.call("PATCH", path, {**body, **wider, "cpus": 4})
    assert finish(customer, resized)["state"] == "Succeeded"
    assert held(cloud, ResourceClass.LOCAL_STORAGE_GIB) == [90]


@SQLITE_ONLY
def test_orders_of_such_flavors(customer: Api, cloud: Cloud, agents: list[ScriptedAgent]) -> None:
    flavor = an_elastic_flavor(cloud)
    for fields, field in (
        ({"volumes": [an_os_disk(volumeSize=41)]}, "volumes[0].volumeSize"),
        ({"volumes": [an_os_disk(volumeSize=40, volumeType="elasticity")]}, "volumes[0].volumeType"),
        ({"volumes": [an_os_disk(volumeSize=40), *[{"volumeSize": 1, "volumeType": "hdd"}] * 14]}, "volumes"),
        ({"volumes": [an_os_disk(volumeSize=40)], "localDisk": 1}, "localDisk"),
    ):
        answer = customer.refused("POST", INSTANCES, cloud.order(**flavor, **fields))
        assert field in answer.message, answer
    # Who asks for a size alone gets none; a template orders them anew.
    assert customer.ok("GET", f"{INSTANCES}/{cloud.create(customer, flavorId=None)}")["flavorId"] != flavor["flavorId"]
    small = an_elastic_flavor(cloud, elasticity_local_data_disk_num=1, elasticity_local_data_disk_size_gib=10)
    ecs_id = cloud.create(customer, **small, volumes=[an_os_disk(volumeSize=40)], displayName="model")
    made = launch(customer, create_template(customer, ecs_id))
    shown = customer.ok("GET", f"{INSTANCES}/{made['ecsId']}")["blockDeviceMappings"]
    assert [(it["volumeType"], it["volumeSize"]) for it in shown] == [("elasticity", 40), ("elasticity", 10)]
