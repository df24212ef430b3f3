"""Hosts as columns: rows that come, go and change."""

from coordinator.domain.placement import Assignment, ResourceClass
from coordinator.scheduler.snapshot import Snapshot
from tests.builders import a_consumer, a_host, resources


def test_a_removed_host_leaves_its_row_to_the_last_one() -> None:
    hosts = [a_host(name, vcpus=cpus, zone=f"AZ{cpus}") for cpus, name in enumerate("abc", start=1)]
    snapshot = Snapshot(hosts)
    snapshot.remove("id-of-a")
    snapshot.remove("id-of-nobody")
    row = snapshot.find("id-of-c")
    assert row is not None
    assert snapshot.host(row).name == "c"
    assert snapshot.free(ResourceClass.VCPU)[row] == 3
    assert snapshot.matches("zone", "AZ3").tolist() == [snapshot.host(row).zone == "AZ3" for row in range(2)]
    assert (len(snapshot), snapshot.find("id-of-a"), snapshot.find_by_name("a")) == (2, None, None)


def test_a_changed_host_keeps_its_row() -> None:
    snapshot = Snapshot([a_host("a"), a_host("b")])
    snapshot.put(a_host("a", vcpus=16, used=resources(vcpus=10), ready=False))
    assert snapshot.free(ResourceClass.VCPU).tolist() == [6, 16]
    assert snapshot.ready.tolist() == [False, True]


def test_more_hosts_and_traits_than_there_was_room_for() -> None:
    hosts = [a_host(f"host-{number:03}", traits=frozenset({f"trait-{number}", "uefi"})) for number in range(200)]
    snapshot = Snapshot(hosts)
    assert snapshot.has_traits({"uefi"}).all()
    assert snapshot.has_traits({"uefi", "trait-150"}).nonzero()[0].tolist() == [150]


def test_traits_that_only_requests_name_are_not_kept() -> None:
    snapshot = Snapshot([a_host("a", traits=frozenset({"uefi"}))])
    for number in range(1000):
        assert not snapshot.has_traits({"uefi", f"invented-{number}"}).any()
    snapshot.put(a_host("a", traits=frozenset({"uefi", "invented-7"})))
    assert snapshot.has_traits({"invented-7"}).all()
    assert snapshot._traits.shape[0] == 1


def test_a_trial_leaves_no_trace() -> None:
    snapshot = Snapshot([a_host("a", vcpus=4)])
    with snapshot.trial() as trial:
        consumer = a_consumer(vcpus=3)
        trial.take(0, snapshot.host(0).taken(consumer, Assignment(snapshot.host(0))), consumer)
        assert snapshot.free(ResourceClass.VCPU).tolist() == [1]
    assert snapshot.free(ResourceClass.VCPU).tolist() == [4]
