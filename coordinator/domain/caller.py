"""Who makes a request, as every service sees it."""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a caller may do: everything, its tenant's own things, or look at everything."""

    OPERATOR = "operator"
    TENANT = "tenant"
    AUDITOR = "auditor"


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller; only one of role `tenant` is confined to its tenant."""

    # Id of the API token, or "oidc:<subject>" for a token of the configured issuer.
    token_id: str
    role: Role
    tenant_id: str | None = None
    # "zh" or "en".
    language: str = "zh"
    request_id: str = ""
    idempotency_key: str = ""

    @property
    def is_operator(self) -> bool:
        return self.role == Role.OPERATOR

    @property
    def is_tenant(self) -> bool:
        """Bound to its own tenant's resources."""
        return self.role == Role.TENANT

    def may_see(self, tenant_id: str | None) -> bool:
        """Whether resources of that tenant exist for this caller; those of nobody (None) exist for everybody."""
        return not self.is_tenant or tenant_id is None or tenant_id == self.tenant_id
