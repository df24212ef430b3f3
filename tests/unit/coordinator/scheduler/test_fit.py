"""Which cells, CPUs and devices of a host a consumer gets."""

from dataclasses import replace
from typing import Any

import pytest

from coordinator.domain.cell import Cell, CellShare, CellWish
from coordinator.domain.device import Device, DeviceShare, DeviceType, DeviceWish, sum_milli
from coordinator.domain.placement import Assignment, Consumer, HostView, RejectionReason, ResourceClass
from coordinator.scheduler import pipeline
from coordinator.scheduler.fit import fit, holds, locality, sort_devices
from coordinator.scheduler.snapshot import Snapshot
from tests.builders import a_consumer, a_gpu_wish, a_host, a_request, gpus

THREADS = 2


def a_cell(number: int, cores: int = 4, **fields: Any) -> Cell:
    """Cores of two threads, numbered through: cell 0 has the CPUs 0 to 7."""
    first = number * cores * THREADS
    numbered = tuple((first + THREADS * core, first + THREADS * core + 1) for core in range(cores))
    return Cell(number, numbered, **{"memory_mib": 8192, **fields})


def two_cells(**fields: Any) -> HostView:
    return a_host(vcpus=16, memory_gib=16, cells=(a_cell(0), a_cell(1)), **fields)


def celled(vcpus: int, memory_mib: int = 1024, page_kib: int = 0, *, dedicated: bool = False) -> Consumer:
    name = ResourceClass.DEDICATED_VCPU if dedicated else ResourceClass.VCPU
    amounts = {name: vcpus, ResourceClass.MEMORY_MIB: 0 if page_kib else memory_mib}
    return Consumer("c", amounts, cells=CellWish(vcpus, memory_mib, page_kib, dedicated))


def give(host: HostView, *consumers: Consumer) -> tuple[HostView, list[Assignment]]:
    """The host after all of them, and what each has."""
    given = []
    for consumer in consumers:
        [assignment] = pipeline.decide(Snapshot([host]), a_request(consumer)).assignments
        given.append(assignment)
        host = host.taken(consumer, assignment)
    return host, given


def test_a_small_consumer_is_in_one_cell_and_fills_the_fuller_one() -> None:
    _, given = give(two_cells(), *[celled(4)] * 3)
    assert [[share.cell for share in assignment.cells] for assignment in given] == [[0], [0], [1]]


def test_a_large_one_is_in_equal_parts_in_two() -> None:
    _, [assignment] = give(two_cells(), celled(12, 4096))
    assert assignment.cells == (CellShare(0, 6, 2048), CellShare(1, 6, 2048))


@pytest.mark.parametrize("vcpus", [9, 17])
def test_what_cannot_be_split_evenly_is_rejected(vcpus: int) -> None:
    decision = pipeline.explain(Snapshot([two_cells()]), a_request(celled(vcpus)))
    rejection = decision.verdicts[0].rejection
    assert rejection is not None
    expected = RejectionReason.NUMA_MISFIT if vcpus == 9 else RejectionReason.TOO_FEW_VCPUS
    assert rejection.reason is expected


def test_dedicated_cpus_are_whole_cores_of_one_cell_and_nobody_elses() -> None:
    host, given = give(two_cells(), celled(4, dedicated=True), celled(3, dedicated=True), celled(2, dedicated=True))
    assert [assignment.cells[0].cpus for assignment in given] == [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9)]
    assert host.capacities[ResourceClass.VCPU].limit == 16 - 10


def test_shared_vcpus_and_dedicated_ones_come_out_of_the_same_cpus() -> None:
    capacity = replace(two_cells().capacities[ResourceClass.VCPU], allocation_ratio=2.0)
    host = replace(two_cells(), capacities={**two_cells().capacities, ResourceClass.VCPU: capacity})
    host, _ = give(host, a_consumer(vcpus=9))  # of 16 CPUs these keep 5 busy
    decision = pipeline.decide(Snapshot([host]), a_request(celled(8, dedicated=True)))
    assert decision.placed
    [assignment] = decision.assignments
    host = host.taken(celled(8, dedicated=True), assignment)
    assert host.pinnable == 3
    assert not pipeline.decide(Snapshot([host]), a_request(celled(4, dedicated=True))).placed
    host, _ = give(host, celled(2, dedicated=True))
    assert pipeline.decide(Snapshot([host]), a_request(a_consumer(vcpus=3))).placed
    assert not pipeline.decide(Snapshot([host]), a_request(a_consumer(vcpus=4))).placed


