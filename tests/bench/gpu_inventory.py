"""What is free on every node, in columns: a row is the same node in each."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from coordinator.scheduler.column import BoolColumn, IntColumn
from tests.bench.gpu_request import GPU_MILLI, GpuNode, GpuPlacement, GpuRequest


class GpuInventory:
    """The nodes of a cluster, and what was taken from them. Not safe for several threads at once."""

    def __init__(self, nodes: Sequence[GpuNode]) -> None:
        """Raises ValueError without a node."""
        if not nodes:
            raise ValueError("a cluster has a node at least")
        counts = np.array([node.gpu_count for node in nodes], np.int64)
        self.slots: Final = max(1, int(counts.max()))
        self.models: Final = tuple(sorted({node.model for node in nodes}))
        self.model: Final[IntColumn] = np.array([self.models.index(node.model) for node in nodes], np.int64)
        self.cpu_milli: Final[IntColumn] = np.array([node.cpu_milli for node in nodes], np.int64)
        self.memory_mib: Final[IntColumn] = np.array([node.memory_mib for node in nodes], np.int64)
        # One column a GPU; nodes with fewer have nothing in the last ones.
        self.gpu_milli: Final[IntColumn] = np.where(np.arange(self.slots) < counts[:, np.newaxis], GPU_MILLI, 0)
        self.largest_milli: Final[IntColumn] = self.gpu_milli.max(axis=1)
        self.whole_gpus: Final[IntColumn] = (self.gpu_milli == GPU_MILLI).sum(axis=1)
        # How many nodes have that many GPUs of which nothing is taken.
        self.nodes_by_whole: Final[IntColumn] = np.bincount(self.whole_gpus, minlength=self.slots + 1)
        self.free_gpu_milli = int(self.gpu_milli.sum())
        self.cpu_milli_per_gpu_milli: Final = float(self.cpu_milli.sum()) / max(1, self.free_gpu_milli)
        self._limits = (self.cpu_milli.copy(), self.memory_mib.copy(), self.gpu_milli.copy())

    def __len__(self) -> int:
        return len(self.model)

    def admit(self, request: GpuRequest) -> BoolColumn:
        """Which nodes have room for the request."""
        admitted: BoolColumn = (self.cpu_milli >= request.cpu_milli) & (self.memory_mib >= request.memory_mib)
        if request.gpu_count == 1:
            admitted &= self.largest_milli >= request.gpu_milli
        elif request.gpu_count:
            admitted &= self.whole_gpus >= request.gpu_count
        if request.gpu_count and request.models:
            admitted &= np.array([model in request.models for model in self.models])[self.model]
        return admitted

    def take(self, placement: GpuPlacement) -> None:
        """The node has that much less. Raises ValueError, and takes nothing, where it has not got it."""
        self._check_shape(placement)
        request, row, gpus = placement.request, placement.row, list(placement.gpus)
        if (
            self.cpu_milli[row] < request.cpu_milli
            or self.memory_mib[row] < request.memory_mib
            or (self.gpu_milli[row, gpus] < request.gpu_milli).any()
            or (gpus and request.models and self.models[self.model[row]] not in request.models)
        ):
            raise ValueError(f"node {row} has no room for {request} on GPUs {gpus}")
        self._shift(placement, -1)

    def release(self, placement: GpuPlacement) -> None:
        """The node has that much more. Raises ValueError, and gives nothing, if it would have more than it ever had."""
        self._check_shape(placement)
        request, row, gpus = placement.request, placement.row, list(placement.gpus)
        cpu_milli, memory_mib, gpu_milli = self._limits
        if (
            self.cpu_milli[row] + request.cpu_milli > cpu_milli[row]
            or self.memory_mib[row] + request.memory_mib > memory_mib[row]
            or (self.gpu_milli[row, gpus] + request.gpu_milli > gpu_milli[row, gpus]).any()
        ):
            raise ValueError(f"{request} was not taken from GPUs {gpus} of node {row}")
        self._shift(placement, 1)

    def _check_shape(self, placement: GpuPlacement) -> None:
        request, row, gpus = placement.request, placement.row, placement.gpus
        known = 0 <= row < len(self) and all(0 <= gpu < self.slots for gpu in gpus)
        if not known or len(gpus) != request.gpu_count or len(set(gpus)) != len(gpus):
            raise ValueError(f"{request} cannot have GPUs {list(gpus)} of node {row}")

    def _shift(self, placement: GpuPlacement, sign: int) -> None:
        request, row, gpus = placement.request, placement.row, list(placement.gpus)
        self.cpu_milli[row] += sign * request.cpu_milli
        self.memory_mib[row] += sign * request.memory_mib
        if not gpus:
            return
        left = self.gpu_milli[row]
        left[gpus] += sign * request.gpu_milli
        self.free_gpu_milli += sign * request.demand_milli
        self.largest_milli[row] = left.max()
        self.nodes_by_whole[self.whole_gpus[row]] -= 1
        self.whole_gpus[row] = np.count_nonzero(left == GPU_MILLI)
        self.nodes_by_whole[self.whole_gpus[row]] += 1
