"""The envelope around every JSON answer."""

from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse

from coordinator.api.audit import name_answered
from coordinator.api.request_context import current_request
from coordinator.domain.message import Message

Data = TypeVar("Data")

SUCCESS = Message("Success", "调用成功")


class Envelope(BaseModel, Generic[Data]):
    """An answer: what was asked for is in `data`."""

    model_config = ConfigDict(populate_by_name=True, from_attributes=True)

    request_id: str = Field(
        alias="requestId",
        description="UUID of this request; also in the header `x-request-id` and in every log line about it.",
        examples=["7c0d9f8e-3f5a-4a55-9b31-2f7b7c1d6e90"],
    )
    code: str = Field(description="`Success`, or the stable code of an error.", examples=["Success"])
    message: str = Field(description="The same for people, in the caller's language.", examples=["Success"])
    data: Data = Field(description="The answer itself; null where there is nothing to tell.")


class Problem(BaseModel):
    """An answer that says why a request was not fulfilled."""

    model_config = ConfigDict(populate_by_name=True)

    request_id: str = Field(alias="requestId", description="UUID of this request.")
    code: str = Field(description="Stable code of the error.", examples=["ECS.InvalidParameter"])
    message: str = Field(description="What was wrong with which field.", examples=["cpu: at most 256"])
    data: None = Field(default=None, description="Always null.")


def success(data: Data) -> Envelope[Data]:
    """`data` in the envelope of the current request."""
    context = current_request()
    name_answered(data)
    return Envelope(request_id=context.request_id, code="Success", message=SUCCESS.text(context.language), data=data)


def problem(status: int, code: str, message: Message, headers: dict[str, str] | None = None) -> JSONResponse:
    """The answer to a request that failed."""
    context = current_request()
    context.code = code
    content: dict[str, Any] = {
        "requestId": context.request_id,
        "code": code,
        "message": message.text(context.language),
        "data": None,
    }
    return JSONResponse(content, status_code=status, headers=headers)
