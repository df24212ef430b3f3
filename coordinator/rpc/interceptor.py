"""What surrounds every call: who may make it, how failures leave the coordinator, and a line in the log."""

import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, TypeAlias
from uuid import uuid4

import grpc
import structlog
from sqlalchemy.exc import DBAPIError

from coordinator.errors import (
    AccessDenied,
    AddressesExhausted,
    CapacityInsufficient,
    CoordinatorError,
    CredentialsInvalid,
    ImageOffsetInvalid,
    InstanceLocked,
    NodeDisconnected,
    ParameterInvalid,
    QuotaExceeded,
    RequestsTooMany,
    ResourceExists,
    ResourceInUse,
    ResourceNotFound,
    ServiceUnavailable,
    StatusUnsupported,
)
from coordinator.pki import CertificateRole
from coordinator.rpc.peer import read_peer

Context = grpc.aio.ServicerContext[Any, Any]
# Generic in the stubs only, hence the quotes here and below.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler]]"
# Surrounds a call of that method.
Guard = Callable[[Context, str], AbstractAsyncContextManager[None]]

CODE_METADATA_KEY: Final = "nodewright-code"
REQUEST_ID_METADATA_KEY: Final = "nodewright-request-id"

# The only place where errors become gRPC statuses; a subclass has the status of its nearest base that is listed.
STATUSES: Final[Mapping[type[CoordinatorError], grpc.StatusCode]] = {
    ImageOffsetInvalid: grpc.StatusCode.OUT_OF_RANGE,
    ParameterInvalid: grpc.StatusCode.INVALID_ARGUMENT,
    CredentialsInvalid: grpc.StatusCode.UNAUTHENTICATED,
    AccessDenied: grpc.StatusCode.PERMISSION_DENIED,
    ResourceNotFound: grpc.StatusCode.NOT_FOUND,
    ResourceExists: grpc.StatusCode.ALREADY_EXISTS,
    ResourceInUse: grpc.StatusCode.FAILED_PRECONDITION,
    StatusUnsupported: grpc.StatusCode.FAILED_PRECONDITION,
    InstanceLocked: grpc.StatusCode.FAILED_PRECONDITION,
    QuotaExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    AddressesExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    CapacityInsufficient: grpc.StatusCode.RESOURCE_EXHAUSTED,
    RequestsTooMany: grpc.StatusCode.RESOURCE_EXHAUSTED,
    NodeDisconnected: grpc.StatusCode.UNAVAILABLE,
    ServiceUnavailable: grpc.StatusCode.UNAVAILABLE,
    CoordinatorError: grpc.StatusCode.INTERNAL,
}

# Services that each role may use; the standard ones (health, reflection) are open to every peer that is trusted at all.
SERVICES_OF_ROLE: Final[Mapping[CertificateRole, frozenset[str]]] = {
    CertificateRole.AGENT: frozenset(
        {
            "nodewright.coordinator.v1.NodeService",
            "nodewright.coordinator.v1.ImageService",
            "nodewright.coordinator.v1.VolumeKeyService",
        }
    ),
    CertificateRole.SCHEDULER: frozenset({"nodewright.coordinator.v1.PlacementService"}),
    CertificateRole.COORDINATOR: frozenset({"nodewright.coordinator.v1.PlacementService"}),
}
_OWN_PREFIX: Final = "nodewright."

# Many a second and nothing to tell: not worth a line when all went well.
_QUIET_METHODS: Final = frozenset({"Heartbeat", "Check", "Watch", "ServerReflectionInfo"})

log = structlog.get_logger(__name__)


class ErrorInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Answers every failure with its status and stable code, and logs each call. Goes first."""

    def __init__(self) -> None:
        self._handlers = _GuardedHandlers(_reported)

    async def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Wraps the handler of one call."""
        return self._handlers.find(await continuation(handler_call_details), str(handler_call_details.method))


class RoleInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Admits callers to the services of the role in their certificate."""

    def __init__(self) -> None:
        self._handlers = _GuardedHandlers(_admitted)

    async def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Wraps the handler of one call."""
        return self._handlers.find(await continuation(handler_call_details), str(handler_call_details.method))


