"""Events: told with the change or not at all, by whoever makes it, and in one order for all who read."""

from datetime import timedelta

import pytest
from sqlmodel import select

from coordinator.domain.clock import utc_now
from coordinator.domain.event import EventFilter, Severity
from coordinator.domain.instance import InstanceStatus
from coordinator.domain.task import TaskState
from coordinator.event_feed import settle_events
from coordinator.store.database import Database
from coordinator.store.queries.event import delete_events, read_events, read_last_position, record_event
from coordinator.store.tables import Event, Instance, Node, Task
from tests.builders import a_flavor, a_flavor_type, a_node, a_tenant, a_volume, add, an_image, an_instance
from tests.database import BOTH_DATABASES

pytestmark = BOTH_DATABASES

EVERYTHING = EventFilter()


def told(database: Database, after: int = 0, wanted: EventFilter = EVERYTHING) -> list[Event]:
    settle_events(database)
    with database.read() as session:
        return list(read_events(session, after, wanted, 1000))


def tell(database: Database, name: str) -> None:
    with database.write() as session:
        record_event(session, "test.told", resource_type="node", resource_id=name)


def newest(database: Database) -> int:
    settle_events(database)
    with database.read() as session:
        return read_last_position(session)


def a_stored_instance(database: Database) -> Instance:
    tenant, kind = a_tenant(), a_flavor_type()
    flavor = a_flavor(kind)
    instance = an_instance(tenant, flavor, status=InstanceStatus.RUNNING)
    with database.write() as session:
        add(session, tenant, kind, flavor, instance)
    return instance


def test_what_is_rolled_back_is_not_told(database: Database) -> None:
    def fail() -> None:
        with database.write() as session:
            record_event(session, "test.told", resource_type="node", resource_id="lost")
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    tell(database, "kept")
    assert [event.resource_id for event in told(database)] == ["kept"]


def test_whoever_changes_an_instance_tells_of_it(database: Database) -> None:
    instance = a_stored_instance(database)
    before = newest(database)
    with database.write() as session:
        row = session.get_one(Instance, instance.id)
        row.status, row.error_message = InstanceStatus.UNKNOWN, "node a is away"
    with database.write() as session:
        session.get_one(Instance, instance.id).status = InstanceStatus.UNKNOWN
    with database.write() as session:
        session.get_one(Instance, instance.id).deleted_at = utc_now()
    changed, deleted = told(database, before)
    assert (changed.kind, changed.severity, changed.tenant_id) == (
        "instance.status_changed",
        Severity.WARNING,
        instance.tenant_id,
    )
    assert changed.data == {"from": "Running", "to": "Unknown", "reason": "node a is away"}
    assert (deleted.kind, deleted.resource_id) == ("instance.deleted", instance.ecs_id)


def test_an_instance_that_moves_tells_from_where(database: Database) -> None:
    instance, source, target = a_stored_instance(database), a_node("source"), a_node("target")
    with database.write() as session:
        add(session, source, target)
        session.get_one(Instance, instance.id).node_id = source.id
    before = newest(database)
    with database.write() as session:
        session.get_one(Instance, instance.id).node_id = target.id
    [moved] = told(database, before)
    assert (moved.kind, moved.data) == ("instance.moved", {"from": source.id, "to": target.id})


def test_nodes_tell_when_they_come_and_go(database: Database) -> None:
    node = a_node()
    with database.write() as session:
        add(session, node)
    with database.write() as session:
        row = session.get_one(Node, node.id)
        row.ready, row.schedulable = False, False
    with database.write() as session:
        row = session.get_one(Node, node.id)
        row.ready, row.zone = True, "AZ1"
    assert [(event.kind, event.severity, event.data.get("to")) for event in told(database)] == [
        ("node.joined", "info", None),
        ("node.state_changed", "alarm", "Away"),
        ("node.schedulable_changed", "info", None),
        ("node.state_changed", "info", "Ready"),
    ]


