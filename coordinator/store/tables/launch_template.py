"""Launch templates: orders of instances to be made again."""

from datetime import datetime
from typing import Any

from sqlalchemy import UniqueConstraint
from sqlmodel import JSON, Field, SQLModel

from coordinator.store.column import UtcDateTime
from coordinator.store.tables.base import Timestamped


class LaunchTemplate(Timestamped, table=True):
    """A named template; what it orders is in its versions."""

    __tablename__ = "launch_template"
    __table_args__ = (UniqueConstraint("tenant_id", "name"),)

    id: str = Field(primary_key=True, max_length=32)
    name: str = Field(max_length=127)
    description: str = Field(default="", max_length=255)
    tenant_id: str = Field(foreign_key="tenant.id", max_length=19)
    department_id: str = Field(max_length=19)
    resource_group_id: str = Field(default="", max_length=19)
    # Its flavor has a size of its own, which the order does not choose.
    standard_flavor: bool = True
    # What is made when no version is asked for, and the newest one.
    default_version: int = 1
    current_version: int = 1


class LaunchTemplateVersion(SQLModel, table=True):
    """What a template orders; never changed once it is there."""

    __tablename__ = "launch_template_version"

    template_id: str = Field(primary_key=True, foreign_key="launch_template.id", max_length=32)
    version: int = Field(primary_key=True)
    # See coordinator.services.launch_order: without passwords, addresses and hosts.
    order: dict[str, Any] = Field(sa_type=JSON)
    created_at: datetime = Field(sa_type=UtcDateTime)
