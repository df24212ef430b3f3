"""What people are told when there is no room."""

from coordinator.placement.summary import summarize
from coordinator.scheduler.pipeline import explain
from coordinator.scheduler.snapshot import Snapshot
from tests.builders import a_consumer, a_host, a_request, resources
from tests.database import BOTH_DATABASES

pytestmark = BOTH_DATABASES


def test_reasons_are_counted_with_wanted_and_the_best_available() -> None:
    hosts = [
        a_host("a", memory_gib=8, used=resources(vcpus=0, memory_gib=4.8)),
        a_host("b", memory_gib=2),
        a_host("c", zone="AZ1"),
    ]
    message = summarize(explain(Snapshot(hosts), a_request(a_consumer(memory_gib=8), zone="AZ0")))
    assert message.en == "0/3 hosts: 2 too little memory (wanted 8 GiB, at most 3.2 GiB free), 1 other zone"
    assert message.zh == "0/3 台物理机符合要求：2 台内存不足（需要 8 GiB，最多剩余 3.2 GiB），1 台不在指定的可用区"


def test_missing_traits_are_named() -> None:
    message = summarize(explain(Snapshot([a_host()]), a_request(traits=frozenset({"vtpm-2.0", "secure-boot", "uefi"}))))
    assert message.en == "0/1 hosts: 1 trait missing (wanted secure-boot, vtpm-2.0)"


def test_without_hosts_it_says_so() -> None:
    assert summarize(explain(Snapshot([]), a_request())).en == "no host has joined yet"


def test_an_explained_success_counts_the_hosts_that_fit() -> None:
    message = summarize(explain(Snapshot([a_host("a"), a_host("b", ready=False)]), a_request()))
    assert message.en == "1/2 hosts: 1 away"
    assert summarize(explain(Snapshot([a_host("a")]), a_request())).en == "1/1 hosts fit"
