"""Tenants, their departments and resource groups."""

from sqlmodel import Field

from coordinator.store.tables.base import Timestamped


class Tenant(Timestamped, table=True):
    """Owner of instances, volumes and networks. A quota of None is unlimited."""

    id: str = Field(primary_key=True, max_length=19)
    name: str = Field(max_length=127, unique=True)
    quota_instances: int | None = None
    quota_vcpus: int | None = None
    quota_memory_gib: int | None = None
    quota_gpus: int | None = None
    quota_volumes: int | None = None
    quota_storage_gib: int | None = None


class Department(Timestamped, table=True):
    """Part of a tenant that instances are charged to."""

    id: str = Field(primary_key=True, max_length=19)
    tenant_id: str = Field(foreign_key="tenant.id", index=True)
    name: str = Field(max_length=127)


class ResourceGroup(Timestamped, table=True):
    """Free grouping of a tenant's resources."""

    __tablename__ = "resource_group"

    id: str = Field(primary_key=True, max_length=19)
    tenant_id: str = Field(foreign_key="tenant.id", index=True)
    department_id: str | None = Field(default=None, foreign_key="department.id")
    name: str = Field(max_length=127)
