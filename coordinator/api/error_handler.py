"""The one place where errors become HTTP bodies."""

from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from coordinator.api.envelope import problem
from coordinator.api.schemas.base import FieldError
from coordinator.api.schemas.template_order import ORDER_TAGS
from coordinator.domain.message import Message
from coordinator.errors import (
    CoordinatorError,
    DisplayNameInvalid,
    MemoryAmountInvalid,
    ParameterInvalid,
    PasswordInvalid,
    TenantIdInvalid,
)

logger = structlog.get_logger(__name__)

INTERNAL_ERROR = Message(
    "an internal error; the log has the details under this requestId", "内部错误，请凭requestId查看日志"
)

_DATABASE_UNAVAILABLE = Message("the database cannot be reached at the moment", "数据库暂时不可用")

_HTTP_PROBLEMS = {
    400: ("ECS.InvalidParameter", Message("body: cannot be read as JSON", "body：不是合法的JSON")),
    404: ("ECS.InvalidParameter.Path.NotFound", Message("no such path", "请求路径不存在")),
    405: (
        "ECS.InvalidParameter.Method.NotSupported",
        Message("this path has no such method", "该路径不支持此请求方法"),
    ),
    413: ("ECS.InvalidParameter", Message("body: too large", "body：请求体过大")),
}

# Fields whose errors the API's table of codes lists separately.
_CLASSES: dict[str, type[ParameterInvalid]] = {
    "displayName": DisplayNameInvalid,
    "displayname": DisplayNameInvalid,
    "password": PasswordInvalid,
    "memory.amount": MemoryAmountInvalid,
    "tenantId": TenantIdInvalid,
}

# What pydantic found, in words; the placeholders are its own context.
_TEXTS = {
    "missing": ("is required", "不能为空"),
    "greater_than_equal": ("at least {ge}", "不能小于{ge}"),
    "less_than_equal": ("at most {le}", "不能大于{le}"),
    "greater_than": ("more than {gt}", "必须大于{gt}"),
    "less_than": ("less than {lt}", "必须小于{lt}"),
    "string_too_short": ("at least {min_length} characters", "长度不能少于{min_length}个字符"),
    "string_too_long": ("at most {max_length} characters", "长度不能超过{max_length}个字符"),
    "string_pattern_mismatch": ("must match {pattern}", "必须匹配{pattern}"),
    "too_short": ("at least {min_length} entries", "不能少于{min_length}项"),
    "too_long": ("at most {max_length} entries", "不能超过{max_length}项"),
    "literal_error": ("one of {expected}", "取值必须为{expected}"),
    "enum": ("one of {expected}", "取值必须为{expected}"),
    "json_invalid": ("not valid JSON", "不是合法的JSON"),
    "value_error": ("{error}", "{error}"),
    "finite_number": ("must be a finite number", "必须是有限的数值"),
}
_TYPE_TEXTS = {
    "string": ("must be a string", "必须是字符串"),
    "int": ("must be a whole number", "必须是整数"),
    "float": ("must be a number", "必须是数值"),
    "bool": ("must be true or false", "必须是布尔值"),
    "list": ("must be a list", "必须是数组"),
    "dict": ("must be an object", "必须是对象"),
    "model": ("must be an object", "必须是对象"),
}
_FALLBACK = ("is not acceptable", "参数不正确")


def install(app: FastAPI) -> None:
    """Makes `app` answer every error in the envelope."""
    app.add_exception_handler(CoordinatorError, _answer_coordinator_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid_request)
    app.add_exception_handler(HTTPException, _answer_http_exception)
    app.add_exception_handler(DBAPIError, _answer_database_error)


def invalid_parameter(details: Sequence[Mapping[str, Any]]) -> ParameterInvalid:
    """The error for what pydantic found first in a request."""
    detail = details[0]
    field = ".".join(str(part) for part in detail["loc"][1:] if part not in ORDER_TAGS) or str(detail["loc"][0])
    if detail["type"] == "json_invalid":
        field = "body"
    context = {name: _plain(value) for name, value in detail.get("ctx", {}).items()}
    reason = context.get("error")
    if isinstance(reason, FieldError):
        return _CLASSES.get(field, ParameterInvalid)(field, reason.message.en, reason.message.zh)
    en, zh = _explain(str(detail["type"]))
    return _CLASSES.get(field, ParameterInvalid)(field, en.format_map(context), zh.format_map(context))


def _explain(kind: str) -> tuple[str, str]:
    return _TEXTS.get(kind) or _TYPE_TEXTS.get(kind.split("_")[0]) or _FALLBACK


def _plain(value: object) -> object:
    """Numbers as people write them: 1024, not 1024.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _answer_coordinator_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, CoordinatorError)  # noqa: S101 (registered for this class)
    if error.http_status >= 500:
        logger.warning("request refused", code=error.code, error=str(error))
    return problem(error.http_status, error.code, error.message)


def _answer_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    return _answer_coordinator_error(request, invalid_parameter(error.errors()))


def _answer_http_exception(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    code, message = _HTTP_PROBLEMS.get(error.status_code, ("ECS.InvalidParameter", Message(error.detail, error.detail)))
    headers = dict(error.headers) if error.headers else None
    return problem(error.status_code, code, message, headers)


def _answer_database_error(_request: Request, error: Exception) -> Response:
    """A lost connection or a lock that never came free is worth another try; everything else is our mistake."""
    assert isinstance(error, DBAPIError)  # noqa: S101
    if error.connection_invalidated or type(error).__name__ == "OperationalError":
        logger.error("database unavailable", error=str(error.orig))
        return problem(503, "ECS.ServiceUnavailable", _DATABASE_UNAVAILABLE, {"retry-after": "1"})
    raise error
