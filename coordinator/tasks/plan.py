"""What a task does next: pure decisions on the states of its steps."""

from collections.abc import Sequence
from dataclasses import dataclass

from coordinator.domain.task import StepPhase, StepState, TaskState
from coordinator.store.tables.task import Task, TaskStep
from coordinator.tasks.model import TaskKind


@dataclass(frozen=True, slots=True)
class Act:
    """Do or undo the step with this number."""

    seq: int
    phase: StepPhase


@dataclass(frozen=True, slots=True)
class End:
    """Nothing is left to do."""

    state: TaskState


def next_act(kind: TaskKind, task: Task, steps: Sequence[TaskStep]) -> Act | End:
    """The next act of `task`; the same for the same states, whoever asks."""
    if is_unwinding(kind, task, steps):
        return _next_undo(kind, task, steps)
    for step in steps:
        if step.state != StepState.DONE:
            return Act(step.seq, StepPhase.DO)
    return End(TaskState.SUCCEEDED)


def is_unwinding(kind: TaskKind, task: Task, steps: Sequence[TaskStep]) -> bool:
    """Whether the task goes backwards: a step failed, or it was cancelled while it still could be."""
    if any(step.phase == StepPhase.UNDO or step.state == StepState.FAILED for step in steps):
        return True
    is_complete = all(step.state == StepState.DONE for step in steps)
    is_settling = any(is_settling_cancellation(kind, step) for step in steps)
    return task.cancel_requested and not is_complete and not is_settling and not is_past_return(kind, steps)


def is_settling_cancellation(kind: TaskKind, step: TaskStep) -> bool:
    """Whether the step is under way, and it is the one to say what a cancellation comes to."""
    return _settles(kind, step, StepState.RUNNING)


def is_past_return(kind: TaskKind, steps: Sequence[TaskStep]) -> bool:
    """Whether a step that marks the point of no return has begun, or one that settles cancellation ended well."""
    return any(
        (kind.steps[step.seq].point_of_no_return and step.started_at is not None)
        or _settles(kind, step, StepState.DONE)
        for step in steps
    )


def progress_percent(kind: TaskKind, steps: Sequence[TaskStep], running_percent: int = 0) -> int:
    """How far the task is, by the weights of its steps; `running_percent` is that of the running one."""
    total = sum(step.weight for step in kind.steps) or 1
    done = 0.0
    for step in steps:
        weight = kind.steps[step.seq].weight
        if step.state == StepState.DONE:
            done += weight
        elif step.state == StepState.RUNNING:
            done += weight * running_percent / 100
    return int(100 * done / total)


def _settles(kind: TaskKind, step: TaskStep, state: StepState) -> bool:
    return kind.steps[step.seq].settles_cancellation and (step.phase, step.state) == (StepPhase.DO, state)


def _next_undo(kind: TaskKind, task: Task, steps: Sequence[TaskStep]) -> Act | End:
    if not is_past_return(kind, steps):
        for step in reversed(steps):
            if step.phase == StepPhase.UNDO and step.state == StepState.FAILED:
                return End(TaskState.NEEDS_OPERATOR)
            if _is_to_undo(kind, step):
                return Act(step.seq, StepPhase.UNDO)
    return End(TaskState.FAILED if task.error_code else TaskState.CANCELED)


def _is_to_undo(kind: TaskKind, step: TaskStep) -> bool:
    if kind.steps[step.seq].undo is None:
        return False
    return step.state != StepState.DONE if step.phase == StepPhase.UNDO else step.started_at is not None
