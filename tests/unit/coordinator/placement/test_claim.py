"""Claims on real databases: exact, together or not at all, also when many want the same."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from uuid import uuid4
from weakref import WeakKeyDictionary

import pytest
from sqlalchemy import Engine, event, update
from sqlmodel import col, func, select

from coordinator.domain.placement import Decision, PlacementRequest, ResourceClass
from coordinator.errors import AllocationMismatch
from coordinator.placement.cache import HostCache
from coordinator.placement.claim import claim, explain, release
from coordinator.store.database import Database
from coordinator.store.tables.device import Device
from coordinator.store.tables.node import Allocation, Inventory, Node
from tests.builders import a_consumer, a_gpu_wish, a_node, a_request, add, an_inventory, resources
from tests.database import BOTH_DATABASES

pytestmark = BOTH_DATABASES


def add_nodes(database: Database, count: int = 1, vcpus: int = 16) -> list[Node]:
    nodes = [a_node(f"node-{number:02}") for number in range(count)]
    with database.write() as session:
        for node in nodes:
            add(session, node, *an_inventory(node, vcpus=vcpus, memory_gib=1024, storage_gib=100_000))
    return nodes


_caches: WeakKeyDictionary[Database, HostCache] = WeakKeyDictionary()


def cache_of(database: Database) -> HostCache:
    """One a database, as in a coordinator."""
    return _caches.setdefault(database, HostCache(database))


def claim_in(database: Database, request: PlacementRequest) -> Decision:
    with database.write() as session:
        return claim(session, cache_of(database), request)


def used(database: Database, resource_class: ResourceClass = ResourceClass.VCPU) -> int:
    with database.read() as session:
        query = select(func.coalesce(func.sum(Allocation.amount), 0))
        return int(session.exec(query.where(Allocation.resource_class == resource_class)).one())


def generation(database: Database, node: Node) -> int:
    with database.read() as session:
        return session.get_one(Node, node.id).generation


def test_a_claim_allocates_every_class_on_the_chosen_node(database: Database) -> None:
    [node] = add_nodes(database)
    consumer = a_consumer(vcpus=2, memory_gib=4, storage_gib=10)
    decision = claim_in(database, a_request(consumer))
    assert [it.host.node_id for it in decision.assignments] == [node.id]
    with database.read() as session:
        rows = session.exec(select(Allocation)).all()
    assert {(row.consumer_uuid, row.node_id, row.external) for row in rows} == {(consumer.uuid, node.id, False)}
    assert {row.resource_class: row.amount for row in rows} == resources(vcpus=2, memory_gib=4, storage_gib=10)
    assert generation(database, node) == node.generation + 1


def test_a_class_of_which_nothing_is_wanted_has_no_allocation(database: Database) -> None:
    add_nodes(database)
    claim_in(database, a_request(a_consumer(storage_gib=0)))
    with database.read() as session:
        assert ResourceClass.STORAGE_GIB not in session.exec(select(Allocation.resource_class)).all()


def test_what_does_not_fit_leaves_nothing(database: Database) -> None:
    [node] = add_nodes(database, vcpus=3)
    decision = claim_in(database, a_request(a_consumer(vcpus=2), a_consumer(vcpus=2)))
    assert not decision.placed
    assert used(database) == 0
    assert generation(database, node) == node.generation


def test_a_rolled_back_claim_leaves_nothing(database: Database) -> None:
    add_nodes(database)

    def claim_and_fail() -> None:
        with database.write() as session:
            assert claim(session, cache_of(database), a_request()).placed
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        claim_and_fail()
    assert used(database) == 0


def test_claiming_again_answers_the_present_host(database: Database) -> None:
    add_nodes(database, count=3)
    request = a_request(a_consumer(), a_consumer())
    first, second = claim_in(database, request), claim_in(database, request)
    assert [it.host.node_id for it in first.assignments] == [it.host.node_id for it in second.assignments]
    assert used(database) == 4


def test_a_batch_is_completed_by_those_that_hold_nothing_yet(database: Database) -> None:
    add_nodes(database, count=2)
    old, new = a_consumer(), a_consumer()
    [held] = claim_in(database, a_request(old)).assignments
    decision = claim_in(database, a_request(new, old))
    assert decision.assignments[1].host.node_id == held.host.node_id
    assert len(decision.assignments) == 2
    assert used(database) == 4


def test_a_consumer_cannot_claim_other_resources(database: Database) -> None:
    add_nodes(database)
    consumer = a_consumer(vcpus=2)
    claim_in(database, a_request(consumer))
    with pytest.raises(AllocationMismatch):
        claim_in(database, a_request(replace(consumer, resources=resources(vcpus=4))))
    assert used(database) == 2


def test_released_resources_can_be_claimed_again(database: Database) -> None:
    [node] = add_nodes(database, vcpus=2)
    first = a_consumer(vcpus=2)
    claim_in(database, a_request(first))
    assert not claim_in(database, a_request(a_consumer(vcpus=2))).placed
    with database.write() as session:
        release(session, [first.uuid, str(uuid4())])
    assert generation(database, node) == node.generation + 2
    assert claim_in(database, a_request(a_consumer(vcpus=2))).placed


def test_explaining_changes_nothing(database: Database) -> None:
    [node] = add_nodes(database)
    with database.write() as session:
        decision = explain(session, cache_of(database), a_request())
    assert [it.host.node_id for it in decision.assignments] == [node.id]
    assert used(database) == 0
    assert generation(database, node) == node.generation


def in_threads(count: int, work: Callable[[int], Decision | None]) -> list[Decision | None]:
    """All at the same moment."""
    barrier = threading.Barrier(count)

    def start(number: int) -> Decision | None:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(start, range(count)))


@pytest.mark.parametrize(("node_count", "room"), [(1, 10), (3, 4), (8, 2)])
def test_thirty_two_claims_at_once_take_exactly_the_room(database: Database, node_count: int, room: int) -> None:
    add_nodes(database, count=node_count, vcpus=room * 2)
    outcomes = in_threads(32, lambda _number: claim_in(database, a_request(a_consumer(vcpus=2))))
    placed = [outcome for outcome in outcomes if outcome and outcome.placed]
    assert len(placed) == node_count * room
    with database.read() as session:
        totals = session.exec(
            select(Allocation.node_id, func.sum(Allocation.amount))
            .where(Allocation.resource_class == ResourceClass.VCPU)
            .group_by(col(Allocation.node_id))
        ).all()
    assert [total for _node_id, total in totals] == [room * 2] * node_count


def test_batches_at_once_are_placed_whole_or_not_at_all(database: Database) -> None:
    add_nodes(database, count=3, vcpus=8)
    outcomes = in_threads(16, lambda _number: claim_in(database, a_request(*[a_consumer(vcpus=2) for _ in range(5)])))
    assert sum(bool(outcome and outcome.placed) for outcome in outcomes) == 2  # 12 places, 5 each
    assert used(database) == 20


def test_the_same_consumer_claimed_at_once_is_placed_once(database: Database) -> None:
    add_nodes(database, count=4)
    request = a_request(a_consumer())
    outcomes = in_threads(16, lambda _number: claim_in(database, request))
    assert len({outcome.assignments[0].host.node_id for outcome in outcomes if outcome}) == 1
    assert used(database) == 2


def test_the_same_consumer_claimed_at_once_for_different_hosts_is_placed_once(database: Database) -> None:
    nodes = add_nodes(database, count=16)
    consumer = a_consumer()
    outcomes = in_threads(16, lambda number: claim_in(database, a_request(consumer, node_id=nodes[number].id)))
    assert len({outcome.assignments[0].host.node_id for outcome in outcomes if outcome}) == 1
    assert used(database) == 2


def test_claims_and_releases_at_once_end_even(database: Database) -> None:
    add_nodes(database, count=2, vcpus=16)

    def claim_and_release(_number: int) -> None:
        for _ in range(5):
            consumers = [a_consumer(vcpus=1) for _ in range(3)]
            claim_in(database, a_request(*consumers))
            with database.write() as session:
                release(session, [consumer.uuid for consumer in consumers])

    in_threads(8, claim_and_release)
    assert used(database) == 0


def test_a_claim_sees_capacity_that_shrank_while_it_decided(database: Database) -> None:
    """PostgreSQL: another transaction takes the room between the snapshot and the claim."""
    if database.is_sqlite:
        pytest.skip("one writer at a time")
    [node] = add_nodes(database, vcpus=2)
    rival = a_consumer(vcpus=2)
    is_beaten = False

    def before_execute(_connection: object, statement: object, *_rest: object) -> None:
        nonlocal is_beaten
        if not is_beaten and str(statement).startswith("UPDATE node"):
            is_beaten = True
            claim_in(database, a_request(rival))

    with database.write() as session:
        event.listen(session.connection(), "before_execute", before_execute)
        decision = claim(session, cache_of(database), a_request(a_consumer(vcpus=2)))
    assert is_beaten
    assert not decision.placed
    assert used(database) == 2
    assert generation(database, node) == node.generation + 1


def test_inventories_of_other_nodes_do_not_leak(database: Database) -> None:
    first, second = add_nodes(database, count=2, vcpus=2)
    with database.write() as session:
        for inventory in session.exec(select(Inventory).where(Inventory.node_id == first.id)):
            inventory.total = 0
    assert [it.host.node_id for it in claim_in(database, a_request()).assignments] == [second.id]


def test_a_claim_reads_no_more_hosts_than_changed(database: Database) -> None:
    add_nodes(database, count=50)
    claim_in(database, a_request())
    read: list[str] = []

    def after_execute(_connection: object, statement: object, _many: object, parameters: Any, *_rest: object) -> None:
        if "FROM node LEFT" in str(statement):
            read.extend(parameters["node_ids"])

    event.listen(Engine, "after_execute", after_execute)
    try:
        claim_in(database, a_request())
    finally:
        event.remove(Engine, "after_execute", after_execute)
    assert 1 <= len(read) <= 4


def test_a_node_that_is_gone_is_not_chosen_for_ever(database: Database) -> None:
    [doomed, other] = add_nodes(database, count=2)
    request = a_request(node_id=doomed.id)
    assert claim_in(database, request).placed
    with database.write() as session:
        release(session, [request.consumers[0].uuid])
        for row in session.exec(select(Inventory).where(Inventory.node_id == doomed.id)):
            session.delete(row)
        session.flush()
        session.delete(session.get_one(Node, doomed.id))
    decision = claim_in(database, a_request(*[a_consumer(vcpus=4) for _ in range(4)]))
    assert {it.host.node_id for it in decision.assignments} == {other.id}


def test_another_coordinators_changes_are_seen_before_anybody_is_refused(database: Database) -> None:
    """PostgreSQL: a change that committed late, under a generation that was passed long ago."""
    if database.is_sqlite:
        pytest.skip("one coordinator only")
    [node] = add_nodes(database, vcpus=2)
    clock = 0.0
    hosts = HostCache(database, monotonic=lambda: clock)
    with database.write() as session:
        assert not claim(session, hosts, a_request(a_consumer(vcpus=4))).placed
        for inventory in session.exec(select(Inventory).where(Inventory.node_id == node.id)):
            inventory.total = 100_000
    clock = 2.0
    with database.write() as session:
        session.execute(update(Node).values(generation=Node.generation - 500))
    with database.write() as session:
        assert claim(session, hosts, a_request(a_consumer(vcpus=4))).placed


def test_who_was_beaten_on_a_host_gets_what_is_left_there(database: Database) -> None:
    """PostgreSQL: somebody new is faster each time that the claim has chosen a GPU."""
    if database.is_sqlite:
        pytest.skip("one writer at a time")
    [node] = add_nodes(database, vcpus=100)
    with database.write() as session:
        add(session, *[Device(node_id=node.id, id=f"gpu-{number:02}", kind="gpu") for number in range(30)])
    rivals = 0

    def before_execute(_connection: object, statement: object, *_rest: object) -> None:
        nonlocal rivals
        if str(statement).startswith("UPDATE node") and rivals < 20:
            rivals += 1
            assert claim_in(database, a_request(a_consumer(devices=(a_gpu_wish(),)))).placed

    with database.write() as session:
        event.listen(session.connection(), "before_execute", before_execute)
        assert claim(session, cache_of(database), a_request(a_consumer(devices=(a_gpu_wish(),)))).placed
    assert rivals == 1


def test_the_host_of_a_claim_is_told_as_it_is_then(database: Database) -> None:
    """PostgreSQL: it changed its zone between the choice and the claim, and nobody minds."""
    if database.is_sqlite:
        pytest.skip("one writer at a time")
    [node] = add_nodes(database)
    hosts = HostCache(database)
    with hosts.current():
        pass

    def before_execute(_connection: object, statement: object, *_rest: object) -> None:
        if str(statement).startswith("UPDATE node"):
            with database.engine.begin() as other:
                other.execute(update(Node).where(col(Node.id) == node.id).values(zone="AZ9"))

    with database.write() as session:
        event.listen(session.connection(), "before_execute", before_execute)
        [assignment] = claim(session, hosts, a_request()).assignments
    assert assignment.host.zone == "AZ9"