def test_volumes_and_images_tell_their_status(database: Database) -> None:
    tenant = a_tenant()
    image, volume = an_image(status="Queued"), a_volume(tenant)
    with database.write() as session:
        add(session, tenant, image, volume)
    with database.write() as session:
        session.merge(image).status = "Error"
        session.merge(volume).status = "error"
    events = told(database)
    assert [event.kind for event in events[:2]] == ["image.created", "volume.created"]
    assert {(event.kind, event.severity) for event in events[2:]} == {
        ("image.status_changed", "warning"),
        ("volume.status_changed", "warning"),
    }


@pytest.mark.parametrize(
    ("kind", "states", "kinds"),
    [
        ("stop_instance", (TaskState.RUNNING, TaskState.SUCCEEDED), ["operation.ended"]),
        (
            "live_migrate_instance",
            (TaskState.RUNNING, TaskState.CANCELING, TaskState.CANCELED),
            ["migration.started", "migration.canceled", "operation.ended"],
        ),
        (
            "live_migrate_instance",
            (TaskState.RUNNING, TaskState.NEEDS_OPERATOR),
            ["migration.started", "alarm.operation_needs_operator"],
        ),
    ],
)
def test_operations_tell_how_they_end(
    database: Database, kind: str, states: tuple[TaskState, ...], kinds: list[str]
) -> None:
    with database.write() as session:
        session.add(Task(id="op-1", kind=kind, resource_id="ecs-1", tenant_id="1"))
    for state in states:
        with database.write() as session:
            session.get_one(Task, "op-1").state = state
    events = told(database)
    assert [event.kind for event in events] == kinds
    assert {(event.resource_type, event.resource_id, event.operation_id) for event in events} == {
        ("instance", "ecs-1", "op-1")
    }


def test_who_commits_later_is_read_later_whatever_its_id(database: Database) -> None:
    """On PostgreSQL the first writer takes the lower id and commits last; SQLite's writers queue up."""
    if database.is_sqlite:
        pytest.skip("one writer at a time")
    with database.write() as slow:
        record_event(slow, "test.told", resource_type="node", resource_id="slow")
        slow.flush()
        tell(database, "fast")
        first = told(database)
        assert [event.resource_id for event in first] == ["fast"]
    after = first[-1].position or 0
    [second] = told(database, after)
    assert second.resource_id == "slow"
    assert (second.id or 0) < (first[-1].id or 0)
    assert (second.position or 0) > after


def test_places_follow_each_other_when_two_coordinators_give_them(database: Database) -> None:
    other = Database(database.url)
    try:
        for number in range(6):
            tell(database, str(number))
            settle_events((database, other)[number % 2])
    finally:
        other.close()
    assert [event.position for event in told(database)] == [1, 2, 3, 4, 5, 6]


def test_the_order_goes_on_after_all_is_forgotten(database: Database) -> None:
    for name in ("a", "b"):
        tell(database, name)
    last = newest(database)
    with database.write() as session:
        assert delete_events(session, utc_now() + timedelta(days=1), 10) == 1
    tell(database, "c")
    assert [event.resource_id for event in told(database, last)] == ["c"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (EventFilter(), ["a", "b", "c"]),
        (EventFilter(kinds=("instance.*",)), ["a", "b"]),
        (EventFilter(kinds=("instance.created", "node.*")), ["a", "c"]),
        (EventFilter(kinds=("node_*", "*")), ["a", "b", "c"]),
        (EventFilter(resource_id="b"), ["b"]),
        (EventFilter(tenant_id="1"), ["a"]),
        (EventFilter(least=Severity.WARNING), ["b", "c"]),
        (EventFilter(least=Severity.ALARM), ["c"]),
    ],
)
def test_memory_and_database_agree_on_what_is_wanted(
    database: Database, wanted: EventFilter, expected: list[str]
) -> None:
    with database.write() as session:
        facts = (
            ("a", "instance.created", "1", Severity.INFO),
            ("b", "instance.moved", None, Severity.WARNING),
            ("c", "node.joined", None, Severity.ALARM),
        )
        for name, kind, tenant_id, severity in facts:
            record_event(session, kind, resource_type="node", resource_id=name, tenant_id=tenant_id, severity=severity)
    assert [event.resource_id for event in told(database, wanted=wanted)] == expected
    with database.read() as session:
        assert sorted(event.resource_id for event in session.exec(select(Event)) if wanted.admits(event)) == expected
