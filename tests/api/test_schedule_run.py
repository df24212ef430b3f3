"""What is due is run, once: whoever leads, wherever it is interrupted, and however late it is."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import Session

from coordinator.domain.clock import utc_now
from coordinator.domain.instance import InstanceStatus
from coordinator.runtime import Runtime
from coordinator.services import schedule_run
from coordinator.services.schedule_run import ScheduleSweep, run_due
from coordinator.store.database import Database
from coordinator.store.tables import Event, Instance, Schedule, ScheduleRun, Task
from tests.api.client import Api
from tests.api.cloud import INSTANCES, Cloud
from tests.api.test_schedule import SCHEDULER, a_change, create, put
from tests.database import BOTH_DATABASES
from tests.lab.waiting import wait_until
from tests.scripted_agent import at_work

START = datetime(2026, 3, 2, 12, 0, 30, tzinfo=UTC)
EVERY_TEN_MINUTES = "*/10 * * * *"


class Clock:
    """The time, which tests turn."""

    def __init__(self) -> None:
        self.at = START

    def __call__(self) -> datetime:
        return self.at

    def turn(self, hour: int, minute: int, second: int = 0, day: int = 2) -> None:
        """To that time of the day on which tests begin, or of another one."""
        self.at = datetime(2026, 3, day, hour, minute, second, tzinfo=UTC)


@pytest.fixture
def clock(cloud: Cloud) -> Clock:
    made = Clock()
    cloud.runtime.now = made
    return made


@pytest.fixture
def sweep(cloud: Cloud, clock: Clock) -> ScheduleSweep:
    return ScheduleSweep(cloud.runtime)


@contextmanager
def another_coordinator(cloud: Cloud) -> Iterator[Runtime]:
    """A second process on the same database."""
    runtime = cloud.runtime
    database = Database(runtime.database.url)
    yield Runtime(runtime.settings, database, runtime.secrets, runtime.agents, now=runtime.now)
    database.close()


def runs(cloud: Cloud) -> list[tuple[str, str]]:
    """When runs were due, and what came of them, the oldest first."""
    rows = sorted(cloud.rows(ScheduleRun), key=lambda row: row.id)
    return [(row.due_at.strftime("%H:%M"), str(row.state)) for row in rows]


def next_of(cloud: Cloud) -> str:
    """When the only task is due next."""
    [row] = cloud.rows(Schedule)
    return row.next_at.strftime("%d %H:%M") if row.next_at else ""


def settle(cloud: Cloud) -> None:
    """What was begun has ended, and the instances run."""
    for instance in cloud.rows(Instance):
        cloud.change(instance, status=InstanceStatus.RUNNING, task_id=None)


def test_what_is_due_is_run_once(customer: Api, cloud: Cloud, clock: Clock, sweep: ScheduleSweep) -> None:
    woken = []
    cloud.runtime.wake_tasks = lambda: woken.append(True)
    ecs_id = put(cloud)
    schedule_id = create(customer, cloud, ecs_id, cronExpression=EVERY_TEN_MINUTES)
    woken.clear()
    clock.turn(12, 9, 59)
    assert (sweep(), next_of(cloud), woken) == ([], "02 12:10", [])
    clock.turn(12, 10)
    assert (sweep(), woken) == ([schedule_id], [True])
    assert (sweep(), next_of(cloud)) == ([], "02 12:20")
    [task] = cloud.rows(Task)
    assert (task.kind, task.resource_id, task.tenant_id) == ("restart_instance", ecs_id, cloud.tenant.id)
    assert runs(cloud) == [("12:10", "Started")]
    clock.turn(12, 20, 1)
    settle(cloud)
    assert sweep() == [schedule_id]
    assert runs(cloud) == [("12:10", "Started"), ("12:20", "Started")]
    told = [row for row in cloud.rows(Event) if row.kind == "schedule.ran"]
    assert [(row.resource_id, row.tenant_id, row.severity) for row in told] == [
        (schedule_id, cloud.tenant.id, "info")
    ] * 2


def test_each_action_begins_its_operation(customer: Api, cloud: Cloud, clock: Clock, sweep: ScheduleSweep) -> None:
    for kind, status in (("startEcs", "Stopped"), ("stopEcs", "Running"), ("restartEcs", "Running")):
        create(customer, cloud, put(cloud, InstanceStatus(status)), schedulerType=kind, cronExpression="0 13 * * *")
    clock.turn(13, 0)
    assert len(sweep()) == 3
    begun = {task.kind: task.args for task in cloud.rows(Task)}
    assert begun.keys() == {"start_instance", "stop_instance", "restart_instance"}
    # Nobody is there to be asked: guests are never forced.
    assert [begun[kind]["force"] for kind in ("stop_instance", "restart_instance")] == [False, False]


def test_what_refuses_is_reported_and_holds_up_nobody(
    customer: Api, cloud: Cloud, clock: Clock, sweep: ScheduleSweep
) -> None:
    good, locked, deleted, off = put(cloud), put(cloud), put(cloud), put(cloud)
    schedule_id = create(customer, cloud, locked, deleted, off, good, cronExpression=EVERY_TEN_MINUTES)
    rows = {row.ecs_id: row for row in cloud.rows(Instance)}
    cloud.change(rows[locked], is_locked=True)
    cloud.change(rows[deleted], deleted_at=utc_now())
    cloud.change(rows[off], status=InstanceStatus.STOPPED)
    clock.turn(12, 10)
    sweep()
    [run] = customer.ok("GET", f"{SCHEDULER}/{schedule_id}/runs")["records"]
    assert run["state"] == "PartlyStarted"
    results = {result["ecsId"]: result for result in run["results"]}
    assert [ecs_id for ecs_id, result in results.items() if result["operationId"]] == [good]
    assert (results[locked]["code"], "locked" in results[locked]["message"]) == ("ECS.OperationDenied.Identity", True)
    assert (results[deleted]["code"], deleted in results[deleted]["message"]) == ("ECS.DBGet.NoData", True)
    assert results[off]["code"] == "ECS.InvalidParameter.Status.NotSupported"
    [told] = [row for row in cloud.rows(Event) if row.kind == "schedule.ran"]
    assert (told.severity, told.data["refused"]) == ("warning", [locked, deleted, off])


def test_a_run_that_is_interrupted_is_there_whole_or_not_at_all(
    customer: Api, cloud: Cloud, clock: Clock, sweep: ScheduleSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(customer, cloud, put(cloud), put(cloud), cronExpression=EVERY_TEN_MINUTES)
    clock.turn(12, 10)

    def die(*_: Any, **__: Any) -> None:
        raise SystemExit("killed")

    # After the first operation, after the last, and right before the commit.
    for place in ("_begin", "_keep", "next_due"):
        with monkeypatch.context() as patched:
            original, calls = getattr(schedule_run, place), list[int]()

            def die_later(*args: Any, original: Any = original, calls: list[int] = calls, **named: Any) -> Any:
                calls.append(1)
                done = original(*args, **named)
                return done if len(calls) < 2 and original.__name__ == "_begin" else die()

            patched.setattr(schedule_run, place, die_later)
            with pytest.raises(SystemExit):
                sweep()
        assert (runs(cloud), cloud.rows(Task), next_of(cloud)) == ([], [], "02 12:10"), place
        assert {row.task_id for row in cloud.rows(Instance)} == {None}
    # Whoever comes next does all of it.
    assert len(ScheduleSweep(cloud.runtime)()) == 1
    assert (runs(cloud), len(cloud.rows(Task)), next_of(cloud)) == ([("12:10", "Started")], 2, "02 12:20")
    assert ScheduleSweep(cloud.runtime)() == []


def test_a_task_that_fails_holds_up_no_other(
    customer: Api, cloud: Cloud, clock: Clock, sweep: ScheduleSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = create(customer, cloud, put(cloud), schedulerName="first", cronExpression="5 12 * * *")
    second = create(customer, cloud, put(cloud), schedulerName="second", cronExpression="6 12 * * *")
    clock.turn(12, 7)

    def run_or_fail(session: Session, runtime: Runtime, schedule_id: str) -> bool:
        if schedule_id == first:
            raise RuntimeError("injected")
        return run_due(session, runtime, schedule_id)

    with monkeypatch.context() as patched:
        patched.setattr(schedule_run, "run_due", run_or_fail)
        assert sweep() == [second]
    # Not each second, and its log with it.
    assert sweep() == []
    clock.turn(12, 8)
    assert sweep() == [first]


@BOTH_DATABASES
def test_of_several_that_look_at_once_one_runs_it(customer: Api, cloud: Cloud, clock: Clock) -> None:
    schedule_id = create(customer, cloud, put(cloud), cronExpression=EVERY_TEN_MINUTES)
    clock.turn(12, 10)
    outcomes: list[bool] = []
    start = threading.Barrier(4)

    def look() -> None:
        with another_coordinator(cloud) as other:
            start.wait(60)
            # As if each of them took itself for the leader.
            with other.database.write() as session:
                outcomes.append(run_due(session, other, schedule_id))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(outcomes) == [False, False, False, True]
    assert (runs(cloud), len(cloud.rows(Task))) == ([("12:10", "Started")], 1)


def test_another_coordinator_goes_on_where_the_leader_was(customer: Api, cloud: Cloud, clock: Clock) -> None:
    if cloud.runtime.database.is_sqlite:
        pytest.skip("one coordinator has it for itself")
    schedule_id = create(customer, cloud, put(cloud), cronExpression=EVERY_TEN_MINUTES)
    with another_coordinator(cloud) as leader:
        clock.turn(12, 10)
        assert ScheduleSweep(leader)() == [schedule_id]
        settle(cloud)
        clock.turn(12, 20)
        assert ScheduleSweep(cloud.runtime)() == []
    # PostgreSQL notices a moment later that the leader is gone.
    wait_until(lambda: ScheduleSweep(cloud.runtime)() == [schedule_id], "the other one runs it")
    assert runs(cloud) == [("12:10", "Started"), ("12:20", "Started")]


@BOTH_DATABASES
def test_sweeps_of_one_process_lead_together(cloud: Cloud) -> None:
    with another_coordinator(cloud) as other:
        answers: list[bool] = []
        threads = [threading.Thread(target=lambda: answers.append(other.database.lead())) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert answers == [True] * 8
    wait_until(cloud.runtime.database.lead, "nobody holds on to it afterwards")


def test_what_was_missed_is_caught_up_once(customer: Api, cloud: Cloud, clock: Clock, sweep: ScheduleSweep) -> None:
    create(customer, cloud, put(cloud), cronExpression=EVERY_TEN_MINUTES)
    clock.turn(14, 5)
    assert len(sweep()) == 1
    assert (runs(cloud), next_of(cloud)) == ([("12:10", "Missed"), ("14:00", "Started")], "02 14:10")
    assert (sweep(), len(cloud.rows(Task))) == ([], 1)
    [missed] = [row for row in cloud.rows(Event) if row.kind == "schedule.missed"]
    assert missed.severity == "warning"


def test_one_time_that_was_missed_is_run_late(customer: Api, cloud: Cloud, clock: Clock, sweep: ScheduleSweep) -> None:
    create(customer, cloud, put(cloud), cronExpression="30 12 * * *")
    clock.turn(13, 30)
    sweep()
    assert (runs(cloud), next_of(cloud)) == ([("12:30", "Started")], "03 12:30")


def test_what_is_too_long_ago_is_noted_as_missed(
    customer: Api, cloud: Cloud, clock: Clock, sweep: ScheduleSweep
) -> None:
    schedule_id = create(customer, cloud, put(cloud), cronExpression="30 12 * * *")
    clock.turn(13, 30, 1)
    assert sweep() == [schedule_id]
    assert (runs(cloud), next_of(cloud), cloud.rows(Task)) == ([("12:30", "Missed")], "03 12:30", [])
    [run] = customer.ok("GET", f"{SCHEDULER}/{schedule_id}/runs")["records"]
    assert (run["results"], "no coordinator ran" in run["message"]) == ([], True)
    cloud.runtime.settings.schedule_catch_up = timedelta(hours=20)
    clock.turn(8, 0, day=4)
    sweep()
    assert runs(cloud)[1:] == [("12:30", "Started")]


def test_after_its_end_a_task_does_nothing(customer: Api, cloud: Cloud, clock: Clock, sweep: ScheduleSweep) -> None:
    end = round(datetime(2026, 3, 2, 12, 25, tzinfo=UTC).timestamp() * 1000)
    path = f"{SCHEDULER}/{create(customer, cloud, put(cloud), cronExpression=EVERY_TEN_MINUTES, infectiveAt=end)}"
    clock.turn(12, 40)
    sweep()
    # The one before the end is caught up, none after it.
    assert (runs(cloud), next_of(cloud)) == ([("12:10", "Missed"), ("12:20", "Started")], "")
    assert (customer.ok("GET", path)["executeAt"], sweep()) == (0, [])


def test_what_was_due_while_it_was_disabled_is_not_run(
    customer: Api, cloud: Cloud, clock: Clock, sweep: ScheduleSweep
) -> None:
    ecs_id = put(cloud)
    schedule_id = create(customer, cloud, ecs_id, cronExpression=EVERY_TEN_MINUTES, enabled=False)
    path = f"{SCHEDULER}/{schedule_id}"
    clock.turn(12, 15)
    assert sweep() == []
    customer.ok("PUT", path, a_change(ecs_id, cronExpression=EVERY_TEN_MINUTES, enabled=True))
    assert (sweep(), next_of(cloud)) == ([], "02 12:20")


def test_a_change_loses_no_time_that_is_due_unless_it_changes_the_times(
    customer: Api, cloud: Cloud, clock: Clock, sweep: ScheduleSweep
) -> None:
    ecs_id, other = put(cloud), put(cloud)
    path = f"{SCHEDULER}/{create(customer, cloud, ecs_id, cronExpression=EVERY_TEN_MINUTES)}"
    clock.turn(12, 10)
    customer.ok("PUT", path, a_change(other, cronExpression=EVERY_TEN_MINUTES, schedulerName="renamed"))
    sweep()
    assert [task.resource_id for task in cloud.rows(Task)] == [other]
    clock.turn(12, 20)
    customer.ok("PUT", path, a_change(ecs_id, cronExpression="0 15 * * *"))
    assert (sweep(), next_of(cloud)) == ([], "02 15:00")


def test_a_clock_that_is_turned_back_runs_nothing_twice(
    customer: Api, cloud: Cloud, clock: Clock, sweep: ScheduleSweep
) -> None:
    ecs_id = put(cloud)
    path = f"{SCHEDULER}/{create(customer, cloud, ecs_id, cronExpression=EVERY_TEN_MINUTES)}"
    clock.turn(12, 10)
    sweep()
    settle(cloud)
    clock.turn(12, 5)
    assert sweep() == []
    # A change computes the next time anew.
    customer.ok("PUT", path, a_change(ecs_id, cronExpression="10 12 * * *"))
    clock.turn(12, 10)
    sweep()
    assert (runs(cloud), next_of(cloud)) == ([("12:10", "Started")], "03 12:10")


def test_only_so_many_runs_are_kept(customer: Api, cloud: Cloud, clock: Clock, sweep: ScheduleSweep) -> None:
    cloud.runtime.settings.schedule_history = 3
    schedule_id = create(customer, cloud, put(cloud), cronExpression=EVERY_TEN_MINUTES)
    other = create(customer, cloud, put(cloud), cronExpression="0 0 1 1 *", startNow=True)
    for minute in (10, 20, 30, 40, 50):
        clock.turn(12, minute)
        sweep()
        settle(cloud)
    listed = customer.ok("GET", f"{SCHEDULER}/{schedule_id}/runs?pageSize=2")
    assert [run["dueAt"][11:16] for run in listed["records"]] == ["12:50", "12:40"]
    assert listed["count"] == 3
    narrowed = customer.ok("GET", f"{SCHEDULER}/{schedule_id}/runs?filter=dueAt:lt:2026-03-02T12:45:00Z")
    assert narrowed["count"] == 2
    assert customer.ok("GET", f"{SCHEDULER}/{other}/runs?filter=trigger:eq:request|state:eq:started")["count"] == 1
    for query in ("pageSize=0", "filter=nobody:eq:1", "filter=dueAt:gt:soon"):
        assert customer.refused("GET", f"{SCHEDULER}/{schedule_id}/runs?{query}").code == "ECS.InvalidParameter"


def test_the_clocks_of_the_zone_are_turned(customer: Api, cloud: Cloud, clock: Clock, sweep: ScheduleSweep) -> None:
    create(customer, cloud, put(cloud), cronExpression="30 2 * * *", timeZone="Europe/Berlin")
    clock.turn(3, 0, day=28)
    sweep()
    # 02:30 does not come on the 29th: right after the gap it is 03:00, which is 01:00 UTC.
    assert next_of(cloud) == "29 01:00"
    settle(cloud)
    clock.turn(1, 0, day=29)
    sweep()
    assert (runs(cloud)[-1], next_of(cloud)) == (("01:00", "Started"), "30 00:30")


def test_what_a_run_began_is_followed_to_its_end(customer: Api, cloud: Cloud, tmp_path: Path) -> None:
    with at_work(cloud.runtime, cloud.node, tmp_path / "pki"):
        ecs_id = cloud.create(customer)
        schedule_id = create(customer, cloud, ecs_id, schedulerType="stopEcs", cronExpression="* * * * *")
        cloud.runtime.now = lambda: utc_now() + timedelta(minutes=1)
        assert ScheduleSweep(cloud.runtime)() == [schedule_id]
        path = f"{SCHEDULER}/{schedule_id}/runs"

        def has_ended() -> bool:
            [result] = customer.ok("GET", path)["records"][0]["results"]
            return bool(result["operationState"] == "Succeeded")

        wait_until(has_ended, "the operation succeeds")
        assert customer.ok("GET", f"{INSTANCES}/{ecs_id}")["status"] == "Stopped"
