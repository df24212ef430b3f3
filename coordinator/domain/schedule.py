"""Scheduled tasks: what they do, and what came of it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ScheduleAction(StrEnum):
    """What is done with each instance; the names are the API's."""

    START = "startEcs"
    STOP = "stopEcs"
    RESTART = "restartEcs"
    HIBERNATE = "hibernateEcs"
    SNAPSHOT = "snapshotEcs"


class RunTrigger(StrEnum):
    """Why a run began."""

    SCHEDULE = "schedule"
    # Asked for by whoever created the task, or by hand.
    REQUEST = "request"


class RunState(StrEnum):
    """What came of a run when it was due. How its operations end, those tell."""

    # An operation for each instance.
    STARTED = "Started"
    # For some of them.
    PARTLY_STARTED = "PartlyStarted"
    # For none.
    REFUSED = "Refused"
    # Nobody was there when it was due, and it was too late afterwards.
    MISSED = "Missed"


@dataclass(frozen=True, slots=True)
class RunResult:
    """What came of a run for one instance: an operation, or the error that it was refused with."""

    ecs_id: str
    operation_id: str = ""
    code: str = ""
    message_en: str = ""
    message_zh: str = ""


@dataclass(frozen=True, slots=True)
class ScheduleOrder:
    """What a scheduled task shall be. None: as it was, or the default. Empty ids mean "not given"."""

    name: str
    ecs_ids: tuple[str, ...]
    cron_expression: str
    time_zone: str | None = None
    enabled: bool | None = None
    # The task does nothing any more after this moment; `datetime.max` for one that never ends.
    expires_at: datetime | None = None
    tenant_id: str = ""
    department_id: str = ""
    resource_group_id: str = ""
    action: ScheduleAction = ScheduleAction.START
    starts_now: bool = False
