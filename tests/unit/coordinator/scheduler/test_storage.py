"""Space behind types of volumes: several types and hosts may have one pool, which is counted once."""

from dataclasses import replace

import pytest

from coordinator.domain.placement import HostView, PlacementRequest, RejectionReason
from coordinator.domain.space import Pool, SpaceWish
from coordinator.scheduler.pipeline import decide
from coordinator.scheduler.snapshot import Snapshot
from tests.builders import a_consumer, a_host


def with_pools(name: str, **pools: str) -> HostView:
    named = {("*" if kind == "others" else kind): pool for kind, pool in pools.items()}
    return replace(a_host(name), pools=named, places=frozenset(pools.values()))


def a_snapshot(*hosts: HostView, **free_gib: int) -> Snapshot:
    snapshot = Snapshot(hosts)
    snapshot.storage.put_pools(Pool(name, gib) for name, gib in free_gib.items())
    return snapshot


def a_request(*wishes: SpaceWish, count: int = 1, **fields: frozenset[str]) -> PlacementRequest:
    consumers = (replace(a_consumer(storage_gib=10**6), space=wishes) for _ in range(count))
    return PlacementRequest(tuple(consumers), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wishes", "placed"),
    [
        ((SpaceWish("hdd", 10), SpaceWish("ssd", 20)), True),
        # Both are in the one pool.
        ((SpaceWish("hdd", 11), SpaceWish("ssd", 20)), False),
        ((SpaceWish("essd", 5), SpaceWish("hdd", 30)), True),
        ((SpaceWish("essd", 6),), False),
        # What the host has already is no more.
        ((SpaceWish("hdd", 1000, "near"), SpaceWish("ssd", 30)), True),
        ((SpaceWish("hdd", 1000, "elsewhere"),), False),
    ],
)
def test_what_is_in_one_pool_counts_together(wishes: tuple[SpaceWish, ...], placed: bool) -> None:
    snapshot = a_snapshot(with_pools("a", others="near", essd="fast"), near=30, fast=5)
    assert decide(snapshot, a_request(*wishes)).placed == placed


def test_consumers_of_one_request_share_what_hosts_share() -> None:
    hosts = [with_pools(name, others="share") for name in "ab"]
    snapshot = a_snapshot(*hosts, share=35)
    assert len(decide(snapshot, a_request(SpaceWish("ssd", 10), count=3)).assignments) == 3
    refused = decide(snapshot, a_request(SpaceWish("ssd", 10), count=4))
    (reason,) = refused.reasons
    assert (reason.count, reason.rejection.reason) == (2, RejectionReason.TOO_LITTLE_STORAGE)
    assert (reason.rejection.wanted, reason.rejection.available) == ("10 GiB of ssd", "5 GiB")
    assert snapshot.storage.free_gib("share") == 35


def test_reasons_name_the_type_and_hosts_that_tell_nothing_are_counted_as_before() -> None:
    silent = replace(with_pools("silent", others="small"), pools={"*": "small", "ssd": ""})
    rows = (with_pools("none", hdd="group"), with_pools("full", others="small"), silent, a_host("old"))
    snapshot = a_snapshot(*rows, group=100, small=3)
    reasons = decide(snapshot, a_request(SpaceWish("ssd", 4))).reasons
    assert {(it.count, it.rejection.filter, it.rejection.reason, it.rejection.wanted) for it in reasons} == {
        (2, "storage", RejectionReason.VOLUME_TYPE_MISSING, "ssd"),
        (1, "storage", RejectionReason.TOO_LITTLE_STORAGE, "4 GiB of ssd"),
        (1, "capacity", RejectionReason.TOO_LITTLE_STORAGE, "976.5 TiB"),
    }
    snapshot.remove(rows[0].node_id)
    snapshot.storage.put_pools([Pool("small", 4)])
    decision = decide(snapshot, a_request(SpaceWish("ssd", 4)))
    assert [it.host.name for it in decision.assignments] == ["full"]


def test_volumes_that_stay_where_they_are_bind_to_hosts_with_the_place() -> None:
    snapshot = a_snapshot(with_pools("near", others="share", hdd="own"), with_pools("far", others="share"), share=9)
    decision = decide(snapshot, a_request(SpaceWish("ssd", 1), places=frozenset({"share", "own"})))
    assert [it.host.name for it in decision.assignments] == ["near"]
