"""What callers send to give an instance another size."""

from typing import Literal

from pydantic import AliasChoices, Field

from coordinator.api.schemas.base import LenientModel
from coordinator.api.schemas.instance_request import HostGpusRequest, Text
from coordinator.domain.device_order import DeviceOrder, InfinibandOrder
from coordinator.domain.resize import ResizeOrder


class ResizeMemoryRequest(LenientModel):
    """Memory that an instance shall have."""

    amount: Text = Field(default="", description="Amount with its unit; the flavor's unless given.", examples=["3Gi"])
    huge_page: Text | None = Field(default=None, description="Size of huge pages; those that it has unless given.")


class AdapterRequest(LenientModel):
    """An InfiniBand adapter that an instance shall have."""

    network_type: Literal["IBNic"] = Field(default="IBNic", description="Interfaces of networks stay as they are.")
    vendor_id: Text = Field(default="", description="PCI id of the vendor; any unless given.", examples=["15b3"])
    product_id: Text = Field(default="", description="PCI id of the adapter; any unless given.", examples=["1021"])


class ResizeRequest(LenientModel):
    """A size."""

    cpus: int = Field(description="vCPUs.", examples=[2])
    memory: ResizeMemoryRequest = Field(description="Memory.")
    flavor_id: str = Field(min_length=1, max_length=1024, description="Flavor.", examples=["flavor-drlfrihy"])
    vgpus: int = Field(
        default=0,
        ge=0,
        le=64,
        validation_alias=AliasChoices("vgpus", "vgpu"),
        description="vGPUs: those of the flavor.",
    )
    host_gpus: HostGpusRequest | None = Field(
        default=None, description="Whole GPUs: those of the flavor; of a custom one those that it has, unless given."
    )
    local_disk: int | None = Field(
        default=None,
        ge=0,
        le=64,
        description="Local disks with the flavor's. Unless given, as many beside them as it has, and none goes.",
    )
    sriov: int | None = Field(
        default=None, ge=0, le=64, description="Virtual functions with the flavor's; unless given, likewise."
    )
    networks: list[AdapterRequest] | None = Field(
        default=None, max_length=8, description="InfiniBand adapters; those that it has unless given."
    )
    rp_id: Text = Field(default="", description="Resource pool that it shall be in.")

    def to_order(self) -> ResizeOrder:
        """The same in our words."""
        named = self.host_gpus or HostGpusRequest()
        return ResizeOrder(
            cpu_count=self.cpus,
            memory_amount=self.memory.amount,
            flavor_id=self.flavor_id,
            huge_page=self.memory.huge_page,
            pool_id=self.rp_id,
            devices=DeviceOrder(gpus=named.number, gpu_type=named.gpu_type.strip().lower(), vgpus=self.vgpus),
            local_disks=self.local_disk,
            functions=self.sriov,
            infiniband=self._infiniband,
        )

    @property
    def _infiniband(self) -> tuple[InfinibandOrder, ...] | None:
        if self.networks is None:
            return None
        return tuple(InfinibandOrder(it.vendor_id.lower(), it.product_id.lower()) for it in self.networks)
