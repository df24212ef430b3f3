"""The two ways in which an instance tells its flavor: as stored (`flavorInfo`) and as in the catalogue (`flavor`)."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, computed_field

from coordinator.api.schemas.base import AnswerModel, Moment
from coordinator.api.schemas.flavor_type import ExtraSpaceBody, pool_fields
from coordinator.api.schemas.resource_pool import PoolReferenceBody
from coordinator.store.tables import Flavor, FlavorType, ResourcePool


class _FlavorFields(AnswerModel):
    """What both ways tell of a flavor."""

    flavor_id: str
    name: str
    cpu: int
    ram: int = Field(description="GiB.")
    gpu: int
    is_custom: bool
    local_disk: int
    intranet_bw_max: int = Field(alias="intranetBWMax", description="Gbit/s.")
    vgpu_type_id: str
    vgpu_type_name: str
    vgpu_display_name: str
    vgpu_memory: int = Field(description="GB.")
    use_elasticity_local_sys_disk: bool
    elasticity_local_sys_disk_size: int = Field(description="GiB.")
    elasticity_local_data_disk_num: int
    elasticity_local_data_disk_size: int = Field(description="GiB.")
    sriov: int


class _FlavorTypeFields(AnswerModel):
    """What both ways tell of a flavor type."""

    flavor_type_id: str
    name: str
    arch_type: str
    cpu_model: str
    vcpu_type: str
    az: str
    device_type: str
    security_type: str
    local_disk_type: str
    local_disk_interface: str
    local_disk_size: int
    cpu_overscaling_ratio: int
    rp_id: str
    is_dedicated_cpu: bool = Field(alias="isDedicatedCPU")
    is_dedicated_mem: bool
    is_system_local_disk: bool
    extra_space: ExtraSpaceBody


class InstanceFlavorTypeInfoBody(_FlavorTypeFields):
    """A flavor type as stored."""

    id: int
    spec_code: str
    gpu_type: str = Field(alias="GPUType")
    gpu_product: str = Field(alias="GPUProduct")
    created_at: Moment
    updated_at: Moment
    deleted_at: Moment | None
    flavor_prices: None = None
    flavors: None = None

    @classmethod
    def of(cls, flavor_type: FlavorType) -> "InstanceFlavorTypeInfoBody":
        stored = ("id", "spec_code", "gpu_type", "gpu_product", "created_at", "updated_at", "deleted_at")
        return cls(**_flavor_type_fields(flavor_type), **_fields_of(flavor_type, *stored))


class InstanceFlavorInfoBody(_FlavorFields):
    """A flavor as stored."""

    id: int
    flavor_type_id: str
    spec_code: str
    created_at: Moment
    updated_at: Moment
    deleted_at: Moment | None
    flavor_type: InstanceFlavorTypeInfoBody

    @classmethod
    def of(cls, flavor: Flavor, flavor_type: InstanceFlavorTypeInfoBody) -> "InstanceFlavorInfoBody":
        return cls(
            **_flavor_fields(flavor),
            **_fields_of(flavor, "id", "flavor_type_id", "created_at", "updated_at", "deleted_at"),
            spec_code=flavor_type.spec_code,
            flavor_type=flavor_type,
        )


class InstanceFlavorTypeBody(_FlavorTypeFields):
    """A flavor type as the catalogue shows it, without its counts."""

    spec_code: str
    gpu_type: str
    gpu_product: str
    dept_available: bool
    create_at: Moment
    flavor_count: int = Field(default=0, description="Not counted here.")
    vm_count: int = Field(default=0, description="Not counted here.")
    rp_name: str
    resource_pools: list[PoolReferenceBody] | None

    @computed_field(alias="SpecCode", description="The same as specCode.")  # type: ignore[prop-decorator]
    @property
    def spec_code_capitalized(self) -> str:
        return self.spec_code

    @classmethod
    def of(cls, flavor_type: FlavorType, pools: Sequence[ResourcePool]) -> "InstanceFlavorTypeBody":
        return cls(
            **{**_flavor_type_fields(flavor_type), **pool_fields(pools)},
            **_fields_of(flavor_type, "spec_code", "gpu_type", "gpu_product", "dept_available"),
            create_at=flavor_type.created_at,
        )


class InstanceFlavorBody(_FlavorFields):
    """A flavor as the catalogue shows it, without its counts."""

    spec_code: str = Field(alias="SpecCode")
    dept_available: bool
    create_at: Moment
    vm_count: int = Field(default=0, description="Not counted here.")
    flavor_type: InstanceFlavorTypeBody

    @computed_field(alias="vgpuTypeid", description="The same as vgpuTypeId.")  # type: ignore[prop-decorator]
    @property
    def vgpu_type_id_lower(self) -> str:
        return self.vgpu_type_id

    @classmethod
    def of(cls, flavor: Flavor, flavor_type: InstanceFlavorTypeBody) -> "InstanceFlavorBody":
        return cls(
            **_flavor_fields(flavor),
            spec_code=flavor_type.spec_code,
            dept_available=flavor.dept_available,
            create_at=flavor.created_at,
            flavor_type=flavor_type,
        )


class FlavorBodies:
    """Both ways for the instances of one list: made once for all that share a flavor, or its type."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[InstanceFlavorInfoBody, InstanceFlavorBody]] = {}
        self._types: dict[str, tuple[InstanceFlavorTypeInfoBody, InstanceFlavorTypeBody]] = {}

    def of(
        self, flavor: Flavor, flavor_type: FlavorType, pools: Mapping[str, ResourcePool]
    ) -> tuple[InstanceFlavorInfoBody, InstanceFlavorBody]:
        """As stored, and as in the catalogue; `pools` holds at least those that the type is bound to."""
        made = self._made.get(flavor.flavor_id)
        if made is None:
            info, body = self._type_of(flavor_type, pools)
            made = (InstanceFlavorInfoBody.of(flavor, info), InstanceFlavorBody.of(flavor, body))
            self._made[flavor.flavor_id] = made
        return made

    def _type_of(
        self, flavor_type: FlavorType, pools: Mapping[str, ResourcePool]
    ) -> tuple[InstanceFlavorTypeInfoBody, InstanceFlavorTypeBody]:
        made = self._types.get(flavor_type.flavor_type_id)
        if made is None:
            bound = [pools[rp_id] for rp_id in flavor_type.rp_ids if rp_id in pools]
            made = (InstanceFlavorTypeInfoBody.of(flavor_type), InstanceFlavorTypeBody.of(flavor_type, bound))
            self._types[flavor_type.flavor_type_id] = made
        return made


_RENAMED = {
    "ram": "ram_gib",
    "intranet_bw_max": "intranet_bw_max_gbps",
    "vgpu_memory": "vgpu_memory_gib",
    "elasticity_local_sys_disk_size": "elasticity_local_sys_disk_size_gib",
    "elasticity_local_data_disk_size": "elasticity_local_data_disk_size_gib",
}


def _fields_of(row: Flavor | FlavorType, *names: str) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}


def _flavor_fields(flavor: Flavor) -> dict[str, object]:
    return {name: getattr(flavor, _RENAMED.get(name, name)) for name in _FlavorFields.model_fields}


def _flavor_type_fields(flavor_type: FlavorType) -> dict[str, object]:
    copied = _FlavorTypeFields.model_fields.keys() - {"rp_id", "extra_space"}
    return {
        **{name: getattr(flavor_type, name) for name in copied},
        "rp_id": flavor_type.rp_ids[0] if flavor_type.rp_ids else "",
        "extra_space": ExtraSpaceBody(v_numa=flavor_type.v_numa, sriov=flavor_type.sriov),
    }
