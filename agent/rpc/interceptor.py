"""What surrounds every call: who may make it, how failures leave the agent, and a line in the log."""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

import grpc
import structlog

from agent.errors import AgentError, Category, ClientRoleForbidden, StorageExhausted, is_out_of_space

Context = grpc.aio.ServicerContext[Any, Any]
Guard = Callable[[Context], AbstractAsyncContextManager[None]]

CODE_METADATA_KEY: Final = "nodewright-code"
REQUEST_ID_METADATA_KEY: Final = "nodewright-request-id"
ROLE_URN_PREFIX: Final = "urn:nodewright:role:"
ADMITTED_ROLES: Final = frozenset(("coordinator", "scheduler"))

# The only place that knows both sides.
STATUS_BY_CATEGORY: Final = {
    Category.INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    Category.ABSENT: grpc.StatusCode.NOT_FOUND,
    Category.STATE: grpc.StatusCode.FAILED_PRECONDITION,
    Category.FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
    Category.EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Category.TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    Category.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Category.ABORTED: grpc.StatusCode.ABORTED,
    Category.CORRUPT: grpc.StatusCode.DATA_LOSS,
    Category.INTERNAL: grpc.StatusCode.INTERNAL,
}

log = structlog.get_logger(__name__)


class ErrorInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Answers every failure with its status and stable code, and logs each call. Goes before all that may fail."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any]]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wraps the handler of one call."""
        handler = await continuation(handler_call_details)
        return _guarded(handler, lambda context: _reported(context, handler_call_details))


class RoleInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Admits only callers whose certificate carries the role of a coordinator or a scheduler."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any]]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wraps the handler of one call."""
        return _guarded(await continuation(handler_call_details), _admitted)


@asynccontextmanager
async def _admitted(context: Context) -> AsyncIterator[None]:
    roles = _roles(context)
    if not roles & ADMITTED_ROLES:
        raise ClientRoleForbidden(f"role {', '.join(sorted(roles)) or 'none'} may not use an agent")
    yield


def _roles(context: Context) -> frozenset[str]:
    """The roles in the subject alternative names of the caller's certificate."""
    names = (
        value.decode(errors="replace")
        for key in ("x509_subject_alternative_name", "peer_uri")
        for value in (context.auth_context() or {}).get(key, ())
    )
    return frozenset(name.removeprefix(ROLE_URN_PREFIX) for name in names if name.startswith(ROLE_URN_PREFIX))


@asynccontextmanager
async def _reported(context: Context, details: grpc.HandlerCallDetails) -> AsyncIterator[None]:
    started = time.monotonic()
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(method=details.method, **_request_id(details))
    try:
        yield
    except AgentError as error:
        _log_end(started, code=error.code, reason=error.message)
        await _abort(context, STATUS_BY_CATEGORY[error.category], error.message, error.code)
    except grpc.aio.AbortError:
        raise
    except Exception as error:
        log.exception("rpc.failed")
        await _abort_unexpected(context, error)
    else:
        _log_end(started, code="Success")


async def _abort_unexpected(context: Context, error: Exception) -> None:
    """Of what no part of the agent expects, a full disk alone is told: a caller can do something about it."""
    if is_out_of_space(error):
        message = "a file system of this node is full: free some space, or make it larger"
        status, code = STATUS_BY_CATEGORY[StorageExhausted.category], StorageExhausted.code
    else:
        status, message, code = grpc.StatusCode.INTERNAL, "the agent failed; its log has the reason", "AgentError"
    await _abort(context, status, message, code)


async def _abort(context: Context, status: grpc.StatusCode, message: str, code: str) -> None:
    await context.abort(status, message, ((CODE_METADATA_KEY, code),))


def _request_id(details: grpc.HandlerCallDetails) -> dict[str, str]:
    for key, value in details.invocation_metadata or ():
        if key == REQUEST_ID_METADATA_KEY:
            return {"request_id": str(value)}
    return {}


def _log_end(started: float, **fields: str) -> None:
    log.info("rpc.ended", duration_seconds=round(time.monotonic() - started, 4), **fields)


def _guarded(handler: grpc.RpcMethodHandler[Any, Any] | None, guard: Guard) -> Any:
    """The handler with its behaviour inside of the guard; a method that does not exist stays None."""
    if handler is None:
        return None
    streaming = (handler.request_streaming, handler.response_streaming)
    kind = "_".join("stream" if is_stream else "unary" for is_stream in streaming)
    make_handler = getattr(grpc, f"{kind}_rpc_method_handler")
    behaviour = getattr(handler, kind)
    wrap = _guard_stream if inspect.isasyncgenfunction(behaviour) else _guard_call
    return make_handler(wrap(behaviour, guard), handler.request_deserializer, handler.response_serializer)


def _guard_call(behaviour: Any, guard: Guard) -> Any:
    async def guarded(request: Any, context: Context) -> Any:
        async with guard(context):
            return await behaviour(request, context)

    return guarded


def _guard_stream(behaviour: Any, guard: Guard) -> Any:
    async def guarded(request: Any, context: Context) -> AsyncIterator[Any]:
        async with guard(context):
            async for message in behaviour(request, context):
                yield message

    return guarded
