"""What is asked of the GPUs of a cluster, and what is answered.

Shares of a GPU are in milli: 1000 is a whole one.
"""

from dataclasses import dataclass
from typing import Final

GPU_MILLI: Final = 1000


@dataclass(frozen=True, slots=True)
class GpuNode:
    """A node as it is when nothing is allocated on it; all its GPUs are of one model."""

    cpu_milli: int
    memory_mib: int
    gpu_count: int
    model: str


@dataclass(frozen=True, slots=True)
class GpuRequest:
    """No GPU, a share of one, or one or more whole ones of a single node (a gang).

    `gpu_milli` is wanted of each GPU. Without `models` any model will do.
    """

    cpu_milli: int
    memory_mib: int
    gpu_count: int = 0
    gpu_milli: int = 0
    models: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Raises ValueError for what is neither of the three."""
        if min(self.cpu_milli, self.memory_mib, self.gpu_count) < 0:
            raise ValueError("a request asks for less than nothing")
        if self.gpu_count == 0 and self.gpu_milli != 0:
            raise ValueError("a request without GPUs asks for a share")
        if self.gpu_count > 0 and not 0 < self.gpu_milli <= GPU_MILLI:
            raise ValueError(f"a share is 1 to {GPU_MILLI} milli, not {self.gpu_milli}")
        if self.gpu_count > 1 and self.gpu_milli != GPU_MILLI:
            raise ValueError("several GPUs can be had only whole")

    @property
    def is_share(self) -> bool:
        """Whether others may use the rest of the GPU."""
        return self.gpu_count == 1 and self.gpu_milli < GPU_MILLI

    @property
    def demand_milli(self) -> int:
        """What is wanted of all GPUs together."""
        return self.gpu_count * self.gpu_milli


@dataclass(frozen=True, slots=True)
class GpuPlacement:
    """A request, the row of its node and the indices of its GPUs there."""

    request: GpuRequest
    row: int
    gpus: tuple[int, ...]
