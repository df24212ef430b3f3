"""Every decision on random clusters beside the plain rules of `reference`."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.domain.cell import Cell, CellWish
from coordinator.domain.deployment import DeploymentRule, Policy, Scope
from coordinator.domain.device import Device, DeviceType, DeviceWish
from coordinator.domain.placement import Capacity, Consumer, HostView, PlacementRequest, ResourceClass
from coordinator.scheduler import pipeline
from coordinator.scheduler.snapshot import Snapshot
from tests.builders import a_host
from tests.unit.coordinator.scheduler.reference import Tenancy, can_place, count_placeable

ratios_ = st.sampled_from([1.0, 1.5, 2.0, 4.0])
models_ = st.sampled_from(["A", "B"])
labels_ = st.sampled_from(["", "1", "1", "2"])


@st.composite
def a_random_host(draw: st.DrawFn, number: int) -> HostView:
    threads, cores = draw(st.sampled_from([(1, 2), (2, 2), (2, 3)]))
    cell_count = draw(st.integers(0, 2))
    cells = tuple(
        Cell(
            cell,
            tuple(
                tuple(cell * cores * threads + core * threads + thread for thread in range(threads))
                for core in range(cores)
            ),
            memory_mib=draw(st.sampled_from([2048, 8192])),
            huge_pages_mib=draw(st.sampled_from([{}, {2048: 2048}, {2048: 1024, 1048576: 2048}])),
        )
        for cell in range(cell_count)
    )
    devices = tuple(
        Device(f"{index}", DeviceType(kind, frozenset({("model", draw(models_))}), size, kind == "gpu"), cell=index % 2)
        for index, (kind, size) in enumerate(
            draw(st.lists(st.sampled_from([("gpu", 0), ("disk", 100), ("disk", 200)]), max_size=3))
        )
    )
    vcpus = max(cell_count * cores * threads, 4)
    return a_host(
        f"{number}",
        zone=draw(st.sampled_from(["AZ0", "AZ1"])),
        ready=draw(st.sampled_from([True, True, True, False])),
        schedulable=draw(st.sampled_from([True, True, True, False])),
        traits=draw(st.frozensets(st.sampled_from(["uefi", "vtpm-2.0"]))),
        pool_id=draw(st.sampled_from(["", "rp-1", "rp-2"])),
        group_id=draw(st.sampled_from(["", "", "hg-1"])),
        capacities={
            ResourceClass.VCPU: Capacity(vcpus, draw(st.integers(0, 1)) if not cells else 0, draw(ratios_), 0),
            ResourceClass.MEMORY_MIB: Capacity(8192, draw(st.sampled_from([0, 512])), 1.0, 0),
            ResourceClass.STORAGE_GIB: Capacity(100, 0, 1.0, 0),
            ResourceClass.LOCAL_STORAGE_GIB: Capacity(draw(st.sampled_from([0, 50])), 0, 1.0, 0),
        },
        cells=cells,
        devices=devices,
        rack=draw(labels_),
        switch=draw(labels_),
    )


wishes_ = st.lists(
    st.one_of(
        st.builds(DeviceWish, st.just("gpu"), st.just(1), st.sampled_from([300, 500, 1000])),
        st.builds(
            DeviceWish,
            st.just("gpu"),
            st.integers(1, 2),
            st.just(1000),
            models_.map(lambda model: {"model": frozenset({model})}),
        ),
        st.builds(
            DeviceWish, st.just("disk"), st.integers(1, 2), st.just(1000), st.just({}), st.sampled_from([0, 150])
        ),
    ),
    max_size=2,
).map(tuple)


@st.composite
def a_random_consumer(draw: st.DrawFn) -> Consumer:
    vcpus, memory_mib = draw(st.integers(1, 4)), draw(st.sampled_from([512, 1024, 2048]))
    page_kib = draw(st.sampled_from([0, 0, 2048, 1048576]))
    is_dedicated = draw(st.booleans())
    is_celled = page_kib or is_dedicated or draw(st.booleans())
    return Consumer(
        "",
        {
            ResourceClass.DEDICATED_VCPU if is_dedicated else ResourceClass.VCPU: vcpus,
            ResourceClass.MEMORY_MIB: 0 if page_kib else memory_mib,
            ResourceClass.STORAGE_GIB: draw(st.sampled_from([0, 30])),
            ResourceClass.LOCAL_STORAGE_GIB: draw(st.sampled_from([0, 0, 20])),
        },
        draw(wishes_),
        CellWish(vcpus, memory_mib, page_kib, is_dedicated) if is_celled else None,
    )


features_ = st.fixed_dictionaries(
    {},
    optional={
        "zone": st.just("AZ0"),
        "traits": st.just(frozenset({"uefi"})),
        "pool_ids": st.sampled_from([frozenset({"rp-1"}), frozenset({"rp-1", "rp-2"})]),
        "group_id": st.just("hg-1"),
        "node_id": st.just("id-of-0"),
    },
)
# A set's policies, and the hosts of members that it has; only conditions can be told from the outside.
rules_ = st.tuples(
    st.dictionaries(st.sampled_from([Scope.HOST, Scope.RACK, Scope.SWITCH]), st.sampled_from(Policy), min_size=1),
    st.lists(st.integers(0, 3), max_size=2),
)
# A batch of alike consumers arrives; or one that was placed, counted round, leaves.
events_: st.SearchStrategy[Any] = st.one_of(
    st.tuples(a_random_consumer(), st.integers(1, 3), features_, st.none()),
    st.tuples(a_random_consumer(), st.just(1), st.just({}), st.none()),
    st.tuples(a_random_consumer(), st.integers(1, 3), st.just({}), rules_),
    st.integers(0, 99),
)


Rule = tuple[dict[Scope, Policy], list[int]]


def is_entangled(rule: DeploymentRule) -> bool:
    """Whether who takes a rack may have taken the wrong switch with it: then batches are not tried in all ways."""
    apart = [scope for scope, policy in rule.policies.items() if policy is Policy.ANTI_AFFINITY]
    return {Scope.RACK, Scope.SWITCH}.issubset(apart)


@dataclass
class Cluster:
    """The scheduler's snapshot, and the same hosts by the plain rules."""

    hosts: Sequence[HostView]
    snapshot: Snapshot = field(init=False)
    tenancies: dict[str, Tenancy] = field(init=False)
    uuids: Any = field(default_factory=count)

    def __post_init__(self) -> None:
        self.snapshot = Snapshot(self.hosts)
        self.tenancies = {host.node_id: Tenancy(host) for host in self.hosts}

    def arrive(self, consumer: Consumer, number: int, features: dict[str, Any], rule: Rule | None) -> None:
        consumers = tuple(replace(consumer, uuid=f"{next(self.uuids)}") for _ in range(number))
        request = PlacementRequest(consumers, **features, deployment=self.make_rule(*rule) if rule else None)
        self.snapshot.observe(consumers)
        expected = {node_id for node_id, it in self.tenancies.items() if it.may_take(consumer, request)}
        explained = pipeline.explain(self.snapshot, replace(request, consumers=consumers[:1]))
        assert {it.node_id for it in explained.verdicts if it.rejection is None} == expected
        decision = pipeline.decide(self.snapshot, request)
        self.check_completeness(decision.placed, request)
        for placed, assignment in zip(consumers, decision.assignments, strict=False):
            tenancy = self.tenancies[assignment.host.node_id]
            assert tenancy.may_take(consumer, request)
            request = request.with_member(tenancy.host)
            tenancy.residents.append((placed, assignment))
            self.refresh(tenancy)
        assert all(tenancy.is_within_limits() for tenancy in self.tenancies.values())

    def make_rule(self, policies: dict[Scope, Policy], members: Sequence[int]) -> DeploymentRule:
        """With members on these hosts, counted round."""
        return DeploymentRule(policies, tuple(self.hosts[number % len(self.hosts)].place for number in members))

    def check_completeness(self, is_placed: bool, request: PlacementRequest) -> None:
        """Whatever can be placed is."""
        hosts, number = list(self.tenancies.values()), len(request.consumers)
        if request.deployment is None:
            assert is_placed == (count_placeable(hosts, request.consumers[0], request, number) == number)
            return
        can_be = can_place(hosts, request.consumers[0], request, number)
        assert can_be or not is_placed
        if not is_entangled(request.deployment):
            assert is_placed == can_be

    def leave(self, number: int) -> None:
        residents = [(tenancy, place) for tenancy in self.tenancies.values() for place in tenancy.residents]
        if residents:
            tenancy, place = residents[number % len(residents)]
            tenancy.residents.remove(place)
            self.refresh(tenancy)

    def refresh(self, tenancy: Tenancy) -> None:
        """The host as a database would tell it: from all that is held there."""
        host = tenancy.host
        for consumer, assignment in tenancy.residents:
            host = host.taken(consumer, assignment)
        self.snapshot.put(host)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_every_decision_is_by_the_rules(data: st.DataObject) -> None:
    hosts = [data.draw(a_random_host(number)) for number in range(data.draw(st.integers(1, 4)))]
    cluster = Cluster(hosts)
    for event in data.draw(st.lists(events_, min_size=1, max_size=10)):
        if isinstance(event, int):
            cluster.leave(event)
        else:
            cluster.arrive(*event)
