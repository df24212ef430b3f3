"""The header `Idempotency-Key` on creating calls: the same key gets the same answer for 24 hours."""

import asyncio
import hashlib
import json
import time
from collections.abc import Callable
from typing import Any

from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from coordinator.api.deps import IDEMPOTENCY_HEADER, get_caller
from coordinator.api.operation_header import OPERATION_HEADER
from coordinator.api.query import Handler, LenientRoute
from coordinator.api.request_context import current_request
from coordinator.errors import ParameterInvalid, ServiceUnavailable
from coordinator.runtime import Runtime
from coordinator.services.idempotency import (
    Claim,
    StoredAnswer,
    abandon_claim,
    act_under,
    claim_key,
    keep_answer,
)

REPLAYED_HEADER = "idempotency-replayed"

_MAXIMUM_KEY_LENGTH = 255
_WAIT_SECONDS = 10.0
_POLL_SECONDS = 0.05
_METHODS = frozenset({"POST", "PUT", "PATCH"})

_PARAMETER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Repeating a call with the same key and body gives the first call's answer for 24 hours.",
    "schema": {"type": "string", "maxLength": _MAXIMUM_KEY_LENGTH},
}


class IdempotentRoute(LenientRoute):
    """Routes of a router of creating calls: `APIRouter(route_class=IdempotentRoute)`."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if _METHODS & set(options.get("methods") or ()):
            options["openapi_extra"] = {"parameters": [_PARAMETER], **(options.get("openapi_extra") or {})}
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()

        async def handle_once(request: Request) -> Response:
            key = request.headers.get(IDEMPOTENCY_HEADER)
            if key is None or request.method not in _METHODS:
                return await handle(request)
            return await _answer_once(request, key, handle)

        return handle_once


async def _answer_once(request: Request, key: str, handle: Handler) -> Response:
    if not 1 <= len(key) <= _MAXIMUM_KEY_LENGTH:
        raise ParameterInvalid(
            "Idempotency-Key", f"1 to {_MAXIMUM_KEY_LENGTH} characters", f"长度为1到{_MAXIMUM_KEY_LENGTH}个字符"
        )
    runtime: Runtime = request.app.state.runtime
    caller = await run_in_threadpool(get_caller, request, runtime)
    claimed = await _claim(runtime, caller.token_id, key, await _hash(request))
    if isinstance(claimed, StoredAnswer):
        return _replay(claimed)
    act_under(claimed)
    try:
        response = await handle(request)
    except BaseException:
        await run_in_threadpool(abandon_claim, runtime, claimed)
        raise
    await run_in_threadpool(keep_answer, runtime, claimed, _stored(response))
    return response


async def _claim(runtime: Runtime, token_id: str, key: str, request_hash: str) -> Claim | StoredAnswer:
    """Waits while another call with the same key is at work, but not for ever."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while time.monotonic() < deadline:
        claimed = await run_in_threadpool(claim_key, runtime, token_id, key, request_hash)
        if claimed is not None:
            return claimed
        await asyncio.sleep(_POLL_SECONDS)
    raise ServiceUnavailable(
        "a call with this Idempotency-Key is still being worked on: try again later",
        "使用该幂等键的调用仍在处理中，请稍后重试",
    )


async def _hash(request: Request) -> str:
    digest = hashlib.sha256(f"{request.method} {request.url.path}?{request.url.query}\n".encode())
    digest.update(await request.body())
    return digest.hexdigest()


def _stored(response: Response) -> StoredAnswer:
    headers = {name: response.headers[name] for name in (OPERATION_HEADER,) if name in response.headers}
    return StoredAnswer(response.status_code, bytes(response.body).decode(), headers)


def _replay(answer: StoredAnswer) -> JSONResponse:
    """The same code, message and data, under the id of the present request."""
    content = json.loads(answer.body) | {"requestId": current_request().request_id}
    return JSONResponse(content, status_code=answer.status, headers={**answer.headers, REPLAYED_HEADER: "true"})
