"""Notes for the audit log: each call that changes something, or was to, by somebody who showed credentials."""

import hmac
import re
from typing import Any, Final

from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.types import Scope

from coordinator.api.request_context import RequestContext, current_request
from coordinator.domain.clock import utc_now
from coordinator.runtime import Runtime
from coordinator.store.tables import AuditRecord

_CHANGING: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
# Callers of this API also bind snapshot policies with GET.
_CHANGING_BY_GET: Final = re.compile(r"/api/ecs/v1/policy/[^/]+/bind")
_NAMED_MAXIMUM: Final = 100
_PATH_MAXIMUM: Final = 1023
_CALLER_MAXIMUM: Final = 255


class BodyDigest:
    """Proves later what a body was, to whoever has the coordinator's key: nobody else can try out what was in it."""

    def __init__(self, digest: hmac.HMAC, limit_bytes: int) -> None:
        self._digest = digest
        self._left_bytes = limit_bytes
        self._size_bytes = 0
        self._is_whole = False

    def update(self, part: bytes, *, is_last: bool) -> None:
        """Takes in the next part. Of what is longer than the limit, an image perhaps, nothing is told."""
        self._size_bytes += len(part)
        self._left_bytes -= len(part)
        self._is_whole = is_last
        if self._left_bytes >= 0:
            self._digest.update(part)

    def hex(self) -> str:
        """The digest; empty without a body that was read to its end."""
        is_told = self._is_whole and self._size_bytes and self._left_bytes >= 0
        return self._digest.hexdigest() if is_told else ""


def begin_digest(runtime: Runtime, scope: Scope, headers: Headers) -> BodyDigest | None:
    """What takes in the body of a call that is to be noted; None for one that is not."""
    is_changing = scope["method"] in _CHANGING or _CHANGING_BY_GET.fullmatch(scope["path"])
    if not is_changing or "authorization" not in headers:
        return None
    return BodyDigest(runtime.secrets.new_digest(), runtime.settings.max_body_bytes)


def note_call(
    runtime: Runtime, scope: Scope, context: RequestContext, digest: BodyDigest, status: int, operation_ids: str
) -> None:
    """Notes the call with its answer's status; 0: it was broken off."""
    caller = context.caller
    client = scope.get("client")
    runtime.audit.record(
        AuditRecord(
            at=utc_now(),
            request_id=context.request_id,
            caller_id=_storable(caller.token_id)[:_CALLER_MAXIMUM] if caller else "",
            role=caller.role.value if caller else "",
            tenant_id=caller.tenant_id if caller else None,
            method=scope["method"],
            path=_storable(scope["path"])[:_PATH_MAXIMUM],
            operation=getattr(scope.get("route"), "operation_id", None) or "",
            resources=_storable(",".join((*map(str, scope.get("path_params", {}).values()), *context.answered_ids))),
            status=status,
            code=context.code or ("Success" if 0 < status < 400 else ""),
            operation_ids=operation_ids,
            source_address=client[0] if client else "",
            body_digest=digest.hex(),
        )
    )


def name_answered(data: Any) -> None:
    """Notes ids of what an answer shows, for what a call made has no id before."""
    bodies = data if isinstance(data, list) else [data]
    ids = [own_id for body in bodies[:_NAMED_MAXIMUM] if (own_id := _own_id(body))]
    current_request().answered_ids = tuple(ids)


def _own_id(body: Any) -> str:
    """By convention a body begins with its own id; an instance's has it further down."""
    if not isinstance(body, BaseModel):
        return ""
    if hasattr(body, "ecs_id"):
        return str(body.ecs_id)
    first = next(iter(type(body).model_fields), "")
    return str(getattr(body, first)) if first.endswith("_id") else ""


def _storable(text: str) -> str:
    """What came over the wire, with escapes for what no database stores: surrogates, NUL."""
    return text if text.isprintable() else ascii(text)[1:-1]