class _GuardedHandlers:
    """Handlers inside of a guard, made once for each method: of heartbeats there are hundreds a second."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._made: dict[str, tuple[Handler, Any]] = {}

    def find(self, handler: "Handler | None", method: str) -> Any:
        """None for a method that does not exist."""
        if handler is None:
            return None
        known = self._made.get(method)
        # Another one: whoever is inside has made it anew.
        if known is None or known[0] is not handler:
            known = self._made[method] = handler, _guarded(handler, self._guard, method)
        return known[1]


@asynccontextmanager
async def _admitted(context: Context, method: str) -> AsyncIterator[None]:
    peer = read_peer(context)
    service, _ = _split_method(method)
    if service.startswith(_OWN_PREFIX) and service not in SERVICES_OF_ROLE[peer.role]:
        raise AccessDenied(f"role {peer.role} may not use {service}", f"角色{peer.role}不能使用{service}")
    with structlog.contextvars.bound_contextvars(peerRole=peer.role.value, nodeId=peer.node_id):
        yield


@asynccontextmanager
async def _reported(context: Context, path: str) -> AsyncIterator[None]:
    _, method = _split_method(path)
    started = time.monotonic()
    with structlog.contextvars.bound_contextvars(requestId=_request_id(context), method=method):
        try:
            yield
        except CoordinatorError as error:
            _log_end(started, error.code, str(error))
            await _abort(context, status_of(error), str(error), error.code)
        except grpc.aio.AbortError:
            raise
        except DBAPIError as error:
            log.exception("rpc.failed")
            # What was lost in the middle may be tried again: every call is idempotent.
            is_away = error.connection_invalidated or type(error).__name__ == "OperationalError"
            unavailable = ServiceUnavailable("the database cannot be reached", "数据库暂时不可用")
            await _abort_internal(context) if not is_away else await _abort(
                context, status_of(unavailable), str(unavailable), unavailable.code
            )
        except Exception:
            log.exception("rpc.failed")
            await _abort_internal(context)
        else:
            if method not in _QUIET_METHODS:
                _log_end(started, "Success")


def status_of(error: CoordinatorError) -> grpc.StatusCode:
    """The gRPC status of an error."""
    return next(STATUSES[base] for base in type(error).__mro__ if base in STATUSES)


async def _abort_internal(context: Context) -> None:
    message = "the coordinator failed; its log has the reason"
    await _abort(context, grpc.StatusCode.INTERNAL, message, CoordinatorError.code)


async def _abort(context: Context, status: grpc.StatusCode, message: str, code: str) -> None:
    await context.abort(status, message, ((CODE_METADATA_KEY, code),))


def _split_method(path: str) -> tuple[str, str]:
    service, _, method = path.strip("/").partition("/")
    return service, method


def _request_id(context: Context) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID_METADATA_KEY:
            return str(value)[:64]
    return str(uuid4())


def _log_end(started: float, code: str, reason: str = "") -> None:
    fields = {"reason": reason} if reason else {}
    log.info("rpc.ended", code=code, durationMs=round((time.monotonic() - started) * 1000, 1), **fields)


def _guarded(handler: Handler, guard: Guard, method: str) -> Any:
    """The handler with its behaviour inside of the guard."""
    streaming = (handler.request_streaming, handler.response_streaming)
    kind = "_".join("stream" if is_stream else "unary" for is_stream in streaming)
    make_handler = getattr(grpc, f"{kind}_rpc_method_handler")
    behaviour = getattr(handler, kind)
    wrap = _guard_stream if inspect.isasyncgenfunction(behaviour) else _guard_call
    return make_handler(wrap(behaviour, guard, method), handler.request_deserializer, handler.response_serializer)


def _guard_call(behaviour: Any, guard: Guard, method: str) -> Any:
    async def guarded(request: Any, context: Context) -> Any:
        async with guard(context, method):
            return await behaviour(request, context)

    return guarded


def _guard_stream(behaviour: Any, guard: Guard, method: str) -> Any:
    async def guarded(request: Any, context: Context) -> AsyncIterator[Any]:
        async with guard(context, method):
            async for message in behaviour(request, context):
                yield message

    return guarded
