"""Space by type of volume over REST: claimed where the volume is to be, exact under concurrency, and given back."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from coordinator.domain.unit import GIB
from coordinator.services.storage_report import apply_places
from coordinator.store.queries.placement import advance_generations
from coordinator.store.queries.storage import read_pools
from coordinator.store.tables import Instance, Migration, Node, SpaceReservation, StoragePool, Volume
from protos.agent.v1.host_pb2 import StoragePlace
from tests.api.client import Api
from tests.api.cloud import INSTANCES, Cloud, an_os_disk, finish
from tests.builders import a_node, add, an_inventory
from tests.database import SQLITE_ONLY
from tests.lab.waiting import wait_until
from tests.scripted_agent import Refusal, ScriptedAgent, all_at_work

VOLUMES = "/api/ebs/v1/volumes"
FULL = "ECS.OperationDenied.StorageInsufficient"


def a_place(pool: str, *types: str, gib: int, used_gib: int = 0, place: str = "") -> StoragePlace:
    return StoragePlace(
        pool_id=pool,
        storage_id=place or pool,
        volume_types=types,
        total_bytes=gib * GIB,
        free_bytes=(gib - used_gib) * GIB,
    )


class Site:
    """Two nodes with a share in common for "ssd", and for "hdd" each with a volume group of its own."""

    def __init__(self, cloud: Cloud, other: Node, agents: list[ScriptedAgent]) -> None:
        self.cloud, self.nodes, self.agents = cloud, [cloud.node, other], agents

    def tell(self, number: int, *places: StoragePlace) -> None:
        with self.cloud.runtime.database.write() as session:
            node = session.get_one(Node, self.nodes[number].id, with_for_update=True)
            advance_generations(session, [node.id])
            apply_places(session, node, places)

    def tell_all(self, *, share: int = 100, groups: tuple[int, int] = (50, 50)) -> None:
        for number, gib in enumerate(groups):
            self.tell(number, a_place("share", "*", gib=share), a_place(f"group-{number}", "hdd", gib=gib))

    def free(self, pool: str) -> int:
        with self.cloud.runtime.database.read() as session:
            return read_pools(session.connection(), [pool])[pool].free_gib

    def node_of(self, ecs_id: str) -> str:
        return next(str(it.node_id) for it in self.cloud.rows(Instance) if it.ecs_id == ecs_id)


def a_data_disk(size: int, volume_type: str = "hdd", **fields: Any) -> dict[str, Any]:
    return {"volumeSize": size, "volumeType": volume_type, "deleteOnTermination": True, **fields}


@pytest.fixture
def site(cloud: Cloud, tmp_path: Path) -> Iterator[Site]:
    other = a_node("node-b")
    with cloud.runtime.database.write() as session:
        add(session, other, *an_inventory(other))
    with all_at_work(cloud.runtime, [cloud.node, other], tmp_path / "pki") as agents:
        agents[0].peer = agents[1]
        yield Site(cloud, other, agents)


def test_volumes_take_space_behind_their_type_for_as_long_as_they_are(
    customer: Api, operator: Api, cloud: Cloud, site: Site
) -> None:
    site.tell_all(groups=(50, 20))
    ecs_id = cloud.create(customer, volumes=[an_os_disk(), a_data_disk(30)])
    assert (site.node_of(ecs_id), site.free("share"), site.free("group-0")) == (cloud.node.id, 80, 20)
    assert cloud.rows(SpaceReservation) == []
    shown = {node["name"]: node["storages"] for node in operator.ok("GET", "/api/ecs/v1/nodes")["list"]}
    assert shown["node-a"] == [
        {
            "volumeTypes": types,
            "poolId": pool,
            "placeId": pool,
            "totalGib": total,
            "freeGib": total,
            "availableGib": available,
            "silentSince": "0001-01-01T00:00:00Z",
        }
        for types, pool, total, available in ((["hdd"], "group-0", 50, 20), (["*"], "share", 100, 80))
    ]
    # No node has so much of it left: the reason names the type and what is free.
    order = cloud.order(displayName="full", volumes=[an_os_disk(), a_data_disk(21)])
    full = customer.call("POST", INSTANCES, order)
    assert full.data["status"] == "ErrorUnschedulable"
    message = customer.ok("GET", f"{INSTANCES}/{full.data['ecsId']}")["errMessage"]
    assert "too little storage (wanted 21 GiB of hdd, at most 20 GiB free)" in message
    assert (site.free("share"), site.free("group-0")) == (80, 20)
    # A new volume takes its space when it is attached, and more when it grows.
    data = customer.ok("POST", VOLUMES, {"name": "data", "volumeSize": 15, "volumeType": "hdd"})
    attach = f"{INSTANCES}/{ecs_id}/attach-volumes"
    finish(customer, customer.call("PUT", attach, [{"volumeId": data["volumeId"]}]))
    assert site.free("group-0") == 5
    path = f"{VOLUMES}/{data['volumeId']}"
    refused = customer.call("PUT", f"{path}/resize", {"volumeSize": 21})
    assert (refused.code, "volumes of type hdd: wanted 6 GiB, 5 GiB free" in refused.message) == (FULL, True), refused
    finish(customer, customer.call("PUT", f"{path}/resize", {"volumeSize": 20}))
    assert site.free("group-0") == 0
    more = customer.ok("POST", VOLUMES, {"name": "more", "volumeSize": 1, "volumeType": "hdd"})
    assert customer.call("PUT", attach, [{"volumeId": more["volumeId"]}]).code == FULL
    # Detached it is still there; deleted it is gone, and so is the instance's own.
    finish(
        customer, customer.call("PUT", f"{INSTANCES}/{ecs_id}/detach-volumes", {"volumeUuids": [data["volumeUuid"]]})
    )
    assert site.free("group-0") == 0
    finish(customer, customer.call("DELETE", path))
    assert site.free("group-0") == 20
    finish(customer, customer.call("DELETE", f"{INSTANCES}/{ecs_id}"))
    wait_until(lambda: (site.free("share"), site.free("group-0")) == (100, 50), "all space is free")


def test_what_fails_gives_back_what_it_took(customer: Api, cloud: Cloud, site: Site) -> None:
    site.tell_all()
    for agent in site.agents:
        agent.refusals["ensure_volume"] = Refusal()
    answer = customer.call("POST", INSTANCES, cloud.order())
    assert finish(customer, answer)["state"] == "Failed"
    assert (site.free("share"), cloud.rows(SpaceReservation)) == (100, [])
    for agent in site.agents:
        agent.refusals.clear()
    ecs_id = cloud.create(customer, displayName="next")
    data = customer.ok("POST", VOLUMES, {"name": "data", "volumeSize": 15, "volumeType": "hdd"})
    for agent in site.agents:
        agent.refusals["ensure_volume"] = Refusal()
    attach = customer.call("PUT", f"{INSTANCES}/{ecs_id}/attach-volumes", [{"volumeId": data["volumeId"]}])
    assert finish(customer, attach)["state"] == "Failed"
    assert (site.free("share"), site.free("group-0"), site.free("group-1")) == (80, 50, 50)


def test_a_rush_on_a_type_that_is_nearly_full_is_counted_to_the_last_gib(
    customer: Api, operator: Api, cloud: Cloud, site: Site
) -> None:
    # Both nodes see the same share: nine system disks of 20 GiB fit, wherever they are.
    site.tell_all(share=199)

    def create(number: int) -> str:
        return str(customer.ok("POST", INSTANCES, cloud.order(displayName=f"rush-{number}"))["status"])

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(create, range(32)))
    assert found.count("ErrorUnschedulable") == 23
    assert (site.free("share"), cloud.rows(SpaceReservation)) == (19, [])
    assert len({it.node_id for it in cloud.rows(Instance) if it.node_id}) == 2


def test_a_cold_move_copies_what_is_not_shared_and_holds_both_places_until_the_source_is_clean(
    customer: Api, operator: Api, cloud: Cloud, site: Site
) -> None:
    site.tell_all(groups=(50, 20))
    ecs_id = cloud.create(customer, volumes=[an_os_disk(), a_data_disk(30)])
    [system, local] = cloud.rows(Volume)
    site.agents[0].places = {system.uuid: "share", local.uuid: "group-0"}
    finish(customer, customer.call("PUT", f"{INSTANCES}/{ecs_id}/stop", {"gracePeriodSeconds": 0}))
    path, body = f"{INSTANCES}/{ecs_id}/cold-migrate", {"nodeName": "node-b"}
    refused = customer.call("POST", path, body)
    assert "30 GiB of hdd, at most 20 GiB free" in refused.message, refused
    site.tell(1, a_place("share", "*", gib=100), a_place("group-1", "hdd", gib=40))
    assert finish(operator, customer.call("POST", path, body))["state"] == "Succeeded"
    assert [order.uuid for order in site.agents[0].orders] == [local.uuid]
    wait_until(lambda: not cloud.rows(SpaceReservation), "the source is clean")
    assert [site.free(pool) for pool in ("share", "group-0", "group-1")] == [80, 50, 10]
    assert [it.storage_pool_id for it in cloud.rows(Volume) if it.uuid == local.uuid] == ["group-1"]
    assert len(cloud.rows(Migration)) == 1


@SQLITE_ONLY
def test_what_is_shared_whatever_its_type_is_made_in_now_is_never_removed_by_a_move(
    customer: Api, operator: Api, cloud: Cloud, site: Site
) -> None:
    ecs_id = cloud.create(customer, hostId=cloud.node.id, volumes=[an_os_disk(), a_data_disk(30)])
    system, data = cloud.rows(Volume)
    site.tell_all()
    # Both were made before "hdd" went to the groups, one is not found at all.
    site.agents[0].places = {data.uuid: "share"}
    finish(customer, customer.call("PUT", f"{INSTANCES}/{ecs_id}/stop", {"gracePeriodSeconds": 0}))
    path, body = f"{INSTANCES}/{ecs_id}/cold-migrate", {"nodeName": "node-b"}
    site.agents[1].refusals["ensure_defined"] = Refusal()
    assert finish(operator, customer.call("POST", path, body))["state"] == "Failed"
    site.agents[1].refusals.clear()
    wait_until(lambda: not cloud.rows(SpaceReservation), "the target is clean")
    assert finish(operator, customer.call("POST", path, body))["state"] == "Succeeded"
    wait_until(lambda: all("ensure_port_removed" in agent.calls for agent in site.agents), "both nodes are clean")
    assert [call for agent in site.agents for call in agent.calls if call == "ensure_volume_removed"] == []
    assert ([order for agent in site.agents for order in agent.orders], site.free("share")) == ([], 50)
    assert {it.storage_pool_id for it in cloud.rows(Volume) if it.uuid != system.uuid} == {"share"}


@SQLITE_ONLY
def test_what_a_node_tells_for_the_first_time_counts_what_is_there(customer: Api, cloud: Cloud, site: Site) -> None:
    ecs_id = cloud.create(customer, volumes=[an_os_disk(), a_data_disk(30)])
    number = [node.id for node in site.nodes].index(site.node_of(ecs_id))
    # Of the group others have 10 GiB.
    site.tell(number, a_place("share", "*", gib=100), a_place("group", "hdd", gib=50, used_gib=10))
    assert (site.free("share"), site.free("group")) == (80, 10)
    # Nothing new goes to what does not answer, be it that its agent has only just begun.
    silent = StoragePlace(volume_types=["hdd"])
    silent.silent_since.FromJsonString("2026-12-01T00:00:00Z")
    site.tell(number, a_place("share", "*", gib=100), silent)
    order = cloud.order(displayName="silent", hostId=site.nodes[number].id, volumes=[an_os_disk(), a_data_disk(1)])
    message = customer.ok("GET", f"{INSTANCES}/{customer.ok('POST', INSTANCES, order)['ecsId']}")["errMessage"]
    assert "1 no storage that answers for the volume type (wanted hdd)" in message
    assert [it.storage_pool_id for it in cloud.rows(Volume) if it.volume_type == "hdd"] == ["group"]
    # One that tells nothing any more is counted as a whole again.
    site.tell(number)
    with cloud.runtime.database.read() as session:
        assert session.get_one(Node, site.nodes[number].id).storages == {}
        assert session.get_one(StoragePool, "group").usable_gib == 40