def test_cores_that_floating_vcpus_need_are_not_dedicated() -> None:
    host = two_cells()
    # The fuller cell would come first.
    host = replace(host, cells=(replace(host.cells[0], used_vcpus=7), host.cells[1]))
    _, [assignment] = give(host, celled(4, dedicated=True))
    assert [share.cell for share in assignment.cells] == [1]


def test_huge_pages_come_from_their_pool_and_not_from_memory() -> None:
    cells = (a_cell(0, huge_pages_mib={2048: 1024}), a_cell(1, huge_pages_mib={2048: 2048}))
    host, given = give(replace(two_cells(), cells=cells), celled(1, 2048, 2048), celled(1, 1024, 2048))
    assert [assignment.cells[0].cell for assignment in given] == [1, 0]
    assert host.capacities[ResourceClass.MEMORY_MIB].used == 0
    rejection = pipeline.explain(Snapshot([host]), a_request(celled(1, 1024, 2048))).verdicts[0].rejection
    assert rejection is not None
    assert "pages of 2 MiB" in rejection.wanted
    assert not pipeline.decide(Snapshot([host]), a_request(celled(1, 1024, 1048576))).placed


def test_devices_bring_the_consumer_to_their_cell() -> None:
    host = two_cells(devices=gpus(2, cells=2))
    consumer = replace(celled(2), devices=(a_gpu_wish(),))
    host, [first] = give(host, consumer)
    assert (first.cells[0].cell, locality(first)) == (int(first.devices[0].device_id[-1]), 1.0)
    host, [second] = give(host, consumer)
    assert second.cells[0].cell != first.cells[0].cell


def test_hosts_where_cells_and_devices_are_near_each_other_come_first() -> None:
    far = two_cells(devices=(replace(gpus(1)[0], cell=0),))
    far = replace(far, cells=(replace(far.cells[0], used_vcpus=8), far.cells[1]))
    near = replace(two_cells(devices=gpus(1)), node_id="near", name="near")
    for seed in range(5):
        snapshot = Snapshot([far, near], seed=seed)
        [assignment] = pipeline.decide(snapshot, a_request(replace(celled(2), devices=(a_gpu_wish(),)))).assignments
        assert assignment.host.name == "near"


def a_disk(name: str, size_bytes: int) -> Device:
    return Device(name, DeviceType("disk", frozenset({("media", "ssd")}), size_bytes))


def a_disk_wish(least_bytes: int, count: int = 1) -> DeviceWish:
    return DeviceWish("disk", count, least_bytes=least_bytes)


def test_the_smallest_disk_that_will_do_is_given() -> None:
    host = a_host(devices=(a_disk("large", 300), a_disk("small", 100), a_disk("middle", 200)))
    found = fit(host, a_consumer(devices=(a_disk_wish(150),)))
    assert found is not None
    assert found.devices == (DeviceShare("middle"),)


def test_a_modest_wish_leaves_rare_devices_to_a_choosy_one() -> None:
    # By its name it would be taken first.
    rare = Device("a-rare", DeviceType("disk", frozenset({("media", "ssd"), ("model", "X")}), 300))
    host = a_host(devices=(rare, a_disk("plain", 300)))
    choosy = DeviceWish("disk", attributes={"model": frozenset({"X"})})
    found = fit(host, a_consumer(devices=(a_disk_wish(1), choosy)))
    assert found is not None
    assert [share.device_id for share in found.devices] == ["plain", "a-rare"]


