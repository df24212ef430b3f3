"""High availability of the region on the wire."""

from typing import Annotated

from pydantic import AfterValidator, Field

from coordinator.api.schemas.base import AnswerModel, FieldError, LenientModel
from coordinator.domain.fence import TOLERANCES


def _check_tolerance(seconds: int) -> int:
    if seconds not in TOLERANCES:
        known = ", ".join(map(str, TOLERANCES))
        raise FieldError(f"one of {known} seconds", f"取值为{known}（秒）")
    return seconds


class SetHaConfigRequest(LenientModel):
    """How long nodes may be silent."""

    tolerance_time: Annotated[int, AfterValidator(_check_tolerance)] = Field(
        json_schema_extra={"enum": list(TOLERANCES)},
        description="Seconds of silence after which a node's highly available instances are started elsewhere.",
        examples=[60],
    )


class HaConfigBody(AnswerModel):
    """How long nodes may be silent."""

    tolerance_time: int = Field(description="Seconds.", examples=[120])
