"""The catalogue: flavor types (a family of hardware) and flavors (sizes)."""

from datetime import datetime
from typing import Any

from sqlmodel import JSON, Field

from coordinator.store.column import UtcDateTime
from coordinator.store.tables.base import Timestamped, index_of_living


class FlavorType(Timestamped, table=True):
    """Hardware family; prices are kept as given, {billingMode, cycleType, cpuPrice, …}.

    The row stays after deletion, with `deleted_at` set: deleted instances refer to it.
    """

    __tablename__ = "flavor_type"
    # Names are free again once their row is deleted.
    __table_args__ = (index_of_living("uq_flavor_type_name", "name", unique=True),)

    id: int | None = Field(default=None, primary_key=True)
    deleted_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    flavor_type_id: str = Field(unique=True, max_length=32)
    spec_code: str = Field(max_length=32)
    name: str = Field(max_length=127)
    arch_type: str = Field(max_length=8)
    cpu_model: str = Field(max_length=127)
    vcpu_type: str = Field(max_length=32)
    az: str = Field(default="", max_length=63)
    device_type: str = Field(max_length=16)
    # "none", "1.0", "2.0" or "3.0".
    security_type: str = Field(default="none", max_length=8)
    gpu_type: str = Field(default="", max_length=16)
    gpu_product: str = Field(default="", max_length=127)
    local_disk_type: str = Field(default="none", max_length=16)
    local_disk_interface: str = Field(default="", max_length=16)
    local_disk_size: int = 0
    cpu_overscaling_ratio: int = 1
    is_dedicated_cpu: bool = False
    is_dedicated_mem: bool = False
    is_system_local_disk: bool = False
    v_numa: bool = False
    sriov: bool = False
    dept_available: bool = True
    rp_ids: list[str] = Field(default_factory=list, sa_type=JSON)
    prices: list[dict[str, Any]] = Field(default_factory=list, sa_type=JSON)


class Flavor(Timestamped, table=True):
    """A size within a flavor type. A custom one stands for any size: cpu and ram come with each request.

    The row stays after deletion, like its type's.
    """

    __table_args__ = (index_of_living("uq_flavor_flavor_type_id_name", "flavor_type_id", "name", unique=True),)

    id: int | None = Field(default=None, primary_key=True)
    deleted_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    flavor_id: str = Field(unique=True, max_length=32)
    flavor_type_id: str = Field(foreign_key="flavor_type.flavor_type_id", index=True)
    name: str = Field(max_length=127)
    cpu: int
    ram_gib: int
    gpu: int = 0
    local_disk: int = 0
    intranet_bw_max_gbps: int = 0
    vgpu_type_id: str = Field(default="", max_length=64)
    vgpu_type_name: str = Field(default="", max_length=127)
    vgpu_display_name: str = Field(default="", max_length=127)
    vgpu_memory_gib: int = 0
    use_elasticity_local_sys_disk: bool = False
    elasticity_local_sys_disk_size_gib: int = 0
    elasticity_local_data_disk_num: int = 0
    elasticity_local_data_disk_size_gib: int = 0
    sriov: int = 0
    is_custom: bool = False
    dept_available: bool = True
