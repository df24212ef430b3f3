"""Deployment sets: which instances of a tenant shall run together or apart."""

from sqlalchemy import UniqueConstraint
from sqlmodel import Field

from coordinator.store.tables.base import Timestamped


class DeploymentSet(Timestamped, table=True):
    """The policies of a set; its members name it. A policy is a coordinator.domain.deployment.Policy."""

    __tablename__ = "deployment_set"
    __table_args__ = (UniqueConstraint("tenant_id", "name"),)

    id: str = Field(primary_key=True, max_length=32)
    name: str = Field(max_length=127)
    tenant_id: str = Field(foreign_key="tenant.id", max_length=19)
    department_id: str = Field(max_length=19)
    resource_group_id: str = Field(default="", max_length=19)
    host_policy: str = Field(default="", max_length=32)
    rack_policy: str = Field(default="", max_length=32)
    switch_policy: str = Field(default="", max_length=32)
    net_switch_policy: str = Field(default="", max_length=32)
