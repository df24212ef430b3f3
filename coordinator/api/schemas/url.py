"""Addresses that the coordinator is to call."""

from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import Url

from coordinator.api.schemas.base import FieldError


def _check_url(url: str) -> str:
    """Whether the coordinator may call it is decided when it does: names may change what they mean."""
    if not url:
        return url
    try:
        parsed = Url(url)
    except ValueError:
        raise FieldError("is not a URL", "不是合法的URL") from None
    if parsed.scheme not in {"http", "https"} or not parsed.host or " " in url or not url.isprintable():
        raise FieldError("must be an http or https URL", "必须是http或https地址")
    if parsed.username or parsed.password:
        raise FieldError("must not contain credentials: they would be shown", "不能包含用户名或密码")
    return url


HttpUrl = Annotated[str, AfterValidator(_check_url)]
