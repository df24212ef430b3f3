"""Scheduled tasks: what is done with instances again and again, as people keep them. `schedule_run` runs them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import structlog
from sqlmodel import Session

from coordinator.domain.caller import Caller
from coordinator.domain.cron import CronInvalid, CronTimes, ZoneUnknown, parse_cron
from coordinator.domain.identifier import Prefix
from coordinator.domain.listing import Listing, ListQuery
from coordinator.domain.schedule import RunTrigger, ScheduleOrder
from coordinator.domain.task import TaskState
from coordinator.errors import ParameterInvalid, QuotaExceeded, ResourceNotFound
from coordinator.runtime import Runtime
from coordinator.services.due_time import next_due
from coordinator.services.owner import Owner, find_owner
from coordinator.services.schedule_run import begin_run, started_by
from coordinator.store.queries import schedule as queries
from coordinator.store.queries.instance import list_instances_by_id
from coordinator.store.queries.schedule import ScheduleRow
from coordinator.store.tables import Department, Schedule, ScheduleRun, Tenant

# What the API calls the end of tasks that have none; nothing later can be asked for.
NEVER_EXPIRES: Final = datetime(9999, 12, 31, 15, 59, 59, tzinfo=UTC)
_MAXIMUM_NAME: Final = 127
_MAXIMUM_OBJECTS: Final = 100

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RunView:
    """A run, and the states of those of its operations that are still known, by their ids."""

    run: ScheduleRun
    states: Mapping[str, TaskState]


def create_schedule(runtime: Runtime, caller: Caller, order: ScheduleOrder) -> tuple[str, Sequence[str]]:
    """A new task; answers its id, and the operations of the run that `starts_now` asks for."""
    _check_order(order)
    now = runtime.now()
    zone = order.time_zone or runtime.settings.schedule_time_zone
    times = _read_times(order.cron_expression, zone, now)
    with runtime.database.write() as session:
        owner = _find_owner(session, caller, order)
        _check_objects(session, order.ecs_ids, owner.tenant.id)
        _check_quota(session, runtime, owner.tenant.id)
        row = _new_row(runtime, order, owner, times)
        _settle(row, times, now)
        session.add(row)
        session.flush()
        run = begin_run(session, runtime, row, now, RunTrigger.REQUEST) if order.starts_now else None
        operations = started_by(run) if run else []
    runtime.wake_tasks()
    log.info("schedule.created", scheduleId=row.id, action=row.action, by=caller.token_id)
    return row.id, operations


def list_schedules(runtime: Runtime, caller: Caller, query: ListQuery) -> Listing[ScheduleRow]:
    """The caller's tasks, for an operator everybody's."""
    with runtime.database.read() as session:
        return queries.list_schedules(session, caller.tenant_id if caller.is_tenant else None, query)


def get_schedule(runtime: Runtime, caller: Caller, schedule_id: str) -> ScheduleRow:
    """One task."""
    with runtime.database.read() as session:
        return _find_own(session, caller, schedule_id)


def update_schedule(runtime: Runtime, caller: Caller, schedule_id: str, order: ScheduleOrder) -> None:
    """Changes what `order` says; a time that is due already stays so, unless the times themselves are changed."""
    _check_order(order)
    with runtime.database.write() as session:
        row = _lock_own(session, caller, schedule_id)
        if order.tenant_id and order.tenant_id != row.tenant_id:
            raise ParameterInvalid(
                "tenantId",
                f"the task belongs to {row.tenant_id} and stays there",
                f"任务属于租户{row.tenant_id}，不能变更",
            )
        # Some that it had may be deleted by now: who disables it shall not have to look for them.
        _check_objects(session, [ecs_id for ecs_id in order.ecs_ids if ecs_id not in row.ecs_ids], row.tenant_id)
        _change(row, order, runtime.now())
        session.add(row)
    log.info("schedule.changed", scheduleId=schedule_id, by=caller.token_id)


def _change(row: Schedule, order: ScheduleOrder, now: datetime) -> None:
    times = _read_times(order.cron_expression, order.time_zone or row.time_zone, now)
    before = (row.cron_expression, row.time_zone, row.enabled)
    row.name, row.ecs_ids = order.name, list(order.ecs_ids)
    row.cron_expression, row.time_zone = times.expression, times.zone.key
    row.enabled = row.enabled if order.enabled is None else order.enabled
    if order.expires_at is not None:
        row.expires_at = _read_expiry(order.expires_at, row.expires_at, now)
    if before != (row.cron_expression, row.time_zone, row.enabled) or not _is_pending(row, now):
        _settle(row, times, now)


def delete_schedule(runtime: Runtime, caller: Caller, schedule_id: str) -> None:
    """Deletes a task with the history of its runs; operations that it began go on."""
    with runtime.database.write() as session:
        queries.delete_schedule(session, _lock_own(session, caller, schedule_id).id)
    log.info("schedule.deleted", scheduleId=schedule_id, by=caller.token_id)


def run_schedule(runtime: Runtime, caller: Caller, schedule_id: str) -> RunView:
    """Runs a task now, beside its times and also when it is disabled."""
    with runtime.database.write() as session:
        row = _lock_own(session, caller, schedule_id)
        run = begin_run(session, runtime, row, runtime.now(), RunTrigger.REQUEST)
        states = queries.read_task_states(session, started_by(run))
    runtime.wake_tasks()
    log.info("schedule.run", scheduleId=schedule_id, state=run.state, by=caller.token_id)
    return RunView(run, states)


def list_runs(runtime: Runtime, caller: Caller, schedule_id: str, query: ListQuery) -> Listing[RunView]:
    """Runs of a task that are kept, the newest first."""
    with runtime.database.read() as session:
        _find_own(session, caller, schedule_id)
        page = queries.list_runs(session, schedule_id, query)
        states = queries.read_task_states(session, [name for run in page.items for name in started_by(run)])
    return Listing(tuple(RunView(run, states) for run in page.items), page.total)


def _new_row(runtime: Runtime, order: ScheduleOrder, owner: Owner, times: CronTimes) -> Schedule:
    now = runtime.now()
    return Schedule(
        id=runtime.identifiers.new(Prefix.SCHEDULE),
        name=order.name,
        tenant_id=owner.tenant.id,
        department_id=owner.department.id,
        resource_group_id=owner.resource_group.id if owner.resource_group else "",
        enabled=order.enabled is not False,
        action=order.action,
        ecs_ids=list(order.ecs_ids),
        cron_expression=times.expression,
        time_zone=times.zone.key,
        expires_at=_read_expiry(order.expires_at, None, now) if order.expires_at else None,
        created_at=now,
        updated_at=now,
    )


def _settle(row: Schedule, times: CronTimes, now: datetime) -> None:
    row.next_at = next_due(times, now, row.expires_at) if row.enabled else None


def _is_pending(row: Schedule, now: datetime) -> bool:
    """Whether it is due already and the sweep has not come by yet."""
    return row.next_at is not None and row.next_at <= now and (row.expires_at is None or row.next_at <= row.expires_at)


def _find_own(session: Session, caller: Caller, schedule_id: str) -> ScheduleRow:
    found = queries.find_schedule(session, schedule_id)
    if found is None or not caller.may_see(found.row.tenant_id):
        raise ResourceNotFound("scheduled task", schedule_id)
    return found


def _lock_own(session: Session, caller: Caller, schedule_id: str) -> Schedule:
    row = queries.lock_schedule(session, schedule_id)
    if row is None or not caller.may_see(row.tenant_id):
        raise ResourceNotFound("scheduled task", schedule_id)
    return row


def _find_owner(session: Session, caller: Caller, order: ScheduleOrder) -> Owner:
    """As named; without a tenant it is the department's, if the caller may see that."""
    tenant_id = order.tenant_id
    if not tenant_id:
        department = session.get(Department, order.department_id)
        if department is None or not caller.may_see(department.tenant_id):
            raise ResourceNotFound("departmentId", order.department_id)
        tenant_id = department.tenant_id
    return find_owner(session, caller, tenant_id, order.department_id, order.resource_group_id)


