"""Scheduled tasks."""

from typing import Annotated

from fastapi import APIRouter, Query

from coordinator.api.deps import RuntimeDep, TenantUser
from coordinator.api.envelope import Envelope, success
from coordinator.api.filtering import Conditions, Orderings, equal_to, like
from coordinator.api.idempotency import IdempotentRoute
from coordinator.api.operation_header import OperationHeader
from coordinator.api.paging import PageByIndex
from coordinator.api.schemas.schedule import (
    CreateScheduleRequest,
    NewScheduleBody,
    ScheduleBody,
    ScheduleListBody,
    ScheduleRunBody,
    ScheduleRunListBody,
    UpdateScheduleRequest,
)
from coordinator.domain.listing import ListQuery
from coordinator.services import schedule as service
from coordinator.services.schedule_run import started_by

router = APIRouter(prefix="/api/ecs/v1/scheduler", tags=["scheduledtasks"], route_class=IdempotentRoute)


@router.get("", operation_id="listScheduledTasks")
def list_scheduled_tasks(
    page: PageByIndex,
    conditions: Conditions,
    orderings: Orderings,
    caller: TenantUser,
    runtime: RuntimeDep,
    enabled: Annotated[bool | None, Query(description="Whether they are run at their times.")] = None,
    scheduler_type: Annotated[str, Query(alias="schedulerType", description="What they do.")] = "",
    scheduler_id: Annotated[str, Query(alias="schedulerId", description="Id of a task.")] = "",
    scheduler_name: Annotated[
        str, Query(alias="schedulerName", max_length=255, description="Part of their names.")
    ] = "",
) -> Envelope[ScheduleListBody]:
    """Lists the caller's scheduled tasks, the newest first."""
    wanted = equal_to(enabled=enabled, schedulerType=scheduler_type, schedulerId=scheduler_id)
    query = ListQuery(page, like(schedulerName=scheduler_name) + wanted + conditions, orderings)
    listing = service.list_schedules(runtime, caller, query)
    return success(ScheduleListBody(count=listing.total, records=[ScheduleBody.of(found) for found in listing.items]))


@router.post("", operation_id="createScheduledTask")
def create_scheduled_task(
    body: CreateScheduleRequest, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[NewScheduleBody]:
    """Creates a task that starts, stops, restarts or snapshots instances at the times of a cron expression."""
    schedule_id, operations = service.create_schedule(runtime, caller, body.to_order())
    header.name(*operations)
    return success(NewScheduleBody(scheduler_id=schedule_id))


@router.get("/{scheduler_id}", operation_id="getScheduledTask")
def get_scheduled_task(scheduler_id: str, caller: TenantUser, runtime: RuntimeDep) -> Envelope[ScheduleBody]:
    """Shows a scheduled task, and when it is run next."""
    return success(ScheduleBody.of(service.get_schedule(runtime, caller, scheduler_id)))


@router.put("/{scheduler_id}", operation_id="updateScheduledTask")
def update_scheduled_task(
    scheduler_id: str, body: UpdateScheduleRequest, caller: TenantUser, runtime: RuntimeDep
) -> Envelope[None]:
    """Changes a scheduled task."""
    service.update_schedule(runtime, caller, scheduler_id, body.to_order())
    return success(None)


@router.delete("/{scheduler_id}", operation_id="deleteScheduledTask")
def delete_scheduled_task(scheduler_id: str, caller: TenantUser, runtime: RuntimeDep) -> Envelope[None]:
    """Deletes a scheduled task with the history of its runs. Operations that it began go on."""
    service.delete_schedule(runtime, caller, scheduler_id)
    return success(None)


@router.post("/{scheduler_id}/run", operation_id="runScheduledTask")
def run_scheduled_task(
    scheduler_id: str, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[ScheduleRunBody]:
    """Runs a scheduled task now, beside its times and also when it is disabled."""
    view = service.run_schedule(runtime, caller, scheduler_id)
    header.name(*started_by(view.run))
    return success(ScheduleRunBody.of(view, caller.language))


@router.get("/{scheduler_id}/runs", operation_id="listScheduledTaskRuns")
def list_scheduled_task_runs(
    scheduler_id: str,
    page: PageByIndex,
    conditions: Conditions,
    orderings: Orderings,
    caller: TenantUser,
    runtime: RuntimeDep,
) -> Envelope[ScheduleRunListBody]:
    """Lists the runs of a scheduled task that are kept, the newest first, with what came of each instance."""
    listing = service.list_runs(runtime, caller, scheduler_id, ListQuery(page, conditions, orderings))
    records = [ScheduleRunBody.of(view, caller.language) for view in listing.items]
    return success(ScheduleRunListBody(count=listing.total, records=records))
