"""Notes for the audit log: what other schedulers claim and release over gRPC."""

from collections.abc import Iterable
from typing import Any, Final

import grpc
import structlog

from coordinator.domain.clock import utc_now
from coordinator.errors import CoordinatorError, CredentialsInvalid
from coordinator.rpc.interceptor import Context, Continuation, status_of
from coordinator.rpc.peer import read_peer
from coordinator.runtime import Runtime
from coordinator.store.tables import AuditRecord

# What changes something for others than the caller itself: agents speak of their own host only.
_NOTED: Final = frozenset(
    {"/nodewright.coordinator.v1.PlacementService/Claim", "/nodewright.coordinator.v1.PlacementService/Release"}
)
_CALLER_MAXIMUM: Final = 255


class AuditInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Notes calls and how they were answered, refused ones too. Goes before whatever refuses."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Wraps the handler of one call."""
        handler = await continuation(handler_call_details)
        method = str(handler_call_details.method)
        if handler is None or method not in _NOTED:
            return handler

        async def noted(request: Any, context: Context) -> Any:
            status, code = grpc.StatusCode.INTERNAL, CoordinatorError.code
            try:
                answer = await handler.unary_unary(request, context)  # type: ignore[misc,arg-type]  # grpc.aio
                status, code = grpc.StatusCode.OK, "Success"
            except CoordinatorError as error:
                status, code = status_of(error), error.code
                raise
            finally:
                self._note(method, request, context, status, code)
            return answer

        return grpc.unary_unary_rpc_method_handler(noted, handler.request_deserializer, handler.response_serializer)

    def _note(self, method: str, request: Any, context: Context, status: grpc.StatusCode, code: str) -> None:
        caller_id, role = _caller_of(context)
        digest = self._runtime.secrets.new_digest()
        digest.update(request.SerializeToString(deterministic=True))
        self._runtime.audit.record(
            AuditRecord(
                at=utc_now(),
                request_id=str(structlog.contextvars.get_contextvars().get("requestId", "")),
                caller_id=caller_id,
                caller_name=caller_id.removeprefix("certificate:"),
                role=role,
                method="gRPC",
                path=method,
                operation=method.rpartition("/")[2],
                resources=",".join(_consumers_of(request)),
                status=int(status.value[0]),
                code=code,
                source_address=_address_of(context.peer()),
                body_digest=digest.hexdigest(),
            )
        )


def _caller_of(context: Context) -> tuple[str, str]:
    try:
        role = read_peer(context).role.value
    except CredentialsInvalid:
        return "", ""
    names = (context.auth_context() or {}).get("x509_common_name", ())
    name = b"".join(names).decode(errors="replace")
    return f"certificate:{name}"[:_CALLER_MAXIMUM], role


def _consumers_of(request: Any) -> Iterable[str]:
    uuids = getattr(request, "consumer_uuids", None)
    found = [consumer.uuid for consumer in request.consumers] if uuids is None else list(uuids)
    # As they came, before anybody has looked at them.
    return (uuid[:36] for uuid in found if uuid.isprintable() and "," not in uuid)


def _address_of(peer: str) -> str:
    """The address in gRPC's "ipv4:192.0.2.1:5000" or "ipv6:%5B2001:db8::1%5D:5000"."""
    _, _, rest = peer.partition(":")
    return rest.rpartition(":")[0].replace("%5B", "").replace("%5D", "")[:63]
