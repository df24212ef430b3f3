"""What is asked of the GPUs of a cluster.

Shares of a GPU are in milli: 1000 is a whole one.
"""

from dataclasses import dataclass

from coordinator.domain.device import WHOLE_MILLI, DeviceKind, DeviceWish
from coordinator.domain.placement import Consumer, ResourceClass


@dataclass(frozen=True, slots=True)
class GpuRequest:
    """No GPU, a share of one, or one or more whole ones of a single host (a gang)."""

    vcpus: int
    memory_mib: int
    # None: no GPU.
    wish: DeviceWish | None = None

    @property
    def gpu_count(self) -> int:
        return self.wish.count if self.wish else 0

    @property
    def gpu_milli(self) -> int:
        """Wanted of each GPU."""
        return self.wish.milli if self.wish else 0

    @property
    def is_share(self) -> bool:
        """Whether others may use the rest of the GPU."""
        return self.wish is not None and self.wish.milli < WHOLE_MILLI

    @property
    def demand_milli(self) -> int:
        """What is wanted of all GPUs together."""
        return self.gpu_count * self.gpu_milli


def gpu_request_of(consumer: Consumer) -> GpuRequest:
    """What the consumer asks for, other devices left out; of several wishes for GPUs the first."""
    amounts = consumer.resources
    return GpuRequest(
        amounts.get(ResourceClass.VCPU, 0) + amounts.get(ResourceClass.DEDICATED_VCPU, 0),
        amounts.get(ResourceClass.MEMORY_MIB, 0),
        next((wish for wish in consumer.devices if wish.kind == DeviceKind.GPU), None),
    )
