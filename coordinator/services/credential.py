"""Who calls the REST API: bearer tokens of our own, made, checked and withdrawn."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from coordinator.domain.caller import Caller, Role
from coordinator.domain.identifier import Prefix
from coordinator.domain.listing import Listing, ListQuery
from coordinator.errors import AccessDenied, CredentialsInvalid, ParameterInvalid, ResourceNotFound, TenantNotFound
from coordinator.runtime import Runtime
from coordinator.services import oidc
from coordinator.store.queries import credential as queries
from coordinator.store.tables import ApiToken, Tenant

TOKEN_PREFIX: Final = "nwt_"  # noqa: S105 (a prefix, not a secret)

# A use is noted at most this often: otherwise each request would cost a commit.
_USE_NOTED_EVERY: Final = timedelta(minutes=10)
_NAME_MAXIMUM: Final = 127

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that was just made; `secret` is known now and never again."""

    row: ApiToken
    secret: str


def authenticate(runtime: Runtime, header: str) -> Caller:
    """The caller whom the Authorization header `header` names; CredentialsInvalid when it names none."""
    scheme, _, credentials = header.strip().partition(" ")
    if scheme.lower() != "bearer" or not credentials.strip():
        raise CredentialsInvalid("a bearer token is required", "缺少访问凭证")
    token = credentials.strip()
    token_hash = hash_token(token)
    known = runtime.callers.get(token_hash)
    if known is not None:
        return known
    is_ours = token.startswith(TOKEN_PREFIX)
    caller = _check_token(runtime, token_hash) if is_ours else oidc.check_token(runtime, token)
    runtime.callers.put(token_hash, caller)
    return caller


def create_token(
    runtime: Runtime,
    caller: Caller,
    *,
    name: str,
    role: Role,
    tenant_id: str | None = None,
    expires_at: datetime | None = None,
) -> NewToken:
    """A new API token; operators make them."""
    if not caller.is_operator:
        raise AccessDenied("only an operator may create tokens", "仅管理员可创建访问令牌")
    _check_order(runtime, name, role, tenant_id, expires_at)
    secret = TOKEN_PREFIX + secrets.token_urlsafe(32)
    now = runtime.now()
    row = ApiToken(
        id=runtime.identifiers.new(Prefix.TOKEN),
        name=name,
        token_hash=hash_token(secret),
        role=role,
        tenant_id=tenant_id,
        expires_at=expires_at,
        created_at=now,
        updated_at=now,
    )
    with runtime.database.write() as session:
        if tenant_id is not None and session.get(Tenant, tenant_id) is None:
            raise TenantNotFound("tenantId", f"tenant {tenant_id} does not exist", f"租户{tenant_id}不存在")
        session.add(row)
    log.info("token.created", newTokenId=row.id, role=role.value, tenantId=tenant_id, by=caller.token_id)
    return NewToken(row, secret)


def list_tokens(runtime: Runtime, caller: Caller, query: ListQuery) -> Listing[ApiToken]:
    """Tokens that the caller may see: its tenant's, or all."""
    with runtime.database.read() as session:
        return queries.list_tokens(session, caller.tenant_id if caller.is_tenant else None, query)


def delete_token(runtime: Runtime, caller: Caller, token_id: str) -> None:
    """Withdraws a token: from now on its bearer is refused. Operators do that."""
    if not caller.is_operator:
        raise AccessDenied("only an operator may delete tokens", "仅管理员可删除访问令牌")
    with runtime.database.write() as session:
        row = session.get(ApiToken, token_id)
        if row is None:
            raise ResourceNotFound("token", token_id)
        session.delete(row)
    runtime.callers.forget_all()
    log.info("token.deleted", deletedTokenId=token_id, by=caller.token_id)


def hash_token(token: str) -> str:
    """What is stored instead of a token. They are random and long: a plain hash cannot be turned back."""
    return hashlib.sha256(token.encode()).hexdigest()


def _check_order(runtime: Runtime, name: str, role: Role, tenant_id: str | None, expires_at: datetime | None) -> None:
    if not 1 <= len(name) <= _NAME_MAXIMUM:
        raise ParameterInvalid("name", f"1 to {_NAME_MAXIMUM} characters", f"长度为1到{_NAME_MAXIMUM}个字符")
    if role is Role.TENANT and tenant_id is None:
        raise ParameterInvalid("tenantId", "is required for role tenant", "角色为tenant时不能为空")
    if expires_at is not None and expires_at <= runtime.now():
        raise ParameterInvalid("expiresAt", "must lie in the future", "必须晚于当前时间")


def _check_token(runtime: Runtime, token_hash: str) -> Caller:
    now = runtime.now()
    with runtime.database.read() as session:
        row = queries.find_token_by_hash(session, token_hash)
    if row is None:
        raise CredentialsInvalid("this token is unknown", "访问令牌无效")
    if row.expires_at is not None and row.expires_at <= now:
        raise CredentialsInvalid("this token has expired", "访问令牌已过期")
    if row.last_used_at is None or now - row.last_used_at >= _USE_NOTED_EVERY:
        _note_use(runtime, row.id, now)
    return Caller(token_id=row.id, role=Role(row.role), tenant_id=row.tenant_id)


def _note_use(runtime: Runtime, token_id: str, now: datetime) -> None:
    with runtime.database.write() as session:
        row = session.get(ApiToken, token_id)
        if row is not None:
            row.last_used_at = now
            session.add(row)
