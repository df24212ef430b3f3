"""Where consumers go for the sake of those who want GPUs later, through the whole pipeline."""

import random
from collections.abc import Sequence

import pytest

from coordinator.domain.placement import Assignment, Consumer, HostView
from coordinator.scheduler import pipeline
from coordinator.scheduler.gpu import outlook
from coordinator.scheduler.gpu.request import GpuRequest
from coordinator.scheduler.snapshot import Snapshot
from tests.bench import gpu_request
from tests.bench.gpu_baselines import BestFit
from tests.bench.gpu_pipeline import Pipeline
from tests.builders import a_consumer, a_gpu_wish, a_host, a_request, gpus


def some_hosts(count: int, gpu_count: int = 4, vcpus: int = 32) -> list[HostView]:
    return [a_host(f"{number}", vcpus=vcpus, memory_gib=1024, devices=gpus(gpu_count)) for number in range(count)]


def place(hosts: Snapshot, consumer: Consumer) -> Assignment | None:
    """The consumer arrives and has what it is given."""
    hosts.observe([consumer])
    decision = pipeline.decide(hosts, a_request(consumer))
    for assignment in decision.assignments:
        hosts.put(assignment.host.taken(consumer, assignment))
        return assignment
    return None


def some_consumers(count: int, seed: int) -> list[Consumer]:
    source = random.Random(seed)
    wishes = [a_gpu_wish(1, milli) for milli in (200, 330, 500, 810, 1000)]
    kinds = [a_consumer(vcpus, devices=(wish,)) for wish in (*wishes, a_gpu_wish(2), a_gpu_wish(4)) for vcpus in (2, 8)]
    return source.choices([*kinds, a_consumer()], k=count)


def place_all(hosts: Snapshot, consumers: Sequence[Consumer]) -> list[tuple[str, list[str]] | None]:
    placed = [place(hosts, consumer) for consumer in consumers]
    return [(it.host.name, [share.device_id for share in it.devices]) if it else None for it in placed]


def test_equal_seeds_and_histories_give_equal_placements() -> None:
    hosts, consumers = some_hosts(10), some_consumers(150, seed=1)
    runs = [place_all(Snapshot(hosts, seed=seed), consumers) for seed in (3, 3, 4)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_what_is_decided_is_not_taken() -> None:
    hosts = Snapshot([a_host(devices=gpus(1))])
    request = a_request(a_consumer(devices=(a_gpu_wish(),)))
    first, second = pipeline.decide(hosts, request), pipeline.decide(hosts, request)
    assert first.assignments == second.assignments
    assert [share.device_id for share in first.assignments[0].devices] == ["gpu-0"]


def test_what_was_given_back_can_be_had_again() -> None:
    views = some_hosts(3, gpu_count=2)
    hosts = Snapshot(views)
    consumers = [a_consumer(devices=(a_gpu_wish(2),)) for _ in range(4)]
    placements = [place(hosts, consumer) for consumer in consumers]
    assert placements[3] is None
    assert placements[1] is not None
    hosts.put(next(view for view in views if view.name == placements[1].host.name))
    again = place(hosts, consumers[3])
    assert again is not None
    assert again.host.name == placements[1].host.name


def test_shares_leave_room_for_gangs() -> None:
    hosts = Snapshot(some_hosts(4, gpu_count=2))
    gang = a_consumer(devices=(a_gpu_wish(2),))
    shares = set()
    for _ in range(4):
        share = place(hosts, a_consumer(devices=(a_gpu_wish(1, 500),)))
        assert share is not None
        shares.add(share.host.name)
        hosts.observe([gang])
    assert len(shares) == 1


def test_who_wants_no_gpu_is_kept_off_hosts_that_have_some() -> None:
    hosts = Snapshot([*some_hosts(3), a_host("plain", vcpus=8)])
    chosen = [place(hosts, a_consumer(vcpus=2)) for _ in range(5)]
    names = [assignment.host.name for assignment in chosen if assignment]
    assert names[:4] == ["plain"] * 4
    assert names[4] != "plain"


@pytest.mark.parametrize("seed", range(5))
def test_cpus_beside_few_gpus_are_kept_for_those_who_want_them(seed: int) -> None:
    """Best fit fills the hosts of two GPUs with what wants few CPUs, and what wants many finds GPUs but no CPUs."""
    nodes = [gpu_request.GpuNode(64_000, 262_144, 2, "L40S"), gpu_request.GpuNode(32_000, 262_144, 8, "L40S")] * 5
    few, many = (gpu_request.GpuRequest(cpu_milli, 1024, 1, 1000) for cpu_milli in (4000, 24_000))
    requests = [many, *[few] * 4] * 10  # exactly all GPUs
    random.Random(seed).shuffle(requests)
    refused = [
        sum(policy.place(request) is None for request in requests) for policy in (BestFit(nodes), Pipeline(nodes))
    ]
    assert refused[1] * 3 <= refused[0]


def test_many_kinds_of_requests_need_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlook, "STATE_LIMIT", 200)
    hosts = Snapshot(some_hosts(4))
    for number in range(150):
        consumer = a_consumer(memory_gib=1 + number / 1024, devices=(a_gpu_wish(1, 1 + number),))
        hosts.observe([consumer])
        assert pipeline.decide(hosts, a_request(consumer)).placed
        assert len(hosts.gpus._table) < 1000


def test_scores_of_few_requests_are_kept() -> None:
    cache = outlook._ScoreCache(hosts=64, limit_bytes=10 * 14 * 64)
    for number in range(150):
        cache.get(GpuRequest(number, 1))
    assert len(cache) == 10


def test_forgetting_states_changes_no_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts, consumers = some_hosts(6), some_consumers(60, seed=2)
    expected = place_all(Snapshot(hosts), consumers)
    monkeypatch.setattr(outlook, "STATE_LIMIT", 0)
    monkeypatch.setattr(outlook, "STATES_PER_DECISION", 12)
    assert place_all(Snapshot(hosts), consumers) == expected


def test_hosts_come_and_go() -> None:
    views, consumers = some_hosts(80), some_consumers(40, seed=3)
    hosts = Snapshot(views[:10])
    place_all(hosts, consumers)
    for view in views[10:]:
        hosts.put(view)
    for view in views[:40]:
        hosts.remove(view.node_id)
    hosts.put(a_host("larger", vcpus=64, devices=gpus(8)))
    placed = place_all(hosts, [a_consumer(devices=(a_gpu_wish(8),)), *consumers])
    assert placed[0] == ("larger", [f"gpu-{number}" for number in range(8)])
    assert all(placed)
    assert {it[0] for it in placed if it} <= {*(view.name for view in views[40:]), "larger"}


@pytest.mark.parametrize("consumer", [a_consumer(), a_consumer(devices=(a_gpu_wish(1, 250, "B200"),))])
def test_hosts_with_gpus_of_another_model_may_come_after_requests(consumer: Consumer) -> None:
    hosts = Snapshot([a_host("a", devices=gpus(4, "L40S"))])
    for _ in range(3):
        place(hosts, a_consumer(devices=(a_gpu_wish(1, 250),)))
    hosts.put(a_host("b", devices=gpus(4, "B200")))
    assert pipeline.decide(hosts, a_request(consumer)).placed
