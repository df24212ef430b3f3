"""Flavor types and the GPU catalogue on the wire."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, computed_field

from coordinator.api.schemas.base import AnswerModel, LenientModel, Moment
from coordinator.api.schemas.resource_pool import PoolReferenceBody
from coordinator.domain.gpu import GpuModel, VgpuType
from coordinator.store.queries.flavor import FlavorTypeUse
from coordinator.store.tables import FlavorType, ResourcePool

Name = Annotated[str, Field(min_length=1, max_length=127, description="Name people know it by.", examples=["general"])]


def _none_if_empty(value: Any) -> Any:
    return "none" if value == "" else value


def _fold_device_type(value: Any) -> Any:
    return "aiSpace" if isinstance(value, str) and value.lower() == "aispace" else value


def _without_empty(values: list[str]) -> list[str]:
    return [value for value in values if value]


DeviceType = Annotated[Literal["normal", "gpu", "vgpu", "aiSpace"], BeforeValidator(_fold_device_type)]
SecurityType = Annotated[Literal["none", "1.0", "2.0", "3.0"], BeforeValidator(_none_if_empty)]
LocalDiskType = Annotated[Literal["none", "hdd", "ssd", "elasticity"], BeforeValidator(_none_if_empty)]
PoolIds = Annotated[list[str], Field(max_length=100), AfterValidator(_without_empty)]
Price = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class ExtraSpace(LenientModel):
    """Topology of the instances."""

    v_numa: bool = Field(default=False, description="Virtual NUMA cells follow the node's.")
    sriov: bool = Field(default=False, description="Network cards are SR-IOV functions.")


class FlavorPrice(LenientModel):
    """Unit prices in one billing mode."""

    billing_mode: Literal["OnDemand", "ByCycle"] = Field(description="How it is paid for.", examples=["OnDemand"])
    cycle_type: str = Field(default="", max_length=32, description="Length of a cycle, where the mode has one.")
    cpu_price: Price = Field(description="Of one vCPU.")
    ram_price: Price = Field(description="Of one GiB of memory.")
    gpu_price: Price | None = Field(default=None, description="Of one GPU; needed for device type gpu.")
    gpu_memory_price: Price | None = Field(
        default=None, description="Of one GB of vGPU memory; needed for device type vgpu."
    )
    elasticity_local_disk_price: Price | None = Field(
        default=None, description="Of one GiB of elastic local disk; needed for local disk type elasticity."
    )


class CreateFlavorTypeRequest(LenientModel):
    """A family of hardware."""

    name: Name
    arch_type: Literal["x86", "arm"] = Field(description="Architecture of the CPUs.", examples=["x86"])
    cpu_model: str = Field(min_length=1, max_length=127, description="CPU model people see.", examples=["Icelake"])
    vcpu_type: Literal["host-passthrough", "custom", ""] = Field(
        default="", description="How guests see the CPU; custom for x86 and host-passthrough for arm unless given."
    )
    device_type: DeviceType = Field(description="What instances of it have besides CPU and memory.")
    security_type: SecurityType = Field(default="none", description="Trusted-computing level.", examples=["none"])
    local_disk_type: LocalDiskType = Field(default="none", description="Kind of local disks.")
    local_disk_interface: Literal["", "sata", "nvme"] = Field(default="", description="Interface of local disks.")
    local_disk_size: int = Field(default=0, ge=0, le=2**31 - 1, description="Size of one local disk, GiB.")
    prices: list[FlavorPrice] = Field(
        validation_alias="flavorPrices", min_length=1, max_length=16, description="Unit prices, one entry a mode."
    )
    rp_ids: PoolIds = Field(default_factory=list, description="Resource pools that it is bound to.")
    is_dedicated_cpu: bool = Field(
        default=False, validation_alias="isDedicatedCPU", description="vCPUs have host CPUs of their own."
    )
    is_dedicated_mem: bool = Field(default=False, description="Memory is reserved on the host.")
    create_custom_flavor: bool = Field(default=False, description="Also make a flavor that stands for any size.")
    az: str = Field(default="", max_length=63, description="Zone; empty for all.", examples=["AZ0"])
    is_system_local_disk: bool = Field(description="System disks are local disks.", examples=[False])
    gpu_type: str = Field(default="", max_length=16, description="PCI id of the GPU model.", examples=["10de1eb8"])
    cpu_overscaling_ratio: int | None = Field(
        default=None, ge=1, le=6, description="vCPUs for each host CPU; the region's ratio unless given."
    )
    extra_space: ExtraSpace = Field(default_factory=ExtraSpace, description="Topology of the instances.")

    def to_row(self) -> FlavorType:
        """The row that this asks for, without ids."""
        columns = self.model_dump(exclude={"create_custom_flavor", "extra_space", "prices", "cpu_overscaling_ratio"})
        return FlavorType(
            **columns,
            flavor_type_id="",
            spec_code="",
            v_numa=self.extra_space.v_numa,
            sriov=self.extra_space.sriov,
            cpu_overscaling_ratio=self.cpu_overscaling_ratio or 0,
            prices=[price.model_dump(by_alias=True, exclude_none=True) for price in self.prices],
        )


class UpdateFlavorTypeRequest(LenientModel):
    """New name and pools of a flavor type."""

    name: Name
    rp_ids: PoolIds = Field(default_factory=list, description="Resource pools; none unbinds all.")
    rp_id: str = Field(default="", max_length=32, description="One more resource pool.")

    @property
    def all_rp_ids(self) -> list[str]:
        """Both spellings together; empty ones mean none."""
        return list(dict.fromkeys(_without_empty([*self.rp_ids, self.rp_id])))


class ExtraSpaceBody(AnswerModel):
    """Topology of the instances."""

    v_numa: bool
    sriov: bool


class FlavorTypeBody(AnswerModel):
    """A flavor type and how much it is used."""

    flavor_type_id: str = Field(description="Id of the flavor type.", examples=["flavortype-k3v9x1qa"])
    spec_code: str = Field(description="Code for billing.", examples=["ecs.spec.w8d2m5zt"])
    name: str
    arch_type: str = Field(description="x86 or arm.")
    cpu_model: str
    vcpu_type: str = Field(description="custom or host-passthrough.")
    az: str = Field(description="Zone; empty for all.")
    dept_available: bool = Field(description="Whether it is offered.")
    create_at: Moment = Field(validation_alias=AliasChoices("created_at", "createAt"))
    flavor_count: int = Field(description="How many flavors it has.")
    device_type: str
    security_type: str
    gpu_type: str = Field(description="PCI id of the GPU model; empty without one.")
    gpu_product: str
    local_disk_type: str
    local_disk_interface: str
    local_disk_size: int
    cpu_overscaling_ratio: int
    rp_id: str = Field(description="First of the resource pools; empty without any.")
    rp_name: str
    resource_pools: list[PoolReferenceBody] | None = Field(description="Resource pools; null without any.")
    is_dedicated_cpu: bool = Field(alias="isDedicatedCPU")
    is_dedicated_mem: bool
    is_system_local_disk: bool
    vm_count: int = Field(description="How many instances use it.")
    extra_space: ExtraSpaceBody

    @computed_field(alias="SpecCode", description="The same as specCode.")  # type: ignore[prop-decorator]
    @property
    def spec_code_capitalized(self) -> str:
        return self.spec_code

    @computed_field(alias="flavorTypeid", description="The same as flavorTypeId.")  # type: ignore[prop-decorator]
    @property
    def flavor_type_id_lower(self) -> str:
        return self.flavor_type_id

    @classmethod
    def of(cls, use: FlavorTypeUse) -> "FlavorTypeBody":
        row = use.flavor_type
        return cls(
            **row.model_dump(include=cls.model_fields.keys() - {"create_at"}),
            create_at=row.created_at,
            flavor_count=use.flavor_count,
            vm_count=use.instance_count,
            **pool_fields(use.pools),
            extra_space=ExtraSpaceBody(v_numa=row.v_numa, sriov=row.sriov),
        )


def pool_fields(pools: Sequence[ResourcePool]) -> dict[str, Any]:
    """The fields that tell which pools a flavor type is bound to."""
    return {
        "rp_id": pools[0].id if pools else "",
        "rp_name": pools[0].name if pools else "",
        "resource_pools": [PoolReferenceBody.of(pool) for pool in pools] or None,
    }


class FlavorTypeListBody(AnswerModel):
    """One page of flavor types."""

    flavor_types: list[FlavorTypeBody]
    total_count: int = Field(description="On all pages together.")


class VgpuTypeBody(AnswerModel):
    """A type of vGPU."""

    type_id: str = Field(description="Id that the driver uses.", examples=["nvidia-231"])
    type_name: str = Field(examples=["GRID T4-2Q"])
    display_name: str = Field(description="Name people know it by.")
    memory_size: int = Field(description="Memory, MB.", examples=[2048])
    license_type: str = Field(description="Licence that guests need.", examples=["vWS"])

    @classmethod
    def of(cls, vgpu: VgpuType) -> "VgpuTypeBody":
        return cls(
            type_id=vgpu.type_id,
            type_name=vgpu.type_name,
            display_name=vgpu.display_name,
            memory_size=vgpu.memory_mib,
            license_type=vgpu.license,
        )


class GpuModelBody(AnswerModel):
    """A GPU model that flavor types can offer."""

    gpu_type: str = Field(description="PCI id of vendor and device.", examples=["10de1eb8"])
    product: str = Field(description="Name people know it by.", examples=["NVIDIA T4"])
    vendor: str
    support_vgpu: bool = Field(alias="supportVGPU", description="Whether it can be split into vGPUs.")
    vgpus: list[VgpuTypeBody]

    @classmethod
    def of(cls, model: GpuModel) -> "GpuModelBody":
        return cls(
            gpu_type=model.pci_id,
            product=model.product,
            vendor=model.vendor,
            support_vgpu=bool(model.vgpus),
            vgpus=[VgpuTypeBody.of(vgpu) for vgpu in model.vgpus],
        )


class GpuVendorBody(AnswerModel):
    """GPU models of one vendor."""

    vendor: str
    gpu_list: list[GpuModelBody]
