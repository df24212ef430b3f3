"""Flavors on the wire."""

from typing import Annotated

from pydantic import AliasChoices, Field, computed_field

from coordinator.api.schemas.base import AnswerModel, LenientModel, Moment, zero_or
from coordinator.api.schemas.flavor_type import ExtraSpaceBody, FlavorTypeBody, Name
from coordinator.store.queries.flavor import FlavorUse
from coordinator.store.tables import Flavor


class CreateFlavorRequest(LenientModel):
    """A size within a flavor type."""

    flavor_type_id: str = Field(max_length=32, description="Flavor type that it belongs to.")
    name: Name
    cpu: int = Field(ge=1, le=256, description="vCPUs.", examples=[2])
    ram_gib: int = Field(validation_alias="ram", ge=1, le=1024, description="Memory, GiB.", examples=[4])
    local_disk: int = Field(default=0, ge=0, le=16, description="How many local disks.")
    intranet_bw_max_gbps: int = Field(
        default=0, validation_alias="intranetBWMax", ge=0, le=100, description="Bandwidth of the first NIC, Gbit/s."
    )
    gpu: int = Field(default=0, ge=0, le=16, description="GPUs (at most 8) or vGPUs (at most 16).")
    vgpu_type_id: str = Field(default="", max_length=64, description="Type of the vGPUs.", examples=["nvidia-231"])
    vgpu_type_name: str = Field(default="", max_length=127, description="Name of that type.")
    vgpu_display_name: str = Field(default="", max_length=127, description="Name people know that type by.")
    vgpu_memory_gib: int = Field(
        default=0, validation_alias="vgpuMemory", ge=0, le=1024, description="Memory of one vGPU, GB."
    )
    use_elasticity_local_sys_disk: bool = Field(default=False, description="The system disk is an elastic local disk.")
    elasticity_local_sys_disk_size_gib: Annotated[int, zero_or(20, 1024)] = Field(
        default=0, validation_alias="elasticityLocalSysDiskSize", description="Its size, GiB: 0 (none) or 20 to 1024."
    )
    elasticity_local_data_disk_num: int = Field(default=0, ge=0, le=4, description="How many elastic data disks.")
    elasticity_local_data_disk_size_gib: Annotated[int, zero_or(10, 16 * 1024)] = Field(
        default=0,
        validation_alias="elasticityLocalDataDiskSize",
        description="Their size, GiB: 0 (none) or 10 to 16384.",
    )
    sriov: int = Field(default=0, ge=0, le=256, description="SR-IOV network cards.")

    def to_row(self) -> Flavor:
        """The row that this asks for, without its own id."""
        return Flavor(**self.model_dump(), flavor_id="")


class UpdateFlavorRequest(LenientModel):
    """What of a flavor can change."""

    name: Name
    intranet_bw_max_gbps: int | None = Field(
        default=None, validation_alias="intranetBWMax", ge=0, le=100, description="Bandwidth of the first NIC, Gbit/s."
    )


class FlavorBody(AnswerModel):
    """A flavor, its type, and how much it is used."""

    flavor_id: str = Field(description="Id of the flavor.", examples=["flavor-h2t6r8wq"])
    name: str
    cpu: int = Field(description="vCPUs.")
    ram: int = Field(validation_alias=AliasChoices("ram_gib", "ram"), description="Memory, GiB.")
    gpu: int
    local_disk: int
    vgpu_type_id: str
    vgpu_type_name: str
    vgpu_display_name: str
    vgpu_memory: int = Field(validation_alias=AliasChoices("vgpu_memory_gib", "vgpuMemory"), description="GB.")
    use_elasticity_local_sys_disk: bool
    elasticity_local_sys_disk_size: int = Field(
        validation_alias=AliasChoices("elasticity_local_sys_disk_size_gib", "elasticityLocalSysDiskSize")
    )
    elasticity_local_data_disk_num: int
    elasticity_local_data_disk_size: int = Field(
        validation_alias=AliasChoices("elasticity_local_data_disk_size_gib", "elasticityLocalDataDiskSize")
    )
    is_custom: bool = Field(description="Stands for any size.")
    create_at: Moment = Field(validation_alias=AliasChoices("created_at", "createAt"))
    vm_count: int = Field(description="How many instances use it.")
    intranet_bw_max: int = Field(
        validation_alias=AliasChoices("intranet_bw_max_gbps", "intranetBWMax"),
        serialization_alias="intranetBWMax",
        description="Gbit/s.",
    )
    sriov: int
    extra_space: ExtraSpaceBody
    flavor_type: FlavorTypeBody
    dept_available: bool = Field(description="Whether it is offered.")

    @computed_field(alias="vgpuTypeid", description="The same as vgpuTypeId.")  # type: ignore[prop-decorator]
    @property
    def vgpu_type_id_lower(self) -> str:
        return self.vgpu_type_id

    @computed_field(alias="SpecCode", description="Code of the flavor type.")  # type: ignore[prop-decorator]
    @property
    def spec_code_capitalized(self) -> str:
        return self.flavor_type.spec_code

    @classmethod
    def of(cls, use: FlavorUse) -> "FlavorBody":
        flavor_type = FlavorTypeBody.of(use.type_use)
        return cls(
            **use.flavor.model_dump(exclude={"id", "deleted_at", "flavor_type_id", "updated_at"}),
            vm_count=use.instance_count,
            extra_space=flavor_type.extra_space,
            flavor_type=flavor_type,
        )


class FlavorListBody(AnswerModel):
    """One page of flavors."""

    flavors: list[FlavorBody]
    total_count: int = Field(description="On all pages together.")
