"""States of durable tasks and of their steps."""

from enum import StrEnum
from typing import Final

# Of an act whose failure is transient, about, at the longest pauses between them.
ATTEMPTS_OF_AN_HOUR: Final = 240


class StepPhase(StrEnum):
    """Whether the step is being done or undone."""

    DO = "do"
    UNDO = "undo"


class StepState(StrEnum):
    """PENDING -> RUNNING -> DONE | FAILED; a step that is undone passes RUNNING and DONE again in phase UNDO."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class TaskState(StrEnum):
    """State of a task, derived from its steps and kept beside them for queries."""

    PENDING = "Pending"
    RUNNING = "Running"
    CANCELING = "Canceling"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELED = "Canceled"
    NEEDS_OPERATOR = "NeedsOperator"


FINISHED_STATES = frozenset({TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELED})
