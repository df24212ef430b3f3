"""Members of deployment sets: together, apart, in batches, and what is said about hosts that are out."""

from collections.abc import Sequence
from typing import Any

import pytest

from coordinator.domain.deployment import DeploymentRule, Policy, Scope
from coordinator.domain.placement import Assignment, HostView, PlacementRequest
from coordinator.scheduler import pipeline
from coordinator.scheduler.snapshot import Snapshot
from tests.builders import a_consumer, a_host, a_request, resources

SCOPES = [Scope.RACK, Scope.SWITCH, Scope.NET_SWITCH]


def a_rule(*members: HostView, **policies: str) -> DeploymentRule:
    """For example `a_rule(member, rack="affinity")`."""
    return DeploymentRule(
        {Scope[scope.upper()]: Policy(policy) for scope, policy in policies.items()},
        tuple(member.place for member in members),
    )


def chosen(hosts: Sequence[HostView], request: PlacementRequest) -> list[str]:
    """Names of the hosts; the same for every seed of a few."""
    found = {
        tuple(it.host.name for it in pipeline.decide(Snapshot(hosts, seed=seed), request).assignments)
        for seed in range(4)
    }
    assert len({tuple(sorted(names)) for names in found}) == 1, found
    return sorted(found.pop())


def rejections(hosts: Sequence[HostView], request: PlacementRequest) -> dict[str, tuple[str, str, str]]:
    verdicts = pipeline.explain(Snapshot(hosts), request).verdicts
    return {
        it.node_name: (str(it.rejection.reason), it.rejection.wanted, it.rejection.available)
        for it in verdicts
        if it.rejection
    }


def labelled(name: str, scope: Scope, label: str) -> HostView:
    columns: dict[str, Any] = {scope: label}
    return a_host(name, **columns)


def batch(count: int, rule: DeploymentRule, **consumer: Any) -> PlacementRequest:
    return a_request(*[a_consumer(**consumer) for _ in range(count)], deployment=rule)


@pytest.mark.parametrize("scope", SCOPES)
def test_members_are_together_or_apart_and_hosts_without_a_label_are_out(scope: Scope) -> None:
    hosts = [labelled("a", scope, "1"), labelled("b", scope, "1"), labelled("c", scope, "2"), a_host("d")]
    member = hosts[0]
    together, apart = a_rule(member, **{scope: "affinity"}), a_rule(member, **{scope: "anti-affinity"})
    assert set(rejections(hosts, batch(1, together))) == {"c", "d"}
    assert set(rejections(hosts, batch(1, apart))) == {"a", "b", "d"}
    for first in (a_rule(**{scope: "affinity"}), a_rule(**{scope: "anti-affinity"})):
        assert set(rejections(hosts, batch(1, first))) == {"d"}


def test_hosts_need_no_label_to_be_told_apart() -> None:
    hosts = [a_host(name) for name in "abc"]
    assert set(rejections(hosts, batch(1, a_rule(hosts[0], host="anti-affinity")))) == {"a"}
    assert set(rejections(hosts, batch(1, a_rule(hosts[0], host="affinity")))) == {"b", "c"}


def test_a_rejection_names_scope_wanted_and_available() -> None:
    hosts = [a_host("a", rack="r1"), a_host("b", rack="r2"), a_host("c")]
    assert rejections(hosts, batch(1, a_rule(hosts[0], rack="affinity"))) == {
        "b": ("not in the rack of the deployment set", "rack r1", "rack r2"),
        "c": ("no rack label", "rack r1", "no label"),
    }
    assert rejections(hosts, batch(1, a_rule(hosts[0], rack="anti-affinity"))) == {
        "a": ("rack taken by the deployment set", "another rack r1", "rack r1"),
        "c": ("no rack label", "another rack r1", "no label"),
    }
    assert rejections(hosts, batch(1, a_rule(rack="anti-affinity")))["c"] == ("no rack label", "a rack", "no label")


def test_members_parted_by_new_labels_admit_the_domain_of_each() -> None:
    hosts = [a_host("a", rack="r1"), a_host("b", rack="r2"), a_host("c", rack="r3")]
    assert set(rejections(hosts, batch(1, a_rule(hosts[0], hosts[1], rack="affinity")))) == {"c"}


def test_members_on_hosts_without_a_label_are_in_no_domain() -> None:
    hosts = [a_host("a"), a_host("b", rack="r2")]
    for policy in ("affinity", "anti-affinity"):
        assert chosen(hosts, batch(1, a_rule(hosts[0], rack=policy))) == ["b"]


def test_a_set_without_policies_has_no_effect() -> None:
    hosts = [a_host("a"), a_host("b")]
    assert rejections(hosts, batch(1, a_rule(hosts[0]))) == {}


def test_a_batch_is_apart_from_itself() -> None:
    hosts = [
        a_host("a", rack="r1"),
        a_host("b", rack="r1", in_flight=1),
        a_host("c", rack="r2"),
        a_host("d", rack="r3"),
    ]
    apart = a_rule(rack="anti-affinity")
    assert chosen(hosts, batch(3, apart)) == ["a", "c", "d"]
    assert chosen(hosts, batch(4, apart)) == []
    assert chosen(hosts, batch(4, a_rule(host="anti-affinity"))) == ["a", "b", "c", "d"]


def test_a_batch_gets_the_rack_that_holds_all_of_it() -> None:
    tempting = [a_host("big", rack="r1", vcpus=32, memory_gib=128)]
    others = [a_host(f"{rack}-{number}", rack=rack, vcpus=16) for rack in ("r2", "r3") for number in range(2)]
    narrow = [a_host("full", rack="r2", vcpus=16, used=resources(vcpus=12))]
    request = batch(4, a_rule(rack="affinity", host="anti-affinity"), vcpus=4)
    hosts = [*tempting, *others, *narrow, a_host("r3-2", rack="r3"), a_host("r3-3", rack="r3")]
    assert chosen(hosts, request) == ["r3-0", "r3-1", "r3-2", "r3-3"]
    assert chosen(hosts[:-1], request) == []


