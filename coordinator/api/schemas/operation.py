"""Operations on the wire."""

from pydantic import Field

from coordinator.api.schemas.base import AnswerModel, Moment
from coordinator.domain.task import TaskState
from coordinator.services.operation import Operation
from coordinator.store.tables import TaskStep


class OperationErrorBody(AnswerModel):
    """Why an operation did not succeed."""

    code: str
    message: str


class OperationStepBody(AnswerModel):
    """One step of an operation."""

    name: str
    phase: str = Field(description="do, or undo when the operation goes backwards.")
    state: str = Field(description="pending, running, done or failed.")
    started_at: Moment
    finished_at: Moment
    error: str = Field(description="Why it failed; empty if it did not.")

    @classmethod
    def of(cls, row: TaskStep) -> "OperationStepBody":
        return cls.model_validate(row)


class OperationBody(AnswerModel):
    """Work in progress, or how it ended."""

    operation_id: str = Field(description="Id of the operation.", examples=["op-6w0k3q9m2x5z8r1t4y7d"])
    kind: str = Field(description="What is done.", examples=["create_instance"])
    state: str = Field(description="Pending, Running, Canceling, Succeeded, Failed, Canceled or NeedsOperator.")
    resource_id: str = Field(description="Id of what it changes.")
    progress: int = Field(ge=0, le=100, description="Percent.")
    message: str = Field(description="What it is doing now.")
    error: OperationErrorBody | None
    steps: list[OperationStepBody]
    created_at: Moment
    updated_at: Moment
    finished_at: Moment
    cancelable: bool = Field(description="Asking it to stop would still have an effect.")

    @classmethod
    def of(cls, operation: Operation) -> "OperationBody":
        task = operation.task
        failed = bool(task.error_code)
        is_canceling = task.cancel_requested and task.state in (TaskState.PENDING, TaskState.RUNNING)
        return cls(
            operation_id=task.id,
            kind=task.kind,
            state=TaskState.CANCELING if is_canceling else task.state,
            resource_id=task.resource_id,
            progress=task.progress_percent,
            message=task.message,
            error=OperationErrorBody(code=task.error_code, message=task.error_message) if failed else None,
            steps=[OperationStepBody.of(step) for step in operation.steps],
            created_at=task.created_at,
            updated_at=task.updated_at,
            finished_at=task.finished_at,
            cancelable=operation.cancelable,
        )


class OperationListBody(AnswerModel):
    """One page of operations."""

    operations: list[OperationBody]
    total_count: int = Field(description="On all pages together.")