def _check_order(order: ScheduleOrder) -> None:
    name = order.name
    if not 1 <= len(name) <= _MAXIMUM_NAME or not name.isprintable() or name != name.strip():
        raise ParameterInvalid(
            "schedulerName",
            f"1 to {_MAXIMUM_NAME} characters, no control characters, no space at either end",
            f"长度为1到{_MAXIMUM_NAME}个字符，不能包含控制字符，首尾不能有空格",
        )
    if not 1 <= len(order.ecs_ids) <= _MAXIMUM_OBJECTS:
        raise ParameterInvalid(
            "schedulerObject", f"1 to {_MAXIMUM_OBJECTS} ids of instances", f"须为1到{_MAXIMUM_OBJECTS}个实例ID"
        )


def _check_objects(session: Session, ecs_ids: Sequence[str], tenant_id: str) -> None:
    known = {it.ecs_id for it in list_instances_by_id(session, ecs_ids) if it.tenant_id == tenant_id}
    missing = [ecs_id for ecs_id in ecs_ids if ecs_id not in known]
    if missing:
        raise ResourceNotFound("instance", ", ".join(missing))


def _check_quota(session: Session, runtime: Runtime, tenant_id: str) -> None:
    limit = runtime.settings.schedules_per_tenant
    # Two callers who take the last place come one after the other.
    session.get_one(Tenant, tenant_id, with_for_update={"key_share": True}, populate_existing=True)
    if queries.count_schedules(session, tenant_id) >= limit:
        raise QuotaExceeded(f"the tenant has {limit} scheduled tasks already", f"该租户的定时任务数量已达上限{limit}")


def _read_times(expression: str, zone: str, now: datetime) -> CronTimes:
    try:
        return parse_cron(expression, zone, now)
    except ZoneUnknown:
        raise ParameterInvalid("timeZone", f"there is no time zone {zone!r}", f"时区{zone!r}不存在") from None
    except CronInvalid as error:
        raise ParameterInvalid(
            "cronExpression",
            f"{expression!r} is no cron expression of five fields: {error}",
            f"{expression!r}不是有效的五段cron表达式",
        ) from None


def _read_expiry(wanted: datetime, present: datetime | None, now: datetime) -> datetime | None:
    """None: it never ends. Who sends back a past end that the task has already changes nothing."""
    if wanted >= NEVER_EXPIRES:
        return None
    if wanted <= now and wanted != present:
        raise ParameterInvalid("infectiveAt", f"{wanted.isoformat()} is past", f"{wanted.isoformat()}已过期")
    return wanted
