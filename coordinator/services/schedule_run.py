"""What is due is run, once: the run, its operations and the next due time are one transaction.

Of several coordinators one does this. What was due while none ran is caught up once, unless that is too long ago.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Final

from sqlmodel import Session

from coordinator.domain.caller import Caller, Role
from coordinator.domain.cron import CronTimes, find_zone
from coordinator.domain.event import Severity
from coordinator.domain.schedule import RunResult, RunState, RunTrigger, ScheduleAction
from coordinator.domain.snapshot import MAXIMUM_SNAPSHOT_NAME, SnapshotOrder, SnapshotType
from coordinator.errors import CoordinatorError, ResourceNotFound
from coordinator.runtime import Runtime
from coordinator.services.due_time import DueSweep, last_due, next_due
from coordinator.services.instance_task import begin_task, require_unlocked
from coordinator.services.snapshot import begin_snapshot
from coordinator.store.queries import schedule as queries
from coordinator.store.queries.event import record_event
from coordinator.store.queries.instance import lock_instances
from coordinator.store.tables import Instance, Schedule, ScheduleRun
from coordinator.tasks.kinds.hibernate_instance import HIBERNATE_INSTANCE
from coordinator.tasks.kinds.restart_instance import RESTART_INSTANCE
from coordinator.tasks.kinds.start_instance import START_INSTANCE
from coordinator.tasks.kinds.stop_instance import STOP_INSTANCE
from coordinator.tasks.model import JsonObject, TaskKind

# What this cluster can do by itself. Nobody is there to be asked: guests are never forced.
_KINDS: Final[Mapping[ScheduleAction, tuple[TaskKind, JsonObject]]] = {
    ScheduleAction.START: (START_INSTANCE, {}),
    ScheduleAction.STOP: (STOP_INSTANCE, {"force": False}),
    ScheduleAction.RESTART: (RESTART_INSTANCE, {"force": False}),
    ScheduleAction.HIBERNATE: (HIBERNATE_INSTANCE, {}),
}
_SELF: Final = Caller("scheduled-task", Role.OPERATOR)


class ScheduleSweep(DueSweep):
    """The repeated look at scheduled tasks."""

    noun = "schedule"

    def find_due(self, session: Session, now: datetime) -> Sequence[str]:
        """Ids of tasks that are due."""
        return queries.find_due(session, now)

    def run_due(self, session: Session, due_id: str) -> bool:
        """Runs the task once."""
        return run_due(session, self._runtime, due_id)


def run_due(session: Session, runtime: Runtime, schedule_id: str) -> bool:
    """Runs the task if it is due, and moves it on to its next time; False when it is not due any more."""
    row = queries.lock_schedule(session, schedule_id)
    now = runtime.now()
    if row is None or not row.enabled or row.next_at is None or row.next_at > now:
        return False
    times = CronTimes(row.cron_expression, find_zone(row.time_zone))
    due_at = last_due(times, row.next_at, now, runtime.settings.schedule_catch_up, row.expires_at)
    if due_at != row.next_at:
        _note_missed(session, runtime, row, row.next_at)
    # Only a clock that was turned back can ask for the same time twice.
    if due_at and not queries.has_run(session, row.id, due_at, RunTrigger.SCHEDULE):
        begin_run(session, runtime, row, due_at, RunTrigger.SCHEDULE)
    row.next_at = next_due(times, now, row.expires_at)
    session.add(row)
    return True


def begin_run(session: Session, runtime: Runtime, row: Schedule, due_at: datetime, trigger: RunTrigger) -> ScheduleRun:
    """Begins an operation for each instance that admits it, and keeps what came of it. The caller wakes the engine."""
    found = lock_instances(session, row.ecs_ids)
    results = [_begin(session, runtime, row, ecs_id, found.get(ecs_id)) for ecs_id in row.ecs_ids]
    started = sum(bool(result.operation_id) for result in results)
    state = RunState.PARTLY_STARTED if started else RunState.REFUSED
    return _keep(
        session,
        runtime,
        row,
        ScheduleRun(
            schedule_id=row.id,
            due_at=due_at,
            at=runtime.now(),
            trigger=trigger,
            state=RunState.STARTED if started == len(results) else state,
            results=[asdict(result) for result in results],
        ),
    )


def started_by(run: ScheduleRun) -> list[str]:
    """Ids of the operations that a run began."""
    return [result["operation_id"] for result in run.results if result["operation_id"]]


def _begin(session: Session, runtime: Runtime, row: Schedule, ecs_id: str, instance: Instance | None) -> RunResult:
    try:
        if instance is None or instance.tenant_id != row.tenant_id:
            raise ResourceNotFound("instance", ecs_id)
        require_unlocked(instance)
        return RunResult(ecs_id, _act(session, runtime, row, instance))
    except CoordinatorError as error:
        return RunResult(ecs_id, code=error.code, message_en=error.message.en, message_zh=error.message.zh)


def _act(session: Session, runtime: Runtime, row: Schedule, instance: Instance) -> str:
    """The operation that does with the instance what the task is for."""
    if row.action != ScheduleAction.SNAPSHOT:
        kind, args = _KINDS[row.action]
        return begin_task(session, runtime, _SELF, kind, instance, args=args)
    moment = runtime.now().astimezone(find_zone(row.time_zone)).strftime("%Y%m%d-%H%M%S")
    name = f"{row.name[: MAXIMUM_SNAPSHOT_NAME - len(moment) - 1]}-{moment}"
    order = SnapshotOrder(name, type=SnapshotType.AUTO)
    return begin_snapshot(session, runtime, _SELF, instance, order).operation_id


def _note_missed(session: Session, runtime: Runtime, row: Schedule, since: datetime) -> None:
    if queries.has_run(session, row.id, since, RunTrigger.SCHEDULE):
        return
    run = ScheduleRun(
        schedule_id=row.id,
        due_at=since,
        at=runtime.now(),
        trigger=RunTrigger.SCHEDULE,
        state=RunState.MISSED,
    )
    _keep(session, runtime, row, run)


def _keep(session: Session, runtime: Runtime, row: Schedule, run: ScheduleRun) -> ScheduleRun:
    """Stores the run, forgets those that are too many, and tells of it."""
    session.add(run)
    session.flush()
    queries.forget_runs(session, row.id, runtime.settings.schedule_history)
    refused = [result["ecs_id"] for result in run.results if not result["operation_id"]]
    record_event(
        session,
        "schedule.missed" if run.state == RunState.MISSED else "schedule.ran",
        severity=Severity.INFO if run.state == RunState.STARTED else Severity.WARNING,
        resource_type="schedule",
        resource_id=row.id,
        tenant_id=row.tenant_id,
        data={"name": row.name, "action": row.action, "dueAt": run.due_at.isoformat(), "refused": refused},
    )
    return run
