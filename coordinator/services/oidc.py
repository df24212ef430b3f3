"""Bearer tokens of an OpenID Connect issuer: checked against its published keys, role and tenant from its claims."""

import functools
from typing import TYPE_CHECKING, Any, Final

from coordinator.domain.caller import Caller, Role
from coordinator.errors import CredentialsInvalid, ServiceUnavailable
from coordinator.runtime import Runtime
from coordinator.store.tables import Tenant

if TYPE_CHECKING:
    from jwt import PyJWKClient

    from coordinator.config import Settings

# Public-key algorithms only: with a symmetric one the published key would be the secret.
_ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_FETCH_SECONDS: Final = 5.0
# Clocks of issuer and coordinator may differ this much.
_LEEWAY_SECONDS: Final = 30


def check_token(runtime: Runtime, token: str) -> Caller:
    """The caller whom a token of the configured issuer names; CredentialsInvalid when it is none of its tokens."""
    if not runtime.settings.oidc_jwks_url:
        raise CredentialsInvalid("this token is unknown", "访问令牌无效")
    claims = _verify(runtime.settings, token)
    role = _role_of(claims.get(runtime.settings.oidc_role_claim))
    tenant_id = claims.get(runtime.settings.oidc_tenant_claim)
    if role is Role.TENANT:
        _check_tenant(runtime, tenant_id)
    return Caller(f"oidc:{claims['sub']}"[:64], role, tenant_id if isinstance(tenant_id, str) else None)


def _verify(settings: "Settings", token: str) -> dict[str, Any]:
    # Loaded with the first such token: most coordinators never see one.
    import jwt

    try:
        key = _keys(settings.oidc_jwks_url).get_signing_key_from_jwt(token)
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=list(_ALGORITHMS),
            issuer=settings.oidc_issuer or None,
            audience=settings.oidc_audience or None,
            leeway=_LEEWAY_SECONDS,
            options={"require": ["exp", "sub"], "verify_aud": bool(settings.oidc_audience)},
        )
    except jwt.PyJWKClientConnectionError as error:
        raise ServiceUnavailable("the issuer's keys cannot be fetched", "无法获取身份提供方的密钥") from error
    except jwt.PyJWTError as error:
        raise CredentialsInvalid(f"this token is not valid: {error}", "访问令牌无效") from error
    return claims


@functools.lru_cache(maxsize=4)
def _keys(url: str) -> "PyJWKClient":
    """The issuer's keys, kept for minutes; a key that is not among them is looked for again, but not at will."""
    import jwt

    return jwt.PyJWKClient(url, timeout=_FETCH_SECONDS)


def _role_of(claim: object) -> Role:
    """The strongest of the roles that the claim (one name, or a list of names) holds."""
    names = claim if isinstance(claim, list) else [claim]
    for role in (Role.OPERATOR, Role.TENANT, Role.AUDITOR):
        if role.value in names:
            return role
    raise CredentialsInvalid("this token carries no role of this cloud", "访问令牌中没有有效角色")


def _check_tenant(runtime: Runtime, tenant_id: object) -> None:
    with runtime.database.read() as session:
        if not isinstance(tenant_id, str) or session.get(Tenant, tenant_id) is None:
            raise CredentialsInvalid("this token names no tenant of this cloud", "访问令牌中的租户不存在")
