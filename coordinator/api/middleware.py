"""Around every request: its id, its language, its lines in both logs, and the answer when something went wrong."""

import time
import uuid

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator.api.audit import BodyDigest, begin_digest, note_call
from coordinator.api.envelope import problem
from coordinator.api.error_handler import INTERNAL_ERROR
from coordinator.api.operation_header import OPERATION_HEADER
from coordinator.api.request_context import RequestContext, enter_request, preferred_language
from coordinator.domain.message import Message as Text
from coordinator.errors import ParameterInvalid
from coordinator.runtime import Runtime

logger = structlog.get_logger(__name__)


class RequestMiddleware:
    """Gives each request an id of our own making, and logs one line about it: never a body, never a credential."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        runtime: Runtime = scope["app"].state.runtime
        headers = Headers(scope=scope)
        language = preferred_language(headers.get("accept-language", ""))
        context = RequestContext(str(uuid.uuid4()), language, runtime.settings.max_body_bytes)
        enter_request(context)
        digest = begin_digest(runtime, scope, headers)
        answer = _Answer(send, context.request_id)
        started = time.perf_counter()
        with structlog.contextvars.bound_contextvars(requestId=context.request_id):
            try:
                app = _refuse_nul if _names_nul(scope) else self._app
                await app(scope, _limited(receive, context, digest), answer.send)
            except Exception:
                logger.exception("request failed", method=scope["method"], path=scope["path"])
                if not answer.started:
                    await problem(500, "ECS.InternalError", INTERNAL_ERROR)(scope, receive, answer.send)
            finally:
                if digest:
                    note_call(runtime, scope, context, digest, answer.status, answer.operation_ids)
            logger.info(
                "request",
                method=scope["method"],
                route=_route_of(scope),
                status=answer.status,
                durationMs=round((time.perf_counter() - started) * 1000, 1),
                tokenId=context.token_id,
            )


def _names_nul(scope: Scope) -> bool:
    """Whether path or query contain a NUL character, which no resource has in its name and no database stores."""
    return "\0" in scope["path"] or b"%00" in scope["query_string"]


async def _refuse_nul(scope: Scope, receive: Receive, send: Send) -> None:
    message = Text("the address contains a NUL character", "请求地址包含空字符")
    await problem(400, ParameterInvalid.code, message)(scope, receive, send)


def _limited(receive: Receive, context: RequestContext, digest: BodyDigest | None) -> Receive:
    """`receive`, until the body is longer than the context allows; what comes goes into the digest, too."""
    received_bytes = 0

    async def receive_some() -> Message:
        nonlocal received_bytes
        message = await receive()
        received_bytes += len(message.get("body", b""))
        if received_bytes > context.body_limit_bytes:
            raise HTTPException(413)
        if digest and message["type"] == "http.request":
            digest.update(message.get("body", b""), is_last=not message.get("more_body", False))
        return message

    return receive_some


class _Answer:
    """Watches the answer go out and adds the request's id to it."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.status = 0
        self.operation_ids = ""

    @property
    def started(self) -> bool:
        return self.status != 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self._request_id
            self.operation_ids = headers.get(OPERATION_HEADER, "")
        await self._send(message)


def _route_of(scope: Scope) -> str:
    """The route's template; the path itself only when no route matched."""
    route = scope.get("route")
    return str(getattr(route, "path", scope["path"]))
