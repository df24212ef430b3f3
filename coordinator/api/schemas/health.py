"""Health on the wire."""

from pydantic import Field

from coordinator.api.schemas.base import AnswerModel


class HealthBody(AnswerModel):
    """How this process is."""

    status: str = Field(description="`alive` or `ready`.", examples=["ready"])
