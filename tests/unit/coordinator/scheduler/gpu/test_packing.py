"""Where the packing places requests, beside a brute-force check of the rules."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.scheduler.gpu import packing as packing_module
from coordinator.scheduler.gpu.inventory import GpuInventory
from coordinator.scheduler.gpu.packing import GpuPacking
from coordinator.scheduler.gpu.request import GpuNode, GpuPlacement, GpuRequest
from tests.bench.gpu_baselines import BestFit
from tests.builders import a_gpu_node, a_gpu_request


@dataclass
class Ledger:
    """What is free by the rules, in plain numbers."""

    nodes: Sequence[GpuNode]
    placements: list[GpuPlacement] = field(default_factory=list)

    def free(self, row: int) -> tuple[int, int, list[int]]:
        node = self.nodes[row]
        here = [it for it in self.placements if it.row == row]
        gpus = [1000 - sum(it.request.gpu_milli for it in here if gpu in it.gpus) for gpu in range(node.gpu_count)]
        return (
            node.cpu_milli - sum(it.request.cpu_milli for it in here),
            node.memory_mib - sum(it.request.memory_mib for it in here),
            gpus,
        )

    def fits(self, request: GpuRequest, row: int) -> bool:
        cpu_milli, memory_mib, gpus = self.free(row)
        enough = [gpu for gpu in gpus if gpu >= request.gpu_milli]
        return (
            request.cpu_milli <= cpu_milli
            and request.memory_mib <= memory_mib
            and request.gpu_count <= len(enough)
            and (not request.gpu_count or not request.models or self.nodes[row].model in request.models)
        )

    def check(self) -> None:
        for row in range(len(self.nodes)):
            cpu_milli, memory_mib, gpus = self.free(row)
            assert min(cpu_milli, memory_mib, *gpus, 0) == 0

    def check_equal(self, inventory: GpuInventory) -> None:
        """All columns, also those that are derived from others."""
        expected = GpuInventory(self.nodes)
        for placement in self.placements:
            expected.take(placement)
        for name in ("cpu_milli", "memory_mib", "gpu_milli", "largest_milli", "whole_gpus", "nodes_by_whole"):
            np.testing.assert_array_equal(getattr(inventory, name), getattr(expected, name))
        assert inventory.free_gpu_milli == expected.free_gpu_milli


models = st.sampled_from(["A", "B"])
nodes_ = st.builds(GpuNode, st.sampled_from([8000, 32_000]), st.sampled_from([16, 64]), st.integers(0, 4), models)
wanted_models = st.frozensets(models, max_size=2)
cpus, memory = st.integers(0, 12_000), st.integers(0, 20)
requests_ = st.one_of(
    st.builds(GpuRequest, cpus, memory, st.just(1), st.sampled_from([100, 250, 400, 810, 1000]), wanted_models),
    st.builds(GpuRequest, cpus, memory, st.integers(2, 5), st.just(1000), wanted_models),
    st.builds(GpuRequest, cpus, memory, st.just(0), st.just(0), wanted_models),
)
# A request arrives, or the placement of this number, counted round, ends.
events_ = st.one_of(requests_, requests_, st.integers(0, 99))


@settings(max_examples=60, deadline=None)
@given(st.lists(nodes_, min_size=1, max_size=5), st.lists(events_, max_size=25))
def test_rules_hold_whatever_comes_and_goes(nodes: list[GpuNode], events: list[GpuRequest | int]) -> None:
    packing, ledger = GpuPacking(nodes), Ledger(nodes)
    for event in events:
        if isinstance(event, int):
            if ledger.placements:
                packing.release(ledger.placements.pop(event % len(ledger.placements)))
        else:
            fitting = {row for row in range(len(nodes)) if ledger.fits(event, row)}
            placement = packing.place(event)
            assert (placement is not None) == bool(fitting)
            if placement:
                assert placement.row in fitting
                assert len(set(placement.gpus)) == len(placement.gpus) == event.gpu_count
                ledger.placements.append(placement)
        ledger.check()
        ledger.check_equal(packing.inventory)
    while ledger.placements:
        packing.release(ledger.placements.pop())
    ledger.check_equal(packing.inventory)


def some_requests(count: int, seed: int) -> list[GpuRequest]:
    source = random.Random(seed)
    kinds = [a_gpu_request(1, milli, cpus) for milli in (200, 330, 500, 810, 1000) for cpus in (2, 8)]
    return source.choices([*kinds, a_gpu_request(2), a_gpu_request(4), a_gpu_request(0)], k=count)


def place_all(packing: GpuPacking, requests: Sequence[GpuRequest]) -> list[GpuPlacement | None]:
    return [packing.place(request) for request in requests]


def test_equal_seeds_and_histories_give_equal_placements() -> None:
    nodes, requests = [a_gpu_node(4, 32)] * 10, some_requests(150, seed=1)
    runs = [place_all(GpuPacking(nodes, seed=seed), requests) for seed in (3, 3, 4)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_what_is_chosen_is_not_taken() -> None:
    packing = GpuPacking([a_gpu_node(1)])
    chosen = packing.choose(a_gpu_request())
    assert chosen == packing.choose(a_gpu_request()) == GpuPlacement(a_gpu_request(), 0, (0,))
    packing.take(chosen)
    assert packing.choose(a_gpu_request()) is None


def test_what_was_released_can_be_had_again() -> None:
    packing = GpuPacking([a_gpu_node(2)] * 3)
    placements = place_all(packing, [a_gpu_request(2)] * 4)
    assert placements[3] is None
    assert placements[1] is not None
    packing.release(placements[1])
    assert packing.place(a_gpu_request(2)) == placements[1]


def test_shares_leave_room_for_gangs() -> None:
    packing = GpuPacking([a_gpu_node(2)] * 4)
    for _ in range(4):
        for request in (a_gpu_request(1, 500), a_gpu_request(2)):
            placement = packing.place(request)
            assert placement is not None
            if request.gpu_count == 2:
                packing.release(placement)
    assert packing.inventory.whole_gpus.tolist() == [0, 2, 2, 2]


@pytest.mark.parametrize("seed", range(5))
def test_cpus_beside_few_gpus_are_kept_for_those_who_want_them(seed: int) -> None:
    """Best fit fills the nodes of two GPUs with what wants few CPUs, and what wants many finds GPUs but no CPUs."""
    nodes = [a_gpu_node(2, cpus=64), a_gpu_node(8, cpus=32)] * 5
    requests = [a_gpu_request(cpus=24), *[a_gpu_request(cpus=4)] * 4] * 10  # exactly all GPUs
    random.Random(seed).shuffle(requests)
    best_fit, packing = BestFit(nodes), GpuPacking(nodes)
    refused = [sum(policy.place(request) is None for request in requests) for policy in (best_fit, packing)]
    assert refused[1] * 3 <= refused[0]


def test_many_kinds_of_requests_need_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [a_gpu_node(4)] * 4
    monkeypatch.setattr(packing_module, "STATE_LIMIT", 200)
    packing = GpuPacking(nodes, score_cache_bytes=10 * 14 * len(nodes))
    for number in range(150):
        placement = packing.place(a_gpu_request(1, 1 + number, memory_mib=number))
        assert placement is not None
        packing.release(placement)
        assert len(packing._scores) <= 10
        assert len(packing._table) < 1000


def test_forgetting_states_changes_no_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes, requests = [a_gpu_node(4, 32)] * 6, some_requests(60, seed=2)
    expected = place_all(GpuPacking(nodes), requests)
    monkeypatch.setattr(packing_module, "STATE_LIMIT", 0)
    monkeypatch.setattr(packing_module, "STATES_PER_DECISION", 12)
    assert place_all(GpuPacking(nodes), requests) == expected