def test_wishes_that_each_would_fit_alone_do_not_fit_together() -> None:
    host = a_host(devices=(a_disk("one", 300), a_disk("two", 100)))
    request = a_request(a_consumer(devices=(a_disk_wish(200), a_disk_wish(250))))
    decision = pipeline.decide(Snapshot([host]), request)
    assert not decision.placed
    [counted] = decision.reasons
    assert (counted.count, counted.rejection.available) == (1, "not all of them at once")


@pytest.mark.parametrize(
    ("used_milli", "wishes", "given"),
    [
        # As many devices as there are, then two of one.
        ((0, 0), (300, 300), {"gpu-0": 300, "gpu-1": 300}),
        ((0, 0), (300,) * 5, {"gpu-0": 900, "gpu-1": 600}),
        # Those with just enough room first.
        ((500, 0), (250,) * 3, {"gpu-0": 500, "gpu-1": 250}),
        ((900, 0), (250,) * 4, {"gpu-1": 1000}),
        ((900, 0), (250,) * 5, None),
        # A whole one is left to who wants one.
        ((0, 0), (300, 300, 1000), {"gpu-0": 1000, "gpu-1": 600}),
    ],
)
def test_a_consumer_has_several_slices_of_one_device(
    used_milli: tuple[int, int], wishes: tuple[int, ...], given: dict[str, int] | None
) -> None:
    devices = tuple(replace(gpu, used_milli=used) for gpu, used in zip(gpus(2), used_milli, strict=True))
    host, consumer = a_host(devices=devices), a_consumer(devices=tuple(a_gpu_wish(1, milli) for milli in wishes))
    found = fit(host, consumer)
    assert (sum_milli(found.devices) if found else None) == given
    if found:
        assert [share.milli for share in found.devices] == list(wishes)
        assert holds(host, found)
        taken = host.taken(consumer, found)
        assert {it.id: it.used_milli for it in taken.devices} == {
            it.id: it.used_milli + (given or {}).get(it.id, 0) for it in devices
        }
        assert sum_milli(sort_devices(taken, consumer.devices, found.devices)) == given


def test_no_device_is_given_twice_within_a_batch() -> None:
    hosts = [a_host("a", devices=gpus(2)), a_host("b", devices=gpus(1))]
    consumers = [a_consumer(devices=(a_gpu_wish(),)) for _ in range(3)]
    decision = pipeline.decide(Snapshot(hosts), a_request(*consumers))
    held = [(it.host.name, it.devices[0].device_id) for it in decision.assignments]
    assert len(set(held)) == 3
    assert not pipeline.decide(Snapshot(hosts), a_request(*consumers, a_consumer(devices=(a_gpu_wish(),)))).placed


@pytest.mark.parametrize(
    ("assignment", "is_held"),
    [
        (Assignment(two_cells(), (CellShare(0, 2, 1024),)), True),
        (Assignment(two_cells(), (CellShare(0, 2, 9000),)), False),
        (Assignment(two_cells(), (CellShare(0, 9, 1024),)), False),
        (Assignment(two_cells(), (CellShare(7, 2, 1024),)), False),
        (Assignment(two_cells(), (CellShare(0, 2, 1024, 0, (0, 1)),)), True),
        (Assignment(two_cells(), (CellShare(0, 2, 1024, 0, (6, 7)),)), False),
        (Assignment(two_cells(), (), (DeviceShare("gpu-0", 500),)), True),
        (Assignment(two_cells(), (), (DeviceShare("gpu-0", 501),)), False),
        (Assignment(two_cells(), (), (DeviceShare("gpu-9"),)), False),
    ],
)
def test_what_was_assigned_is_looked_at_again(assignment: Assignment, is_held: bool) -> None:
    host = two_cells(devices=gpus(1, used_milli=500))
    host = replace(host, cells=(replace(host.cells[0], pinned=frozenset({6, 7})), host.cells[1]))
    assert holds(host, assignment) is is_held


@pytest.mark.parametrize("fields", [{"count": 0}, {"milli": 0}, {"milli": 1001}, {"count": 2, "milli": 500}])
def test_what_no_device_can_be_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"device|share"):
        DeviceWish("gpu", **fields)
