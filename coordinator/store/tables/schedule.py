"""Scheduled tasks and their runs."""

from datetime import datetime
from typing import Any

from sqlalchemy import UniqueConstraint
from sqlmodel import JSON, Field, SQLModel, Text

from coordinator.domain.schedule import RunState, RunTrigger, ScheduleAction
from coordinator.store.column import UtcDateTime
from coordinator.store.tables.base import Timestamped
from coordinator.store.tables.event import NUMBER


class Schedule(Timestamped, table=True):
    """What is done with instances again and again."""

    id: str = Field(primary_key=True, max_length=32)
    name: str = Field(max_length=127)
    tenant_id: str = Field(foreign_key="tenant.id", max_length=19, index=True)
    department_id: str = Field(max_length=19)
    resource_group_id: str = Field(default="", max_length=19)
    enabled: bool = True
    action: ScheduleAction = Field(sa_type=Text)
    ecs_ids: list[str] = Field(sa_type=JSON)
    cron_expression: str = Field(max_length=255)
    # IANA name of the zone whose clocks the expression is read by.
    time_zone: str = Field(max_length=63)
    # Nothing is done after this moment; None: it never ends.
    expires_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    # When it is due next; None: never again, or not while it is disabled.
    next_at: datetime | None = Field(default=None, sa_type=UtcDateTime, index=True)


class ScheduleRun(SQLModel, table=True):
    """One run, written together with the operations that it began."""

    __tablename__ = "schedule_run"
    # Whoever were to run the same twice would fail.
    __table_args__ = (UniqueConstraint("schedule_id", "due_at", "trigger"),)

    id: int | None = Field(default=None, primary_key=True, sa_type=NUMBER)
    schedule_id: str = Field(foreign_key="schedule.id", max_length=32)
    due_at: datetime = Field(sa_type=UtcDateTime)
    at: datetime = Field(sa_type=UtcDateTime)
    trigger: RunTrigger = Field(sa_type=Text)
    state: RunState = Field(sa_type=Text)
    # The fields of a coordinator.domain.schedule.RunResult for each instance.
    results: list[dict[str, Any]] = Field(default_factory=list, sa_type=JSON)
