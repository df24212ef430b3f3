"""Which hosts the scheduler chooses, and what it says about the others."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from coordinator.domain.cell import Cell, CellWish
from coordinator.domain.placement import (
    Capacity,
    Decision,
    HostView,
    PlacementRequest,
    Rejection,
    RejectionReason,
    ResourceClass,
)
from coordinator.scheduler import pipeline
from coordinator.scheduler.pipeline import explain
from coordinator.scheduler.snapshot import Snapshot
from tests.builders import a_consumer, a_gpu_wish, a_host, a_request, gpus, resources


def decide(hosts: Sequence[HostView], request: PlacementRequest) -> Decision:
    """On a snapshot of just these hosts."""
    return pipeline.decide(Snapshot(hosts), request)


def rejection_of(host: HostView, request: Any) -> Rejection | None:
    return explain(Snapshot([host]), request).verdicts[0].rejection


def test_an_empty_host_is_chosen() -> None:
    decision = explain(Snapshot([a_host("a")]), a_request())
    assert [it.host.name for it in decision.assignments] == ["a"]
    assert decision.verdicts[0].rejection is None
    assert set(decision.verdicts[0].scores) == {"room", "balance", "rack", "in_flight", "gpu"}


@pytest.mark.parametrize(
    ("host", "request_fields", "reason"),
    [
        (a_host(ready=False), {}, RejectionReason.AWAY),
        (a_host(schedulable=False), {}, RejectionReason.CORDONED),
        (a_host("a"), {"node_id": "id-of-b"}, RejectionReason.OTHER_HOST),
        (a_host("a"), {"node_name": "b"}, RejectionReason.OTHER_HOST),
        (a_host(zone="AZ0"), {"zone": "AZ1"}, RejectionReason.OTHER_ZONE),
        (a_host(), {"pool_ids": frozenset({"rp-1"})}, RejectionReason.OTHER_POOL),
        (a_host(pool_id="rp-2"), {"pool_ids": frozenset({"rp-1", "rp-3"})}, RejectionReason.OTHER_POOL),
        (a_host(), {"group_id": "hg-1"}, RejectionReason.OTHER_GROUP),
        (a_host(group_id="hg-2"), {"group_id": "hg-1"}, RejectionReason.OTHER_GROUP),
        (a_host(group_id="hg-2"), {}, RejectionReason.GROUPED),
        (a_host(architecture="x86"), {"architecture": "arm"}, RejectionReason.OTHER_ARCHITECTURE),
        (a_host(cpu_model="EPYC"), {"cpu_model": "Kunpeng"}, RejectionReason.OTHER_CPU_MODEL),
        (a_host(traits=frozenset({"uefi"})), {"traits": frozenset({"vtpm-2.0"})}, RejectionReason.TRAIT_MISSING),
    ],
)
def test_a_host_is_rejected_for_its_nature(
    host: HostView, request_fields: dict[str, Any], reason: RejectionReason
) -> None:
    rejection = rejection_of(host, a_request(**request_fields))
    assert rejection is not None
    assert rejection.reason is reason


@pytest.mark.parametrize(
    "request_fields",
    [
        {"node_id": "id-of-a"},
        {"node_name": "a"},
        {"zone": "AZ0"},
        {"architecture": "x86"},
        {"cpu_model": "EPYC"},
        {"traits": frozenset({"uefi"})},
    ],
)
def test_a_host_that_is_what_was_asked_for_passes(request_fields: dict[str, Any]) -> None:
    assert decide([a_host("a")], a_request(**request_fields)).placed


def test_hosts_of_a_group_are_for_its_consumers_alone() -> None:
    hosts = [a_host("a"), a_host("b", group_id="hg-1"), a_host("c", group_id="hg-2"), a_host("d")]
    several = [a_consumer() for _ in range(8)]
    assert {it.host.name for it in decide(hosts, a_request(*several)).assignments} == {"a", "d"}
    assert {it.host.name for it in decide(hosts, a_request(*several, group_id="hg-1")).assignments} == {"b"}


def test_a_request_is_bound_to_pools_but_a_pool_not_to_requests() -> None:
    hosts = [a_host("a"), a_host("b", pool_id="rp-1"), a_host("c", pool_id="rp-2"), a_host("d", pool_id="rp-3")]
    decision = decide(hosts, a_request(*[a_consumer() for _ in range(8)], pool_ids=frozenset({"rp-1", "rp-3"})))
    assert {it.host.name for it in decision.assignments} == {"b", "d"}
    decision = decide(hosts, a_request(*[a_consumer() for _ in range(8)]))
    assert {it.host.name for it in decision.assignments} == {"a", "b", "c", "d"}


@pytest.mark.parametrize(
    ("wanted", "reason", "wanted_text", "available_text"),
    [
        ({"vcpus": 5}, RejectionReason.TOO_FEW_VCPUS, "5 vCPUs", "4 vCPUs"),
        ({"memory_gib": 8.5}, RejectionReason.TOO_LITTLE_MEMORY, "8.5 GiB", "8 GiB"),
        ({"storage_gib": 101}, RejectionReason.TOO_LITTLE_STORAGE, "101 GiB", "100 GiB"),
    ],
)
def test_a_full_host_says_what_is_wanted_and_free(
    wanted: dict[str, Any], reason: RejectionReason, wanted_text: str, available_text: str
) -> None:
    host = a_host(vcpus=4, memory_gib=8, storage_gib=100)
    rejection = rejection_of(host, a_request(a_consumer(**wanted)))
    assert rejection is not None
    assert (rejection.reason, rejection.wanted, rejection.available) == (reason, wanted_text, available_text)


def test_the_last_unit_can_be_taken() -> None:
    host = a_host(vcpus=4, memory_gib=8, storage_gib=100)
    assert decide([host], a_request(a_consumer(vcpus=4, memory_gib=8, storage_gib=100))).placed


def test_reservations_and_ratios_count() -> None:
    capacities = {
        **a_host().capacities,
        ResourceClass.VCPU: Capacity(total=8, reserved=2, allocation_ratio=2.0, used=10),
    }
    host = replace(a_host(), capacities=capacities)
    assert decide([host], a_request(a_consumer(vcpus=2))).placed
    assert not decide([host], a_request(a_consumer(vcpus=3))).placed


def test_a_host_without_an_inventory_has_nothing() -> None:
    assert not decide([replace(a_host(), capacities={})], a_request()).placed


def test_a_host_under_its_use_has_nothing_free_rather_than_less() -> None:
    host = a_host(vcpus=4, used=resources(vcpus=6))
    rejection = rejection_of(host, a_request())
    assert rejection is not None
    assert rejection.available == "0 vCPUs"


def test_a_batch_takes_from_the_same_view() -> None:
    hosts = [a_host("a", vcpus=4), a_host("b", vcpus=4)]
    consumers = [a_consumer(vcpus=2) for _ in range(4)]
    decision = decide(hosts, a_request(*consumers))
    assert sorted(it.host.name for it in decision.assignments) == ["a", "a", "b", "b"]


def test_one_misfit_refuses_the_whole_batch() -> None:
    hosts = [a_host("a", vcpus=4), a_host("b", vcpus=4)]
    consumers = [a_consumer(vcpus=2) for _ in range(5)]
    decision = decide(hosts, a_request(*consumers))
    assert not decision.placed
    assert [(it.count, it.rejection.available) for it in decision.reasons] == [(2, "0 vCPUs")]


def test_reasons_are_counted_and_the_nearest_host_is_told() -> None:
    hosts = [
        a_host("far", vcpus=1),
        a_host("near", vcpus=3),
        a_host("small", vcpus=8, memory_gib=1),
        a_host("away", ready=False),
        a_host("elsewhere", zone="AZ1"),
        a_host("closed", zone="AZ1", schedulable=False),
    ]
    decision = decide(hosts, a_request(a_consumer(vcpus=4), zone="AZ0"))
    assert [(it.count, it.rejection.reason, it.rejection.available) for it in decision.reasons] == [
        (2, RejectionReason.OTHER_ZONE, "AZ1"),
        (2, RejectionReason.TOO_FEW_VCPUS, "3 vCPUs"),
        (1, RejectionReason.AWAY, "away"),
        (1, RejectionReason.TOO_LITTLE_MEMORY, "1 GiB"),
    ]
    assert decision.verdicts == ()
    told = explain(Snapshot(hosts), a_request(a_consumer(vcpus=4), zone="AZ0"))
    assert told.reasons == decision.reasons
    assert len(told.verdicts) == len(hosts)


def test_a_batch_spreads_over_equal_hosts() -> None:
    decision = decide([a_host(name) for name in "abc"], a_request(*[a_consumer() for _ in range(3)]))
    assert sorted(it.host.name for it in decision.assignments) == ["a", "b", "c"]


def test_the_same_snapshot_gives_the_same_decision_in_any_order() -> None:
    hosts = [a_host(name) for name in "abcd"]
    consumers = [a_consumer(uuid=str(number)) for number in range(6)]
    assert decide(hosts, a_request(*consumers)) == decide(hosts[::-1], a_request(*consumers))


def test_deciding_changes_nothing_of_the_snapshot() -> None:
    snapshot = Snapshot([a_host(vcpus=4)])
    assert pipeline.decide(snapshot, a_request(a_consumer(vcpus=3))).placed
    assert not pipeline.decide(snapshot, a_request(a_consumer(vcpus=3), a_consumer(vcpus=3))).placed
    assert snapshot.free(ResourceClass.VCPU).tolist() == [4]


def test_the_seed_decides_between_equals() -> None:
    hosts = [a_host(f"host-{number}") for number in range(20)]
    chosen = {pipeline.decide(Snapshot(hosts, seed=seed), a_request()).assignments[0].host.name for seed in range(20)}
    assert len(chosen) > 5


def test_hosts_with_less_under_way_come_first() -> None:
    hosts = [a_host("busy", in_flight=3), a_host("idle")]
    for seed in range(5):
        [assignment] = pipeline.decide(Snapshot(hosts, seed=seed), a_request()).assignments
        assert assignment.host.name == "idle"


def test_weights_of_a_host_count_there_and_configured_ones_elsewhere() -> None:
    hosts = [
        a_host("packed", used=resources(vcpus=8, memory_gib=32), weights={"room": -4.0}),
        a_host("spread", used=resources(vcpus=8, memory_gib=32)),
    ]
    verdicts = {it.node_name: it for it in explain(Snapshot(hosts), a_request()).verdicts}
    assert verdicts["packed"].scores["room"] == pytest.approx(-4 * verdicts["spread"].scores["room"], abs=1e-3)
    assert verdicts["packed"].scores["balance"] == verdicts["spread"].scores["balance"]


def test_weights_have_names_and_are_numbers() -> None:
    assert pipeline.merge_weights({"room": -1})["room"] == -1
    for wrong in ({"luck": 1.0}, {"room": float("inf")}, {"room": float("nan")}):
        with pytest.raises(ValueError, match="weigh"):
            pipeline.merge_weights(wrong)


def test_hosts_are_told_in_the_order_in_which_they_are_chosen() -> None:
    """Of hosts with GPUs some thirty different ones are looked at by a decision; the others come last."""
    hosts = [a_host(f"{number:03}", vcpus=16 + number, devices=gpus(4)) for number in range(100)]
    request = a_request(a_consumer(devices=(a_gpu_wish(1, 500),)))
    snapshot = Snapshot(hosts)
    snapshot.observe(request.consumers)
    decision = explain(snapshot, request)
    verdicts = decision.verdicts
    assert verdicts[0].node_id == decision.assignments[0].host.node_id
    looked_at = ["gpu" in verdict.scores for verdict in verdicts]
    assert 0 < sum(looked_at) < 100
    assert looked_at == sorted(looked_at, reverse=True)


def test_a_weigher_that_does_not_count_on_a_host_takes_nothing_from_it() -> None:
    hosts = [
        a_host(f"{number:03}", vcpus=16 + number, devices=gpus(4), weights={"gpu": 0.0} if number % 2 else {})
        for number in range(100)
    ]
    request = a_request(a_consumer(devices=(a_gpu_wish(1, 500),)))
    verdicts = explain(Snapshot(hosts), request).verdicts
    assert all(verdict.scores["gpu"] == 0 for verdict in verdicts if int(verdict.node_name) % 2)


def test_cores_that_do_not_add_up_are_no_lack_of_devices() -> None:
    """A core of one thread and one of two: three CPUs for who wants two, and one is in use."""
    used = {ResourceClass.VCPU: 1}
    host = a_host(vcpus=3, used=used, cells=(Cell(0, ((2,), (0, 1)), 8192, used_vcpus=1),))
    amounts = {ResourceClass.DEDICATED_VCPU: 2, ResourceClass.MEMORY_MIB: 512}
    consumer = replace(a_consumer(), resources=amounts, cells=CellWish(2, 512, dedicated=True))
    rejection = rejection_of(host, a_request(consumer))
    assert rejection
    assert rejection.reason == RejectionReason.NUMA_MISFIT


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), -1e308])
def test_weights_are_numbers_that_can_be_summed(weight: float) -> None:
    with pytest.raises(ValueError, match="weights are numbers"):
        pipeline.merge_weights({"room": weight})
