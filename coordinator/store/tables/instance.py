"""Instances and their labels."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index
from sqlmodel import JSON, BigInteger, Field, SQLModel, Text

from coordinator.domain.instance import InstanceStatus, PowerState
from coordinator.store.column import UtcDateTime
from coordinator.store.tables.base import Timestamped, index_of_living

# In the order of lists, and what lists are narrowed by: pages are found, and instances counted, without their rows.
# SQLite takes an index for sufficient only when it has the column of its own condition, too.
_LISTED = ("created_at", "id", "tenant_id", "status", "zone", "display_name", "deleted_at")


class Instance(Timestamped, table=True):
    """A virtual machine. The row stays after deletion, with `deleted_at` set."""

    __table_args__ = (
        # Narrow: what is counted most.
        index_of_living("ix_instance_counted", "status", "deleted_at"),
        index_of_living("ix_instance_listed", *_LISTED),
        *(
            index_of_living(f"ix_instance_listed_by_{first}", first, *(name for name in _LISTED if name != first))
            for first in ("status", "zone", "tenant_id")
        ),
        *(
            index_of_living(f"ix_instance_by_{first}", first, "created_at", "id", "deleted_at")
            for first in (
                "display_name",
                "department_id",
                "flavor_type_id",
                "flavor_id",
                "hg_id",
                "rp_id",
                "node_id",
            )
        ),
    )

    id: int | None = Field(default=None, primary_key=True)
    ecs_id: str = Field(unique=True, max_length=32)
    # Libvirt's UUID of the domain and the consumer of its allocations.
    uuid: str = Field(unique=True, max_length=36)
    deleted_at: datetime | None = Field(default=None, sa_type=UtcDateTime)

    tenant_id: str = Field(foreign_key="tenant.id")
    department_id: str = Field(max_length=32)
    resource_group_id: str = Field(default="", max_length=32)

    display_name: str = Field(max_length=127)
    host_name: str = Field(max_length=127)
    description: str = Field(default="", max_length=255)
    zone: str = Field(max_length=63)
    architecture: str = Field(max_length=8)
    os_type: str = Field(default="linux", max_length=16)

    flavor_id: str = Field(foreign_key="flavor.flavor_id")
    flavor_type_id: str = Field(foreign_key="flavor_type.flavor_type_id")
    vcpus: int
    memory_bytes: int = Field(sa_type=BigInteger)
    huge_page_bytes: int = Field(default=0, sa_type=BigInteger)
    # libvirt's name of the machine that the guest was first defined with; empty until then.
    machine: str = Field(default="", max_length=64)
    vcpu_type: str = Field(default="custom", max_length=32)
    security_type: str = Field(default="none", max_length=8)

    image_id: str | None = Field(default=None, foreign_key="image.id")
    image_source: str = Field(default="", max_length=16)
    node_id: str | None = Field(default=None, foreign_key="node.id")

    status: InstanceStatus = Field(max_length=32, sa_type=Text)
    power_state: PowerState = Field(default=PowerState.NONE, sa_type=Text)
    # Operation that is changing the instance now.
    task_id: str | None = Field(default=None, max_length=32)
    task_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    error_message: str = Field(default="", sa_type=Text)
    is_locked: bool = False
    # Started elsewhere when its node is lost and fenced.
    ha_enabled: bool = False
    # Increases with each change of the definition that the node must take over.
    generation: int = 1

    vmtools_status: str = Field(default="VmtoolsNotInstalled", max_length=32)
    vmtools_version: str = Field(default="", max_length=32)
    vmtools_probed_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    # Of the monitoring helper in the guest, when it was probed last; 0: there is none.
    monitor_version: int = 0

    # crypt(3) hash; the password itself is never stored.
    password_hash: str = Field(default="", max_length=255)
    ssh_public_keys: list[str] = Field(default_factory=list, sa_type=JSON)
    # As given, base64.
    user_data: str = Field(default="", sa_type=Text)
    # Encrypted with the coordinator's secret key.
    vnc_password_encrypted: str = Field(default="", max_length=255)
    vnc_password_enabled: bool = False

    billing_mode: str = Field(default="OnDemand", max_length=16)
    order_no: str = Field(default="", max_length=32)
    rp_id: str = Field(default="", max_length=32)
    hg_id: str = Field(default="", max_length=32)
    deployment_set: str = Field(default="", max_length=32, index=True)
    # Fields of the request that are kept and answered as given: bOperate, bCreateOrder, bUpdateQuotas, cwpEnable, …
    options: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)


class InstanceLabel(SQLModel, table=True):
    """A key and value that the tenant attached."""

    __tablename__ = "instance_label"
    __table_args__ = (Index("ix_instance_label_listed", "key", "value", "created_at", "instance_id"),)

    instance_id: int = Field(primary_key=True, foreign_key="instance.id")
    key: str = Field(primary_key=True, max_length=127)
    value: str = Field(default="", max_length=127)
    # The instance's: those that have a label are found in the order of lists.
    created_at: datetime = Field(sa_type=UtcDateTime)
