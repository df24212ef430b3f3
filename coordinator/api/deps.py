"""What routes ask for: the process's collaborators and the caller, checked for the role that they need.

What needs no database is a coroutine, here and in routes: each plain function costs a thread's turn.
"""

from dataclasses import replace
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer

from coordinator.api.request_context import current_request
from coordinator.domain.caller import Caller, Role
from coordinator.errors import AccessDenied, ParameterInvalid
from coordinator.runtime import Runtime
from coordinator.services.credential import authenticate

REGION_HEADER = "x-regionid"
# Tell callers their region, so they cannot ask for it.
REGION_QUERY_PATHS = frozenset({"/api/ecs/v1/service-region-info", "/api/iam/v1/whoami"})
IDEMPOTENCY_HEADER = "idempotency-key"

_SAFE_METHODS = frozenset({"GET", "HEAD"})
_bearer = HTTPBearer(
    auto_error=False, description="A token of `POST /api/iam/v1/tokens`, or of the configured OIDC issuer."
)


async def get_runtime(request: Request) -> Runtime:
    """The runtime that the application was made with."""
    runtime: Runtime = request.app.state.runtime
    return runtime


RuntimeDep = Annotated[Runtime, Depends(get_runtime)]


def get_caller(request: Request, runtime: RuntimeDep, _scheme: Annotated[object, Security(_bearer)] = None) -> Caller:
    """Who sent the request, told once; CredentialsInvalid when that cannot be told. Checks the region."""
    known: Caller | None = getattr(request.state, "caller", None)
    if known is None:
        known = request.state.caller = _identify(request, runtime)
    return known


def _identify(request: Request, runtime: Runtime) -> Caller:
    context = current_request()
    caller = authenticate(runtime, request.headers.get("authorization", ""))
    context.caller = caller
    if request.url.path not in REGION_QUERY_PATHS:
        _check_region(request.headers.get(REGION_HEADER, ""), runtime.settings.region)
    return replace(
        caller,
        language=context.language,
        request_id=context.request_id,
        idempotency_key=request.headers.get(IDEMPOTENCY_HEADER, ""),
    )


async def get_operator(request: Request, caller: Annotated[Caller, Depends(get_caller)]) -> Caller:
    """An operator; an auditor too when nothing is changed."""
    return _require(caller, request, Role.OPERATOR)


async def get_tenant_user(request: Request, caller: Annotated[Caller, Depends(get_caller)]) -> Caller:
    """An operator or a tenant; an auditor too when nothing is changed."""
    return _require(caller, request, Role.OPERATOR, Role.TENANT)


Reader = Annotated[Caller, Depends(get_caller)]
Operator = Annotated[Caller, Depends(get_operator)]
TenantUser = Annotated[Caller, Depends(get_tenant_user)]


def _require(caller: Caller, request: Request, *roles: Role) -> Caller:
    if caller.role in roles or (caller.role == Role.AUDITOR and request.method in _SAFE_METHODS):
        return caller
    raise AccessDenied(f"a token of role {caller.role} may not do this", f"角色{caller.role}没有该操作的权限")


def _check_region(given: str, region: str) -> None:
    if not given:
        raise ParameterInvalid(REGION_HEADER, "this header is required", "缺少该请求头")
    if given != region:
        raise ParameterInvalid(REGION_HEADER, f"no such region; this one is {region}", f"区域不存在，本区域为{region}")
