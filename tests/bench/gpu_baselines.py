"""Published policies of GPU placement, to compare with: Random, BestFit, Packing and FGD.

FGD is fragmentation gradient descent (Weng et al., "Beware of Fragmentation", USENIX ATC 2023): it places a request
where the expected GPU milli that a typical request cannot use grow least. It knows the mix of requests beforehand.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from coordinator.scheduler.column import BoolColumn, FloatColumn, IntColumn
from tests.bench.gpu_inventory import GpuInventory
from tests.bench.gpu_request import GPU_MILLI, GpuNode, GpuPlacement, GpuRequest

# The part of all requests whose kinds, the most frequent first, FGD calls typical.
TYPICAL: Final = 0.95
# FGD's scores are whole numbers from 0 to 100, of a sigmoid over the milli gained; BestFit's and Packing's likewise.
SCORE_TOP: Final = 100
# BestFit adds up what is left of CPUs and GPUs, as shares of the largest node.
CPU_WEIGHT = GPU_WEIGHT = 0.5


class Policy(Protocol):
    """Places requests one after the other."""

    @property
    def inventory(self) -> GpuInventory:
        """What is free."""

    def place(self, request: GpuRequest) -> GpuPlacement | None:
        """Where the request is now; None, when no node has room for it."""


class Baseline:
    """A policy that scores the nodes with room; the best is chosen, the first of equals."""

    def __init__(self, nodes: Sequence[GpuNode]) -> None:
        self.inventory = GpuInventory(nodes)

    def place(self, request: GpuRequest) -> GpuPlacement | None:
        """See Policy."""
        rows = np.flatnonzero(self.inventory.admit(request))
        if len(rows) == 0:
            return None
        row = int(rows[self.score(request, rows).argmax()])
        placement = GpuPlacement(request, row, self.pick(request, row))
        self.inventory.take(placement)
        return placement

    def score(self, request: GpuRequest, rows: IntColumn) -> FloatColumn:
        """How good each of these nodes is."""
        raise NotImplementedError

    def pick(self, request: GpuRequest, row: int) -> tuple[int, ...]:
        """The GPUs on the node: a share where it leaves least."""
        gpus = self.inventory.gpu_milli[row]
        if request.is_share:
            return (int(np.where(gpus >= request.gpu_milli, gpus, GPU_MILLI + 1).argmin()),)
        return tuple(np.flatnonzero(gpus == GPU_MILLI)[: request.gpu_count].tolist())


class Random(Baseline):
    """Any node, any of its GPUs."""

    def __init__(self, nodes: Sequence[GpuNode], seed: int) -> None:
        super().__init__(nodes)
        self._random = np.random.default_rng(seed)

    def score(self, request: GpuRequest, rows: IntColumn) -> FloatColumn:
        """See Baseline."""
        return self._random.random(len(rows))

    def pick(self, request: GpuRequest, row: int) -> tuple[int, ...]:
        """See Baseline."""
        if not request.is_share:
            return super().pick(request, row)
        return (int(self._random.choice(np.flatnonzero(self.inventory.gpu_milli[row] >= request.gpu_milli))),)


class BestFit(Baseline):
    """The node with least left of CPUs and GPUs."""

    def __init__(self, nodes: Sequence[GpuNode]) -> None:
        super().__init__(nodes)
        self._cpu_milli = max(1, *(node.cpu_milli for node in nodes))
        self._gpu_milli = GPU_MILLI * self.inventory.slots

    def score(self, request: GpuRequest, rows: IntColumn) -> FloatColumn:
        """See Baseline."""
        cpu_left = (self.inventory.cpu_milli[rows] - request.cpu_milli) / self._cpu_milli
        gpu_left = (self.inventory.gpu_milli[rows].sum(axis=1) - request.demand_milli) / self._gpu_milli
        scores: FloatColumn = np.floor(SCORE_TOP * (1 - CPU_WEIGHT * cpu_left - GPU_WEIGHT * gpu_left))
        return scores


class Packing(Baseline):
    """GPUs in use before idle GPUs of nodes in use before idle nodes; the fullest GPU, the fewest idle GPUs."""

    # The scores of the three groups lie above one another.
    _SHARED, _IDLE_GPU = 50, 33

    def __init__(self, nodes: Sequence[GpuNode]) -> None:
        super().__init__(nodes)
        self._gpu_count = np.array([node.gpu_count for node in nodes])

    def score(self, request: GpuRequest, rows: IntColumn) -> FloatColumn:
        """See Baseline."""
        if not request.gpu_count:
            return np.zeros(len(rows))
        gpus, whole = self.inventory.gpu_milli[rows], self.inventory.whole_gpus[rows]
        fullest = np.where(gpus >= request.gpu_milli, gpus, GPU_MILLI).min(axis=1)
        shared = np.maximum(SCORE_TOP - fullest // 100, self._SHARED)
        idle_gpu = max(self._SHARED - request.gpu_count, self._IDLE_GPU)
        idle_node = np.maximum(self._IDLE_GPU - whole, 0)
        scores = np.where(fullest < GPU_MILLI, shared, idle_gpu)
        return np.where(whole == self._gpu_count[rows], idle_node, scores).astype(np.float64)


class TypicalMix:
    """Frequent kinds of requests, for the measure of fragmentation. They differ by CPUs, GPUs and models alone."""

    def __init__(self, requests: Iterable[GpuRequest], models: Sequence[str], part: float = TYPICAL) -> None:
        """The most frequent kinds that are `part` of `requests` together."""
        counts = Counter((it.cpu_milli, it.gpu_count, it.gpu_milli, it.models) for it in requests)
        kinds, total = [], 0
        for kind, count in counts.most_common():
            if total >= part * counts.total():
                break
            kinds.append(kind)
            total += count
        self._chance = np.array([counts[kind] for kind in kinds]) / total
        self._cpu_milli, self._gpu_count, self._gpu_milli = (np.array([it[at] for it in kinds]) for at in range(3))
        self._accepts = np.array([[not kind[3] or model in kind[3] for kind in kinds] for model in models])

    def fragmentation(self, cpu_milli: IntColumn, gpu_milli: NDArray[np.int64], model: IntColumn) -> FloatColumn:
        """Expected GPU milli of each node that a request of the mix cannot use.

        All that is free where the request does not fit or wants no GPU; else the GPUs with less left than it wants.
        """
        large = gpu_milli[:, np.newaxis, :] >= self._gpu_milli[:, np.newaxis]
        fits = (cpu_milli[:, np.newaxis] >= self._cpu_milli) & self._accepts[model]
        fits &= (self._gpu_count > 0) & (large.sum(axis=2) >= self._gpu_count)
        small_milli = (gpu_milli[:, np.newaxis, :] * ~large).sum(axis=2)
        expected: FloatColumn = np.where(fits, small_milli, gpu_milli.sum(axis=1)[:, np.newaxis]) @ self._chance
        return expected


class Fgd(Baseline):
    """Where fragmentation grows least."""

    def __init__(self, nodes: Sequence[GpuNode], requests: Sequence[GpuRequest]) -> None:
        super().__init__(nodes)
        self._mix = TypicalMix(requests, self.inventory.models)
        # Scores and GPUs by request, and the changes of each node when they were computed.
        self._known: dict[GpuRequest, tuple[FloatColumn, IntColumn, IntColumn]] = {}
        self._changes = np.zeros(len(nodes), np.int64)

    def place(self, request: GpuRequest) -> GpuPlacement | None:
        """See Policy."""
        placement = super().place(request)
        if placement:
            self._changes[placement.row] += 1
        return placement

    def score(self, request: GpuRequest, rows: IntColumn) -> FloatColumn:
        """See Baseline."""
        if request not in self._known:
            unknown = np.full(len(self.inventory), -1, np.int64)
            self._known[request] = (np.zeros(len(unknown)), np.zeros_like(unknown), unknown)
        scores, gpus, changes = self._known[request]
        old = rows[changes[rows] != self._changes[rows]]
        if len(old):
            scores[old], gpus[old] = self._evaluate(request, old)
            changes[old] = self._changes[old]
        return scores[rows]

    def pick(self, request: GpuRequest, row: int) -> tuple[int, ...]:
        """See Baseline: a share on the GPU for which the node was scored."""
        return (int(self._known[request][1][row]),) if request.is_share else super().pick(request, row)

    def _evaluate(self, request: GpuRequest, rows: IntColumn) -> tuple[FloatColumn, IntColumn]:
        """The best score of each node, and the GPU that has it."""
        inventory, slots = self.inventory, range(self.inventory.slots if request.is_share else 1)
        cpu_milli, gpu_milli, model = inventory.cpu_milli[rows], inventory.gpu_milli[rows], inventory.model[rows]
        before = self._mix.fragmentation(cpu_milli, gpu_milli, model)
        scores = np.full((len(slots), len(rows)), -1.0)
        for slot in slots:
            after, usable = _take(request, gpu_milli, slot)
            if usable.any():
                left = self._mix.fragmentation(cpu_milli[usable] - request.cpu_milli, after[usable], model[usable])
                gained = before[usable] - left
                scores[slot, usable] = np.floor(SCORE_TOP / (1 + np.exp(-gained / GPU_MILLI)))
        return scores.max(axis=0), scores.argmax(axis=0)


def _take(request: GpuRequest, gpu_milli: NDArray[np.int64], slot: int) -> tuple[NDArray[np.int64], BoolColumn]:
    """What the request leaves of the GPUs, a share on this one; and on which nodes it may have it."""
    after = gpu_milli.copy()
    if request.is_share:
        after[:, slot] -= request.gpu_milli
        return after, gpu_milli[:, slot] >= request.gpu_milli
    whole = gpu_milli == GPU_MILLI
    after[whole & (whole.cumsum(axis=1) <= request.gpu_count)] = 0
    return after, np.ones(len(gpu_milli), np.bool_)
