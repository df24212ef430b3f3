"""`nwctl schedule`: what is done with instances again and again, and what came of it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from nwctl.binding import command, noun
from nwctl.command.instance import INSTANCE, References
from nwctl.command.tenant import find_owner
from nwctl.error import OperationFailed, UsageError
from nwctl.option import Page, Waiting
from nwctl.output import Column, epoch, moment, plain, status
from nwctl.resource import Entry, Resource
from nwctl.session import Session

SCHEDULE = Resource(
    noun="scheduled task",
    path="/api/ecs/v1/scheduler",
    id_field="schedulerId",
    id_pattern="schd-[a-z0-9]{14}",
    name_field="schedulerName",
    rows_field="records",
    total_field="count",
    page_parameters=("pageIndex", "pageSize"),
    columns=(
        Column("ID", "schedulerId"),
        Column("Name", "schedulerName"),
        Column("Action", "schedulerType"),
        Column("Cron", "cronExpression"),
        Column("Zone", "timeZone"),
        Column("Enabled", "enabled"),
        Column("Next run", "executeAt", epoch),
    ),
    details=(
        Column("Instances", "schedulerObject", lambda ids: plain(", ".join(ids or ()))),
        Column("Ends", "infectiveAt", epoch),
        Column("Tenant", "tenantName"),
        Column("Created", "createdAt", moment),
        Column("Updated", "updatedAt", moment),
    ),
)
RUNS = (
    Column("Due", "dueAt", moment),
    Column("Run", "at", moment),
    Column("Trigger", "trigger"),
    Column("State", "state", status),
    Column("Instance", "ecsId"),
    Column("Operation", "operationId"),
    Column("Ended", "operationState", lambda state: status(state) if state else plain(None)),
    Column("Reason", "message"),
)


class Action(StrEnum):
    """What is done with each instance."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"
    HIBERNATE = "hibernate"
    SNAPSHOT = "snapshot"


app = noun("schedule", "Scheduled tasks: what is done with instances again and again.")
Reference = Annotated[str, typer.Argument(metavar="TASK", help="Id or name.", autocompletion=SCHEDULE.complete)]
Until = Annotated[str, typer.Option(metavar="TIME", help="When it ends, such as 2027-01-31T18:00; `never`.")]


@command(app, "list")
def list_schedules(session: Session, page: Page) -> None:
    """List the scheduled tasks, and when each is run next."""
    session.show_list(SCHEDULE, page)


@command(app, "show")
def show_schedule(session: Session, schedule: Reference) -> None:
    """Show one scheduled task."""
    session.show(SCHEDULE, SCHEDULE.find(session.client, schedule))


@dataclass(frozen=True)
class Times:
    """When it is run."""

    cron: Annotated[str, typer.Option(help="Minute, hour, day of month, month, day of week.")]
    zone: Annotated[str, typer.Option(help="Time zone, such as Europe/Berlin; by default the cloud's.")] = ""
    until: Until = "never"
    disabled: Annotated[bool, typer.Option("--disabled", help="Do not run it yet.")] = False
    now: Annotated[bool, typer.Option("--now", help="Also run it once at once.")] = False

    def body(self) -> dict[str, Any]:
        """Its part of the request."""
        return {
            "cronExpression": self.cron,
            "infectiveAt": milliseconds(self.until),
            "enabled": not self.disabled,
            "startNow": self.now,
            **({"timeZone": self.zone} if self.zone else {}),
        }


@command(app, "create")
def create_schedule(
    session: Session,
    instances: References,
    name: Annotated[str, typer.Option(help="1 to 127 characters.")],
    action: Annotated[Action, typer.Option(help="What is done.")],
    times: Times,
    tenant: Annotated[str, typer.Option(help="Owner, for operators, id or name.")] = "",
    department: Annotated[str, typer.Option(help="By default the tenant's first.")] = "",
) -> None:
    """Start, stop or restart instances at the times of a cron expression."""
    tenant_id, department_id = find_owner(session.client, tenant, department)
    body = {
        "schedulerName": name,
        "schedulerType": f"{action}Ecs",
        "schedulerObject": [INSTANCE.find_id(session.client, instance) for instance in instances],
        "tenantId": tenant_id,
        "departmentId": department_id,
    }
    data = session.client.create(SCHEDULE.path, body | times.body()).data
    session.report(data, f"Created {data['records']}")


