"""What callers send to give an instance another size."""

from pydantic import AliasChoices, Field

from coordinator.api.schemas.base import LenientModel
from coordinator.api.schemas.instance_request import HostGpusRequest, Text
from coordinator.domain.device_order import DeviceOrder
from coordinator.domain.resize import ResizeOrder


class ResizeMemoryRequest(LenientModel):
    """Memory that an instance shall have."""

    amount: Text = Field(default="", description="Amount with its unit; the flavor's unless given.", examples=["3Gi"])
    huge_page: Text | None = Field(default=None, description="Size of huge pages; those that it has unless given.")


class ResizeRequest(LenientModel):
    """A size."""

    cpus: int = Field(description="vCPUs.", examples=[2])
    memory: ResizeMemoryRequest = Field(description="Memory.")
    flavor_id: str = Field(min_length=1, max_length=1024, description="Flavor.", examples=["flavor-drlfrihy"])
    vgpus: int = Field(
        default=0, ge=0, le=64, validation_alias=AliasChoices("vgpus", "vgpu"), description="vGPUs: as many as it has."
    )
    host_gpus: HostGpusRequest | None = Field(default=None, description="Whole GPUs: those that it has.")
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
            devices=DeviceOrder(gpus=named.number, gpu_type=named.gpu_type, vgpus=self.vgpus),
        )
