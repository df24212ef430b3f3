"""Claims of what has a name: devices and host CPUs, on real databases."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlmodel import select

from coordinator.domain.cell import CellWish
from coordinator.domain.device import DeviceWish
from coordinator.domain.placement import Consumer, Decision, ResourceClass
from coordinator.errors import AllocationMismatch
from coordinator.placement.cache import HostCache
from coordinator.placement.claim import claim, explain, release
from coordinator.store.database import Database
from coordinator.store.queries.device import GONE, replace_devices
from coordinator.store.queries.placement import advance_generations
from coordinator.store.tables import CellAllocation, Device, DeviceAllocation, Inventory, Node
from tests.builders import a_consumer, a_gpu_wish, a_node, a_request, add, an_inventory
from tests.database import BOTH_DATABASES

pytestmark = BOTH_DATABASES

CELLS: list[dict[str, Any]] = [
    {"id": cell, "cores": [[8 * cell + 2 * core, 8 * cell + 2 * core + 1] for core in range(4)], "memory_mib": 32768}
    | {"huge_pages_mib": {"2048": 4096}}
    for cell in range(2)
]


def a_gpu(node: Node, number: int, **columns: Any) -> Device:
    return Device(
        **{
            "node_id": node.id,
            "id": f"0000:{number:02x}:00.0",
            "kind": "gpu",
            "attributes": {"vendor": "10de", "product": "1eb8"},
            "cell": number % 2,
            "shareable": True,
            **columns,
        }
    )


def add_nodes(database: Database, count: int = 1, gpus: int = 4) -> list[Node]:
    nodes = [a_node(f"node-{number}", cells=CELLS) for number in range(count)]
    with database.write() as session:
        for node in nodes:
            add(session, node, *an_inventory(node, vcpus=16, memory_gib=64, storage_gib=10_000))
            add(session, *[a_gpu(node, number) for number in range(gpus)])
    return nodes


@pytest.fixture
def hosts(database: Database) -> HostCache:
    return HostCache(database)


def claim_in(database: Database, hosts: HostCache, *consumers: Consumer) -> Decision:
    with database.write() as session:
        return claim(session, hosts, a_request(*consumers))


def dedicated(vcpus: int) -> Consumer:
    base = a_consumer()
    amounts = {ResourceClass.DEDICATED_VCPU: vcpus, ResourceClass.MEMORY_MIB: 1024}
    return replace(base, resources=amounts, cells=CellWish(vcpus, 1024, dedicated=True))


def held_devices(database: Database) -> list[tuple[str, str, int]]:
    with database.read() as session:
        rows = session.exec(select(DeviceAllocation)).all()
    return sorted((row.node_id, row.device_id, row.milli) for row in rows)


def pins(database: Database) -> list[tuple[str, int]]:
    with database.read() as session:
        return sorted((row.node_id, cpu) for row in session.exec(select(CellAllocation)) for cpu in row.cpus)


def sum_of(milli: Iterable[tuple[str, str, int]], device_id: str) -> int:
    return sum(amount for _, device, amount in milli if device == device_id)


def test_devices_are_assigned_by_the_claim_and_freed_by_the_release(database: Database, hosts: HostCache) -> None:
    [node] = add_nodes(database)
    consumer = a_consumer(devices=(a_gpu_wish(2),))
    [assignment] = claim_in(database, hosts, consumer).assignments
    assert held_devices(database) == [(node.id, share.device_id, 1000) for share in assignment.devices]
    assert not claim_in(database, hosts, a_consumer(devices=(a_gpu_wish(3),))).placed
    with database.write() as session:
        release(session, [consumer.uuid])
    assert held_devices(database) == []
    assert claim_in(database, hosts, a_consumer(devices=(a_gpu_wish(4),))).placed


def test_a_repeated_claim_has_the_same_devices_and_cpus(database: Database, hosts: HostCache) -> None:
    add_nodes(database, 3)
    consumer = replace(dedicated(3), devices=(a_gpu_wish(), a_gpu_wish(1, 250)))
    first, second = claim_in(database, hosts, consumer), claim_in(database, hosts, consumer)
    assert first.assignments[0].host.node_id == second.assignments[0].host.node_id
    assert first.assignments[0].cells == second.assignments[0].cells
    assert first.assignments[0].devices == second.assignments[0].devices
    assert len(held_devices(database)) == 2


def test_a_repeated_claim_has_its_devices_in_the_order_of_its_wishes(database: Database, hosts: HostCache) -> None:
    [node] = add_nodes(database, gpus=2)
    with database.write() as session:
        add(session, Device(node_id=node.id, id="0-disk", kind="disk"), a_gpu(node, 0x7F, attributes={"model": "A2"}))
    consumer = a_consumer(devices=(a_gpu_wish(1, 1000, "A2"), a_gpu_wish(2), DeviceWish("disk")))
    first, second = claim_in(database, hosts, consumer), claim_in(database, hosts, consumer)
    devices = [[share.device_id for share in decision.assignments[0].devices] for decision in (first, second)]
    assert devices[0] == ["0000:7f:00.0", "0000:00:00.0", "0000:01:00.0", "0-disk"]
    assert devices[1] == devices[0]


def test_a_consumer_cannot_claim_pages_of_another_size(database: Database, hosts: HostCache) -> None:
    add_nodes(database)
    consumer = replace(a_consumer(), resources={ResourceClass.VCPU: 1}, cells=CellWish(1, 1024, page_kib=2048))
    claim_in(database, hosts, consumer)
    with pytest.raises(AllocationMismatch):
        claim_in(database, hosts, replace(consumer, cells=CellWish(1, 1024, page_kib=1048576)))


def test_a_claim_of_absurdly_many_devices_is_refused_at_once(database: Database, hosts: HostCache) -> None:
    add_nodes(database)
    consumer = a_consumer(devices=(a_gpu_wish(),))
    claim_in(database, hosts, consumer)
    with pytest.raises(AllocationMismatch):
        claim_in(database, hosts, replace(consumer, devices=(a_gpu_wish(2**32 - 1),)))
    assert not claim_in(database, hosts, a_consumer(devices=(a_gpu_wish(2**32 - 1),))).placed


@pytest.mark.parametrize(
    "changed",
    [
        {"devices": ()},
        {"devices": (a_gpu_wish(2),)},
        {"devices": (a_gpu_wish(1, 500),)},
        {"cells": None},
        {"cells": CellWish(4, 1024, dedicated=True)},
    ],
)
def test_a_consumer_cannot_claim_other_devices_or_cells(
    database: Database, hosts: HostCache, changed: dict[str, Any]
) -> None:
    add_nodes(database)
    consumer = replace(dedicated(3), devices=(a_gpu_wish(),))
    claim_in(database, hosts, consumer)
    with pytest.raises(AllocationMismatch):
        claim_in(database, hosts, replace(consumer, **changed))


def test_sixty_four_claims_at_once_never_share_a_device(database: Database, hosts: HostCache) -> None:
    add_nodes(database, 3, gpus=7)
    consumers = [a_consumer(vcpus=1, memory_gib=1, devices=(a_gpu_wish(),)) for _ in range(64)]
    with ThreadPoolExecutor(16) as pool:
        placed = [it.placed for it in pool.map(lambda consumer: claim_in(database, hosts, consumer), consumers)]
    assert sum(placed) == 21
    assert len({(node_id, device_id) for node_id, device_id, _ in held_devices(database)}) == 21


def test_slices_of_a_gpu_at_once_are_never_more_than_one(database: Database, hosts: HostCache) -> None:
    add_nodes(database, 1, gpus=2)
    consumers = [a_consumer(vcpus=1, memory_gib=1, devices=(a_gpu_wish(1, 300),)) for _ in range(16)]
    with ThreadPoolExecutor(8) as pool:
        placed = [it.placed for it in pool.map(lambda consumer: claim_in(database, hosts, consumer), consumers)]
    assert sum(placed) == 6
    held = held_devices(database)
    assert {sum_of(held, device_id) for _, device_id, _ in held} == {900}


def test_pinned_cpus_at_once_are_each_somebodys_alone(database: Database, hosts: HostCache) -> None:
    add_nodes(database, 2)
    consumers = [dedicated(3) for _ in range(16)]
    with ThreadPoolExecutor(8) as pool:
        placed = [it.placed for it in pool.map(lambda consumer: claim_in(database, hosts, consumer), consumers)]
    # Three vCPUs take two cores of two threads; a host has two cells of four cores.
    assert sum(placed) == 8
    taken = pins(database)
    assert len(set(taken)) == len(taken) == 32


def test_a_device_that_is_gone_is_kept_for_its_holder_and_offered_to_nobody(
    database: Database, hosts: HostCache
) -> None:
    [node] = add_nodes(database, gpus=2)
    claim_in(database, hosts, a_consumer(devices=(a_gpu_wish(),)))
    [(_, held, _)] = held_devices(database)
    with database.write() as session:
        replace_devices(session, node.id, [])
        advance_generations(session, [node.id])
    with database.read() as session:
        [left] = session.exec(select(Device)).all()
    assert (left.id, left.withheld_reason) == (held, GONE)
    with database.write() as session:
        replace_devices(session, node.id, [a_gpu(node, 0), a_gpu(node, 1, withheld_reason="faulty")])
        advance_generations(session, [node.id])
    decision = claim_in(database, hosts, a_consumer(devices=(a_gpu_wish(),)))
    # The second is withheld; the first is free only if the second is the one that is held.
    assert decision.placed == (held.endswith("01:00.0"))


def test_explanations_name_what_is_missing(database: Database, hosts: HostCache) -> None:
    add_nodes(database, gpus=1)
    with database.read() as session:
        decision = explain(session, hosts, a_request(a_consumer(devices=(a_gpu_wish(2),))))
    assert not decision.placed
    rejection = decision.verdicts[0].rejection
    assert rejection is not None
    assert (rejection.filter, rejection.wanted, rejection.available) == ("device", "2 x gpu", "1 free of 1")


def test_the_hosts_own_cpus_are_given_to_nobody(database: Database, hosts: HostCache) -> None:
    [node] = add_nodes(database)
    with database.write() as session:
        inventory = session.get_one(Inventory, (node.id, ResourceClass.VCPU))
        inventory.reserved = 3
        session.add(inventory)
        advance_generations(session, [node.id])
    assert claim_in(database, hosts, dedicated(4), dedicated(8)).placed
    assert {cpu for _, cpu in pins(database)} == set(range(4, 16))


def report_cells(database: Database, node: Node, cells: list[dict[str, Any]]) -> None:
    with database.write() as session:
        row = session.get_one(Node, node.id)
        row.cells = cells
        session.add(row)
        session.flush()
        advance_generations(session, [node.id])


def test_pinned_cpus_stay_somebodys_when_the_node_reports_no_cells(database: Database, hosts: HostCache) -> None:
    [node] = add_nodes(database)
    assert claim_in(database, hosts, dedicated(8)).placed
    report_cells(database, node, [])
    assert not claim_in(database, hosts, a_consumer(vcpus=9)).placed
    assert claim_in(database, hosts, a_consumer(vcpus=8)).placed


def test_pinned_cpus_stay_somebodys_when_the_node_numbers_its_cells_anew(database: Database, hosts: HostCache) -> None:
    [node] = add_nodes(database)
    assert claim_in(database, hosts, dedicated(8)).placed
    halves = [
        {"id": 2 * cell["id"] + half, "cores": cell["cores"][2 * half :][:2], "memory_mib": 8192, "huge_pages_mib": {}}
        for cell in CELLS
        for half in range(2)
    ]
    report_cells(database, node, halves)
    assert claim_in(database, hosts, dedicated(8)).placed
    assert len(set(pins(database))) == 16
    assert not claim_in(database, hosts, dedicated(1)).placed
