"""How a kind of task is declared. Data, not replayed code: see the package README."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlmodel import Session

from coordinator.runtime import Runtime

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step found out, and the rows that it changes: both are committed in one transaction."""

    result: JsonObject = field(default_factory=dict)
    apply: Callable[[Session], None] | None = None


@dataclass(frozen=True, slots=True)
class StepContext:
    """What a step may use. `args` never change; `results` are those of the steps before, by name."""

    task_id: str
    args: Mapping[str, Any]
    results: Mapping[str, JsonObject]
    runtime: Runtime
    # Awaited with a percentage of this step (0-100) and a short text; throttled, may be called often.
    report_progress: Callable[[int, str], Awaitable[None]]
    # Whether cancellation was asked for: for steps that settle it themselves.
    is_cancel_requested: Callable[[], bool]


class StepCanceled(Exception):
    """Raised by a step that settles cancellation: it did not happen, because somebody wanted it so."""


class StepDeferred(Exception):
    """Raised by a step that cannot begin yet. The task is let go and tried again; nothing counts as failed."""

    def __init__(self, message: str, delay_seconds: float) -> None:
        super().__init__(message)
        self.message = message
        self.delay_seconds = delay_seconds


@dataclass(frozen=True, slots=True)
class Step:
    """One idempotent act. `do` and `undo` run at least once; `undo` tolerates that `do` half-acted or never ran.

    `before` changes rows together with the intent (statuses such as Starting), in the transaction before the act.
    A step past `point_of_no_return` cannot be cancelled, and its failure is not undone. One that `settles_cancellation`
    is not interrupted: it looks at `is_cancel_requested`, also where it is taken over, and raises StepCanceled; when it
    ends well instead, it was the point of no return.
    """

    name: str
    do: Callable[[StepContext], Awaitable[StepResult]]
    undo: Callable[[StepContext], Awaitable[StepResult]] | None = None
    before: Callable[[Session, Mapping[str, Any]], None] | None = None
    weight: int = 1
    timeout_seconds: float = 600.0
    point_of_no_return: bool = False
    settles_cancellation: bool = False
    # Patience with transient failures of `do`, if it is not the kind's.
    retry_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a task ended without success."""

    step: str
    code: str
    message: str
    canceled: bool = False


@dataclass(frozen=True, slots=True)
class TaskKind:
    """A kind of task.

    `check` is read-only and runs in the transaction that submits the task: it raises a CoordinatorError when the
    operation makes no sense. `on_success` and `on_failure` run in the transaction that ends the task (failure: after
    everything was undone).
    """

    name: str
    steps: tuple[Step, ...]
    check: Callable[[Session, Mapping[str, Any]], None]
    on_success: Callable[[Session, Mapping[str, Any]], None]
    on_failure: Callable[[Session, Mapping[str, Any], Failure], None]
    schema_version: int = 1
    # Tasks that an older program made, and this one goes on with: its first steps are theirs.
    former_versions: frozenset[int] = frozenset()
    # How long transient failures (a node that is away) are retried before the step counts as failed.
    retry_seconds: float = 600.0
