"""The snapshot that a process keeps: what it reads again, and what it remembers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, event, update
from sqlmodel import col

from coordinator.placement.cache import HostCache
from coordinator.store.database import Database
from coordinator.store.queries.placement import advance_generations
from coordinator.store.tables.node import Node
from tests.builders import a_node, add, an_inventory
from tests.database import BOTH_DATABASES

pytestmark = BOTH_DATABASES


def add_nodes(database: Database, count: int) -> list[Node]:
    nodes = [a_node(f"node-{number:02}", generation=number + 1) for number in range(count)]
    with database.write() as session:
        for node in nodes:
            add(session, node, *an_inventory(node))
    return nodes


@contextmanager
def read_nodes() -> Iterator[list[str]]:
    """Ids of the nodes that are read within the block; a star stands for all."""
    read: list[str] = []

    def after_execute(_connection: object, statement: object, _many: object, parameters: Any, *_rest: object) -> None:
        if "FROM node LEFT" in str(statement):
            read.extend(parameters.get("node_ids", "*"))

    event.listen(Engine, "after_execute", after_execute)
    try:
        yield read
    finally:
        event.remove(Engine, "after_execute", after_execute)


def zones(hosts: HostCache) -> list[str]:
    with hosts.current() as snapshot:
        return [snapshot.host(row).zone for row in range(len(snapshot))]


def test_only_hosts_that_changed_are_read_again(database: Database) -> None:
    nodes = add_nodes(database, 10)
    hosts = HostCache(database)
    zones(hosts)
    with database.write() as session:
        advance_generations(session, [nodes[3].id])
    with read_nodes() as read:
        zones(hosts)
        zones(hosts)
    assert read == [nodes[3].id]


def test_a_change_under_a_generation_that_was_passed_is_found_without_reading_all(database: Database) -> None:
    if database.is_sqlite:
        pytest.skip("one coordinator only")
    nodes = add_nodes(database, 200)
    clock = 0.0
    hosts = HostCache(database, monotonic=lambda: clock)
    with hosts.current() as before:
        pass
    with database.write() as session:
        session.execute(update(Node).where(col(Node.id) == nodes[0].id).values(zone="AZ9", generation=2))
    assert "AZ9" not in zones(hosts)
    assert not hosts.reload()
    clock = 2.0
    assert hosts.reload()
    with read_nodes() as read:
        assert zones(hosts).count("AZ9") == 1
    assert read == [nodes[0].id]
    with hosts.current() as after:
        assert after is before  # and with it what was learnt of requests for GPUs
    assert not hosts.reload()


def test_a_host_that_is_gone_is_missed_when_all_are_compared(database: Database) -> None:
    if database.is_sqlite:
        pytest.skip("one coordinator only")
    [node] = add_nodes(database, 1)
    lonely = a_node("lonely")
    with database.write() as session:
        add(session, lonely)
    clock = 0.0
    hosts = HostCache(database, monotonic=lambda: clock)
    assert len(zones(hosts)) == 2
    with database.write() as session:
        session.delete(session.get_one(Node, lonely.id))
    clock = 2.0
    assert hosts.reload()
    with hosts.current() as snapshot:
        assert snapshot.node_ids() == {node.id}
