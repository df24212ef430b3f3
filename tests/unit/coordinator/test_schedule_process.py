"""A whole coordinator runs what is due, and after its death another one goes on."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlmodel import select

from coordinator.domain.clock import utc_now
from coordinator.domain.instance import InstanceStatus
from coordinator.domain.schedule import ScheduleAction
from coordinator.store.database import Database
from coordinator.store.tables import Schedule, ScheduleRun, Task
from tests.builders import a_flavor, a_flavor_type, a_node, a_tenant, add, an_instance
from tests.database import migrated
from tests.installation import Installation
from tests.lab.waiting import wait_until


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


@pytest.fixture
def database(installation: Installation) -> Iterator[Database]:
    """What the coordinators work on, with a task that was due a minute ago, and every day at this time."""
    installation.state_dir.mkdir()
    tenant, flavor_type, node = a_tenant(), a_flavor_type(), a_node()
    flavor = a_flavor(flavor_type)
    instance = an_instance(tenant, flavor, node=node, status=InstanceStatus.RUNNING)
    due_at = utc_now().replace(second=0, microsecond=0) - timedelta(minutes=1)
    schedule = Schedule(
        id="schd-of-the-test",
        name="daily",
        tenant_id=tenant.id,
        department_id="",
        action=ScheduleAction.RESTART,
        ecs_ids=[instance.ecs_id],
        cron_expression=f"{due_at.minute} {due_at.hour} * * *",
        time_zone="UTC",
        next_at=due_at,
    )
    with migrated(f"sqlite:///{installation.state_dir / 'coordinator.db'}") as opened:
        with opened.write() as session:
            add(session, tenant, flavor_type, flavor, node)
            add(session, instance, schedule)
        yield opened


def read(database: Database) -> tuple[Schedule, list[ScheduleRun], list[Task]]:
    with database.read() as session:
        tasks = session.exec(select(Task).where(Task.kind == "restart_instance")).all()
        return session.exec(select(Schedule)).one(), list(session.exec(select(ScheduleRun))), list(tasks)


def test_a_coordinator_that_is_killed_has_run_it_once(installation: Installation, database: Database) -> None:
    due_at = read(database)[0].next_at
    assert due_at is not None
    with installation.serving():
        wait_until(lambda: bool(read(database)[1]), "it is run", timeout_seconds=90)
    # It was killed; the next one finds nothing that is due.
    with installation.serving() as process:
        installation.wait_until_ready(process)
        # A sweep looks every second, and one of them is within this time.
        token = installation.run("create-token", "--role", "operator", "--name", "admin").stdout.strip()
        shown = installation.get("/api/ecs/v1/scheduler/schd-of-the-test/runs", token)
    schedule, runs, tasks = read(database)
    assert (len(runs), len(tasks), shown["count"]) == (1, 1, 1)
    assert runs[0].due_at == due_at
    assert runs[0].results[0]["operation_id"] == tasks[0].id
    assert schedule.next_at == due_at + timedelta(days=1)
