"""Durable tasks. Intent is written before a step acts; its result is committed with the rows that it changes."""

from datetime import datetime
from typing import Any

from sqlmodel import JSON, Field, SQLModel, Text

from coordinator.domain.task import StepPhase, StepState, TaskState
from coordinator.store.column import UtcDateTime
from coordinator.store.tables.base import Timestamped


class Task(Timestamped, table=True):
    """One operation of the API; its id is the operation id."""

    id: str = Field(primary_key=True, max_length=32)
    kind: str = Field(max_length=63, index=True)
    schema_version: int = 1
    args: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    tenant_id: str | None = Field(default=None, max_length=19, index=True)
    # Id of the resource that it changes, as the API shows it.
    resource_id: str = Field(default="", max_length=63, index=True)
    state: TaskState = Field(default=TaskState.PENDING, sa_type=Text, index=True)
    progress_percent: int = 0
    message: str = Field(default="", sa_type=Text)
    error_code: str = Field(default="", max_length=127)
    error_message: str = Field(default="", sa_type=Text)
    cancel_requested: bool = False
    # Not run before that task has finished.
    after_task_id: str | None = Field(default=None, max_length=32)
    # Not run before this moment: back-off after a transient failure.
    not_before: datetime | None = Field(default=None, sa_type=UtcDateTime)
    attempts: int = 0
    # First of the transient failures that came in a row since the step last got on.
    retrying_since: datetime | None = Field(default=None, sa_type=UtcDateTime)
    lease_owner: str = Field(default="", max_length=64)
    lease_expires_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    # Increases with every take-over: a stale runner cannot commit.
    fencing: int = 0
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    request_id: str = Field(default="", max_length=36)


class TaskStep(SQLModel, table=True):
    """State of one step of one task."""

    __tablename__ = "task_step"

    task_id: str = Field(primary_key=True, foreign_key="task.id", max_length=32)
    seq: int = Field(primary_key=True)
    name: str = Field(max_length=63)
    phase: StepPhase = Field(default=StepPhase.DO, sa_type=Text)
    state: StepState = Field(default=StepState.PENDING, sa_type=Text)
    result: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    error: str = Field(default="", sa_type=Text)
    started_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class IdempotencyKey(SQLModel, table=True):
    """Answer of a creating call, to be given again for the same key within 24 hours."""

    __tablename__ = "idempotency_key"

    # Who called (token id) and the key that it sent.
    caller: str = Field(primary_key=True, max_length=64)
    key: str = Field(primary_key=True, max_length=255)
    # SHA-256 of method, path and body.
    request_hash: str = Field(max_length=64)
    # 0 while the first call is still being worked on.
    response_status: int = 0
    response_body: str = Field(default="", sa_type=Text)
    response_headers: dict[str, str] = Field(default_factory=dict, sa_type=JSON)
    created_at: datetime = Field(sa_type=UtcDateTime, index=True)
