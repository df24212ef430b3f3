"""Local disks that nobody uses, over REST."""

from typing import Any

import pytest
from sqlmodel import Session

from coordinator.domain.identifier import Prefix
from coordinator.runtime import Runtime
from coordinator.store.tables import Device, DeviceAllocation, PoolHost, ResourcePool
from tests.api.client import Api
from tests.builders import a_node, add
from tests.database import BOTH_DATABASES, SQLITE_ONLY

UNUSED = "/api/ecs/v1/harddisks/nouse-list"
GIB = 1024**3


def a_disk(node_id: str, number: int, media: str = "ssd", size_gib: int = 500, **columns: Any) -> Device:
    attributes = {"media": media, "interface": "nvme" if media == "ssd" else "sata"}
    return Device(
        **{
            "node_id": node_id,
            "id": f"wwn-{number}",
            "kind": "disk",
            "attributes": attributes,
            "size_bytes": size_gib * GIB,
            **columns,
        }
    )


def fill(session: Session, runtime: Runtime) -> str:
    """Two nodes with disks, and one that is away; answers the pool of the first."""
    first, second, away = a_node("first"), a_node("second", zone="AZ1"), a_node("away", ready=False)
    pool = ResourcePool(
        id=runtime.identifiers.new(Prefix.RESOURCE_POOL), name="fast", zone="AZ0", cpu_allocation_ratio=1
    )
    add(session, first, second, away, pool, PoolHost(node_id=first.id, rp_id=pool.id, joined_at=runtime.now()))
    add(session, a_disk(first.id, 1), a_disk(first.id, 2), a_disk(first.id, 3, "hdd", 4000), a_disk(away.id, 1))
    add(session, a_disk(first.id, 4, withheld_reason="mounted"), a_disk(first.id, 5, kind="gpu"), a_disk(first.id, 6))
    add(session, a_disk(second.id, 1, size_gib=900))
    holder = DeviceAllocation(consumer_uuid="u", node_id=first.id, device_id="wwn-6", kind="disk", milli=1000)
    add(session, holder)
    return pool.id


@pytest.fixture
def pool_id(runtime: Runtime) -> str:
    with runtime.database.write() as session:
        return fill(session, runtime)


@BOTH_DATABASES
def test_disks_that_nobody_has_are_counted_by_node_and_kind(operator: Api, pool_id: str) -> None:
    told = operator.ok("GET", UNUSED)
    assert [(it["nodeName"], it["localDiskType"], it["localDiskInterface"], it["diskNum"]) for it in told] == [
        ("first", "HDD", "SATA", 1),
        ("first", "SSD", "NVME", 2),
        ("second", "SSD", "NVME", 1),
    ]
    assert told[1] | {"orderKey": ""} == {
        "az": "AZ0",
        "cell": "cell0",
        "nodeName": "first",
        "localDiskType": "SSD",
        "localDiskInterface": "NVME",
        "diskSize": 500 * GIB,
        "diskNum": 2,
        "orderKey": "",
    }
    assert len({it["orderKey"] for it in told}) == 3


@BOTH_DATABASES
@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("az=AZ1", ["second"]),
        ("localDiskType=HDD", ["first"]),
        ("localDiskType=ssd&localDiskInterface=NVME", ["first", "second"]),
        ("minSize=900", ["first", "second"]),
        ("minSize=501&maxSize=900", ["second"]),
        ("maxSize=10", []),
        ("az=&localDiskType=&rplds=", ["first", "first", "second"]),
    ],
)
def test_they_are_searched(operator: Api, pool_id: str, query: str, names: list[str]) -> None:
    assert [it["nodeName"] for it in operator.ok("GET", f"{UNUSED}?{query}")] == names


@BOTH_DATABASES
def test_they_are_searched_by_pools(operator: Api, pool_id: str) -> None:
    assert {it["nodeName"] for it in operator.ok("GET", f"{UNUSED}?rplds={pool_id},rp-other")} == {"first"}
    assert operator.ok("GET", f"{UNUSED}?rpIds=rp-other") == []


@SQLITE_ONLY
@pytest.mark.parametrize("query", ["localDiskType=tape", "localDiskInterface=usb", "minSize=-1", "maxSize=many"])
def test_a_bad_search_names_the_field(operator: Api, query: str) -> None:
    answer = operator.refused("GET", f"{UNUSED}?{query}")
    assert answer.code == "ECS.InvalidParameter"
    assert query.partition("=")[0] in answer.message


def test_they_are_the_operators_business(customer: Api) -> None:
    assert customer.refused("GET", UNUSED).code == "ECS.OperationDenied.Identity"
