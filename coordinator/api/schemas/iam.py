"""Tokens, tenants, departments and resource groups on the wire."""

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field

from coordinator.api.schemas.base import AnswerModel, LenientModel, Moment
from coordinator.domain.caller import Role
from coordinator.services.credential import NewToken
from coordinator.services.tenancy import Identity, Quota
from coordinator.store.tables import ApiToken, Department, ResourceGroup, Tenant

_LIMIT_MAXIMUM = 2**31 - 1

Limit = Annotated[int | None, Field(ge=0, le=_LIMIT_MAXIMUM)]
Name = Annotated[str, Field(min_length=1, max_length=127, description="1 to 127 characters.", examples=["research"])]
TenantId = Annotated[str, Field(max_length=19, description="Id of the tenant.", examples=["5118230459872310447"])]


def _aware_or_never(moment: datetime | None) -> datetime | None:
    """The year 1 stands for never; without an offset UTC is meant."""
    if moment is None or moment.year == 1:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


class CreateTokenRequest(LenientModel):
    """A token to be made."""

    name: Name
    role: Role = Field(default=Role.TENANT, description="What its bearer may do.")
    tenant_id: str = Field(default="", max_length=19, description="Tenant it acts for; required for role tenant.")
    expires_at: Annotated[datetime | None, AfterValidator(_aware_or_never)] = Field(
        default=None, description="When it stops working; absent: never.", examples=["2027-01-01T00:00:00Z"]
    )


class TokenBody(AnswerModel):
    """A token, without what it is made of."""

    token_id: str = Field(description="Id of the token; not a secret.", examples=["tok-4f8j2m6q1x9z3c"])
    name: str
    role: Role
    tenant_id: str | None = Field(description="Tenant it acts for; null: none.")
    expires_at: Moment = Field(description="Year 1: never.")
    last_used_at: Moment = Field(description="To some minutes; year 1: never.")
    created_at: Moment

    @classmethod
    def of(cls, row: ApiToken) -> "TokenBody":
        return cls(**_shown(row))


class NewTokenBody(TokenBody):
    """A token that was just made."""

    token: str = Field(description="The bearer token itself. Shown only now: keep it.", examples=["nwt_..."])

    @classmethod
    def of_new(cls, made: NewToken) -> "NewTokenBody":
        return cls(**_shown(made.row), token=made.secret)


class TokenListBody(AnswerModel):
    """One page of tokens."""

    items: list[TokenBody] = Field(alias="list")
    total_count: int = Field(description="On all pages together.")


class IdentityBody(AnswerModel):
    """Who the bearer of the credentials is."""

    role: Role
    tenant_id: str | None = Field(description="Tenant that it acts for; null: none.")
    tenant_name: str
    department_id: str = Field(description="The tenant's first department; empty without a tenant.")
    token_id: str
    region: str = Field(description="Region of this coordinator, as other calls name it.", examples=["region0"])

    @classmethod
    def of(cls, identity: Identity) -> "IdentityBody":
        caller = identity.caller
        return cls(
            role=caller.role,
            tenant_id=caller.tenant_id,
            tenant_name=identity.tenant_name,
            department_id=identity.department_id,
            token_id=caller.token_id,
            region=identity.region,
        )


class QuotaRequest(LenientModel):
    """Limits; one that is not given stays as it is, null lifts it."""

    null_means_absent: ClassVar[bool] = False

    instances: Limit = Field(default=None, description="Instances.", examples=[10])
    vcpus: Limit = Field(default=None, description="vCPUs of all instances.")
    ram: Limit = Field(default=None, description="Memory of all instances, GiB.")
    gpus: Limit = Field(default=None, description="GPUs of all instances.")
    volumes: Limit = Field(default=None, description="Volumes.")
    storage: Limit = Field(default=None, description="Size of all volumes, GiB.")

    def given(self) -> dict[str, int | None]:
        """The limits that the request names, as the service calls them."""
        names = {"ram": "memory_gib", "storage": "storage_gib"}
        return {names.get(name, name): getattr(self, name) for name in self.model_fields_set}


class QuotaBody(AnswerModel):
    """How much a tenant may use; null is unlimited."""

    instances: int | None
    vcpus: int | None
    ram: int | None = Field(description="GiB.")
    gpus: int | None
    volumes: int | None
    storage: int | None = Field(description="GiB.")


class CreateTenantRequest(LenientModel):
    """A tenant to be made, with its first department."""

    name: Name
    quota: QuotaRequest = Field(default_factory=QuotaRequest, description="Limits; those not given are unlimited.")

    def to_quota(self) -> Quota:
        """The limits as the service takes them."""
        return Quota(**self.quota.given())


class RenameRequest(LenientModel):
    """A new name."""

    name: Name


class TenantBody(AnswerModel):
    """A tenant and its limits."""

    tenant_id: TenantId
    name: str
    quota: QuotaBody
    created_at: Moment
    updated_at: Moment

    @classmethod
    def of(cls, row: Tenant) -> "TenantBody":
        quota = QuotaBody(
            instances=row.quota_instances,
            vcpus=row.quota_vcpus,
            ram=row.quota_memory_gib,
            gpus=row.quota_gpus,
            volumes=row.quota_volumes,
            storage=row.quota_storage_gib,
        )
        return cls(tenant_id=row.id, name=row.name, quota=quota, created_at=row.created_at, updated_at=row.updated_at)


class TenantListBody(AnswerModel):
    """One page of tenants."""

    items: list[TenantBody] = Field(alias="list")
    total_count: int = Field(description="On all pages together.")


class CreateDepartmentRequest(LenientModel):
    """A department to be made."""

    tenant_id: TenantId
    name: Name


class DepartmentBody(AnswerModel):
    """Part of a tenant that instances are charged to."""

    department_id: str = Field(description="Id of the department.", examples=["2760914483305512896"])
    tenant_id: TenantId
    name: str
    created_at: Moment

    @classmethod
    def of(cls, row: Department) -> "DepartmentBody":
        return cls(department_id=row.id, **_described(row))


class DepartmentListBody(AnswerModel):
    """One page of departments."""

    items: list[DepartmentBody] = Field(alias="list")
    total_count: int = Field(description="On all pages together.")


class CreateResourceGroupRequest(LenientModel):
    """A resource group to be made."""

    tenant_id: str = Field(default="", max_length=19, description="Id of the tenant; absent: the caller's own.")
    department_id: str = Field(default="", max_length=19, description="Department it belongs to; absent: none.")
    name: Name


class ResourceGroupBody(AnswerModel):
    """Free grouping of a tenant's resources."""

    resource_group_id: str = Field(description="Id of the resource group.", examples=["7330518862094471168"])
    tenant_id: TenantId
    department_id: str | None = Field(description="Department that it belongs to; null: none.")
    name: str
    created_at: Moment

    @classmethod
    def of(cls, row: ResourceGroup) -> "ResourceGroupBody":
        return cls(resource_group_id=row.id, department_id=row.department_id, **_described(row))


class ResourceGroupListBody(AnswerModel):
    """One page of resource groups."""

    items: list[ResourceGroupBody] = Field(alias="list")
    total_count: int = Field(description="On all pages together.")


def _shown(row: ApiToken) -> dict[str, Any]:
    return {"token_id": row.id, **row.model_dump(exclude={"id", "token_hash", "updated_at"})}


def _described(row: Department | ResourceGroup) -> dict[str, Any]:
    return {"tenant_id": row.tenant_id, "name": row.name, "created_at": row.created_at}