@command(app, "set")
def set_schedule(
    session: Session,
    schedule: Reference,
    name: Annotated[str, typer.Option(help="A new name.")] = "",
    cron: Annotated[str, typer.Option(help="A new cron expression.")] = "",
    zone: Annotated[str, typer.Option(help="A new time zone.")] = "",
    until: Until = "",
    instances: Annotated[
        list[str] | None, typer.Option("--instance", help="Instances instead of those from before.")
    ] = None,
) -> None:
    """Change a scheduled task; what is not given stays."""
    given: dict[str, Any] = {"schedulerName": name, "cronExpression": cron, "timeZone": zone}
    if instances:
        given["schedulerObject"] = [INSTANCE.find_id(session.client, instance) for instance in instances]
    changes = {field: value for field, value in given.items() if value}
    if until:
        changes["infectiveAt"] = milliseconds(until)
    if not changes:
        raise UsageError("give at least one change")
    change(session, schedule, changes, "Changed")


@command(app, "enable")
def enable_schedule(session: Session, schedule: Reference) -> None:
    """Run a scheduled task at its times from now on."""
    change(session, schedule, {"enabled": True}, "Enabled")


@command(app, "disable")
def disable_schedule(session: Session, schedule: Reference) -> None:
    """Do not run a scheduled task until it is enabled again."""
    change(session, schedule, {"enabled": False}, "Disabled")


@command(app, "run")
def run_schedule(session: Session, schedule: Reference, waiting: Waiting) -> None:
    """Run a scheduled task now, beside its times."""
    schedule_id = SCHEDULE.find_id(session.client, schedule)
    answer = session.client.change("POST", f"{SCHEDULE.at(schedule_id)}/run")
    session.conclude(answer, waiting, f"Ran {schedule_id}")
    refusals = [f"{result['ecsId']}: {result['message']}" for result in answer.data["results"] if result["code"]]
    if refusals:
        raise OperationFailed("\n".join(refusals))


@command(app, "runs")
def list_runs(
    session: Session,
    schedule: Reference,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Runs, the newest first.")] = 20,
) -> None:
    """List what came of a scheduled task's runs, for each instance."""
    path = f"{SCHEDULE.at(SCHEDULE.find_id(session.client, schedule))}/runs"
    data = session.client.get(path, {"pageSize": limit}).data
    rows = [run | result for run in data["records"] for result in run["results"] or [{"message": run["message"]}]]
    session.show_rows(RUNS, rows, data)


@command(app, "delete")
def delete_schedule(session: Session, schedule: Reference) -> None:
    """Delete a scheduled task with its history; operations that it began go on."""
    schedule_id = SCHEDULE.find_id(session.client, schedule)
    session.report(session.client.change("DELETE", SCHEDULE.at(schedule_id)).data, f"Deleted {schedule_id}")


def change(session: Session, reference: str, changes: dict[str, Any], done: str) -> None:
    """PUTs the task as it is, with these changes: the API wants its name, times and instances each time."""
    found: Entry = SCHEDULE.find(session.client, reference)
    same = {name: found[name] for name in ("schedulerName", "schedulerObject", "cronExpression")}
    answer = session.client.change("PUT", SCHEDULE.at(found["schedulerId"]), same | changes)
    session.report(answer.data, f"{done} {found['schedulerId']}")


def milliseconds(text: str) -> int:
    """Since 1970, of a time in this machine's zone unless it says another; 0 for `never`."""
    if text == "never":
        return 0
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"{text!r} is no time such as 2027-01-31T18:00, nor `never`") from None