def test_racks_that_only_look_large_enough_are_not_tried() -> None:
    """More of them than are tried at all, and better than the one that holds the batch."""
    alone = [a_host(f"alone-{number}", rack=f"r{number}", vcpus=64, memory_gib=256) for number in range(100)]
    fitting = [a_host(f"fit-{number}", rack="fit", vcpus=4, memory_gib=8) for number in range(4)]
    names = [host.name for host in fitting]
    assert chosen([*alone, *fitting], batch(4, a_rule(rack="affinity", host="anti-affinity"))) == names
    # One slot each; the rest of the rack is in another zone.
    tempting = [a_host(f"one-{number}", rack=f"r{number}", vcpus=3, memory_gib=256) for number in range(100)]
    elsewhere = [a_host(f"other-{number}", rack=f"r{number}", vcpus=64, zone="AZ1") for number in range(100)]
    hosts = [*tempting, *elsewhere, *(a_host(name, rack="fit", vcpus=2, memory_gib=4) for name in names)]
    request = a_request(*[a_consumer() for _ in range(4)], zone="AZ0", deployment=a_rule(rack="affinity"))
    assert chosen(hosts, request) == names


def test_a_batch_that_no_rack_holds_is_told_why() -> None:
    hosts = [a_host("a", rack="r1", vcpus=4), a_host("b", rack="r2", vcpus=4)]
    decision = pipeline.decide(Snapshot(hosts), batch(2, a_rule(rack="affinity"), vcpus=3))
    assert not decision.placed
    assert {str(it.rejection.reason) for it in decision.reasons} == {
        "too few vCPUs",
        "not in the rack of the deployment set",
    }


def test_several_scopes_are_settled_together() -> None:
    hosts = [
        a_host("a", rack="r1", switch="s1", vcpus=16),
        a_host("b", rack="r1", switch="s2", vcpus=4),
        a_host("c", rack="r2", switch="s2", vcpus=4),
        a_host("d", rack="r2", switch="s2", vcpus=4),
    ]
    rule = a_rule(rack="affinity", switch="affinity", host="anti-affinity")
    assert chosen(hosts, batch(2, rule)) == ["c", "d"]


def test_soft_policies_beat_room_but_never_refuse() -> None:
    full, empty = a_host("full", rack="r1", used=resources(vcpus=14, memory_gib=8)), a_host("empty", rack="r2")
    hosts = [full, empty, a_host("nowhere", used=resources(vcpus=8))]
    for scope in ("rack", "host"):
        assert chosen(hosts, batch(1, a_rule(full, **{scope: "soft-affinity"}))) == ["full"]
        assert chosen(hosts, batch(1, a_rule(empty, **{scope: "soft-anti-affinity"}))) != ["empty"]
    assert chosen(hosts, batch(1, a_rule(empty, rack="soft-anti-affinity"))) == ["full"]
    # A rack without members, then one that nobody knows, then one with members.
    assert chosen(hosts[1:], batch(1, a_rule(empty, rack="soft-anti-affinity"))) == ["nowhere"]
    assert chosen(hosts[1:2], batch(1, a_rule(empty, rack="soft-anti-affinity"))) == ["empty"]
    assert chosen([full, hosts[2]], batch(1, a_rule(empty, rack="soft-affinity"))) == ["nowhere"]


def test_soft_anti_affinity_fills_racks_alike() -> None:
    hosts = [a_host(f"{rack}{number}", rack=rack) for rack in "abc" for number in range(3)]
    names = chosen(hosts, batch(9, a_rule(rack="soft-anti-affinity", host="soft-anti-affinity")))
    assert names == [host.name for host in hosts]


def test_soft_affinity_keeps_a_batch_together_as_far_as_there_is_room() -> None:
    hosts = [a_host(name, rack=f"r-{name}", vcpus=4) for name in "abc"]
    request = batch(3, a_rule(rack="soft-affinity"), vcpus=2)
    names = [it.host.name for it in pipeline.decide(Snapshot(hosts), request).assignments]
    assert sorted(names.count(name) for name in set(names)) == [1, 2]


def test_a_confirmation_counts_the_batch_as_well() -> None:
    hosts = [a_host("a"), a_host("b")]
    snapshot, request = Snapshot(hosts), batch(2, a_rule(host="anti-affinity"))
    assert pipeline.admits(snapshot, request, [Assignment(hosts[0]), Assignment(hosts[1])])
    assert not pipeline.admits(snapshot, request, [Assignment(hosts[0]), Assignment(hosts[0])])


def test_emptier_racks_come_first_where_there_are_several() -> None:
    crowd = [a_host(f"crowd-{number}", rack="r1", used=resources(vcpus=16)) for number in range(3)]
    hosts = [*crowd, a_host("crowded", rack="r1"), a_host("roomy", rack="r2"), a_host("unknown")]
    assert chosen(hosts, a_request()) == ["roomy"]
    scores = {
        it.node_name: it.scores["rack"]
        for it in pipeline.explain(Snapshot(hosts), a_request()).verdicts
        if it.rejection is None
    }
    assert scores == {"crowded": 0.0625, "roomy": 0.25, "unknown": 0.125}
    alone = pipeline.explain(Snapshot(hosts[:4]), a_request()).verdicts[0]
    assert alone.scores["rack"] == 0.125
