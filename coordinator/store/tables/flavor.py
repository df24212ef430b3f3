"""The catalogue: flavor types (a family of hardware) and flavors (sizes)."""

from typing import Any

from sqlmodel import JSON, Field

from coordinator.store.tables.base import Timestamped


class FlavorType(Timestamped, table=True):
    """Hardware family; prices are kept as given, {billingMode, cycleType, cpuPrice, …}."""

    __tablename__ = "flavor_type"

    id: int | None = Field(default=None, primary_key=True)
    flavor_type_id: str = Field(unique=True, max_length=32)
    spec_code: str = Field(max_length=32)
    name: str = Field(max_length=127, index=True)
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
    """A size within a flavor type. A custom one stands for any size: cpu and ram come with each request."""

    id: int | None = Field(default=None, primary_key=True)
    flavor_id: str = Field(unique=True, max_length=32)
    flavor_type_id: str = Field(foreign_key="flavor_type.flavor_type_id", index=True)
    name: str = Field(max_length=127, index=True)
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
