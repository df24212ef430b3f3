"""Events on the wire."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from coordinator.api.schemas.base import AnswerModel, FieldError, Moment
from coordinator.domain.event import KIND_PATTERN, Severity
from coordinator.services.event import describe
from coordinator.store.tables import Event

MAXIMUM_KINDS = 32


def check_kinds(kinds: list[str]) -> list[str]:
    """Patterns of kinds that can mean something."""
    for kind in kinds:
        if len(kind) > 63 or not KIND_PATTERN.fullmatch(kind):
            raise FieldError(
                f"{kind[:63]!r} is no kind of events such as instance.status_changed or migration.*",
                f"{kind[:63]!r}不是事件类型，例如instance.status_changed或migration.*",
            )
    return kinds


KindPatterns = Annotated[list[str], AfterValidator(check_kinds), Field(max_length=MAXIMUM_KINDS)]


class EventBody(AnswerModel):
    """Something that happened."""

    id: int = Field(description="Its place in the order of all events.", examples=[4711])
    at: Moment
    kind: str = Field(examples=["instance.status_changed"])
    severity: Severity = Field(description="info, warning, or alarm: somebody should act.")
    resource_type: str = Field(description="What resourceId names.", examples=["instance"])
    resource_id: str = Field(examples=["ecs-7751tih23uy93g"])
    tenant_id: str | None = Field(description="Whose it is; null: the cloud's own.")
    node_id: str | None = Field(description="The node where it happened.")
    operation_id: str | None = Field(description="The operation that did it.")
    data: dict[str, Any] = Field(description="What else is to be told of this kind.", examples=[{"to": "Running"}])

    @classmethod
    def of(cls, row: Event) -> "EventBody":
        return cls.model_validate(describe(row))


class EventListBody(AnswerModel):
    """One page of events."""

    items: list[EventBody] = Field(alias="list")
    total_count: int = Field(description="On all pages together.")
