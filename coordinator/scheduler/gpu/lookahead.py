"""What a node is worth: the GPU milli that requests like those seen so far would still fill into it.

Futures are sequences of requests drawn from the mix. Each fills a node on its own: in order, a share on the GPU where
it fits best, skipping what does not fit. So a node that has GPUs but few CPUs left is worth what small requests make of
it, and a rest of a GPU that no combination of shares fits is worth nothing.

All futures fill all nodes at once. The requests of a future are the bits of words, and what still fits is the
conjunction of words looked up by what the node has left of each resource. What does not fit now never will, so the
lowest bit left is always the next request to be placed.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from coordinator.domain.device import WHOLE_MILLI
from coordinator.scheduler.column import BoolColumn, FloatColumn, IntColumn
from coordinator.scheduler.gpu.request import GpuRequest
from coordinator.scheduler.gpu.state import NodeState

# Futures of a node. The mean of 16 is exact to about the quantum in which the packing compares; 32 place no better.
FUTURES: Final = 16
# Requests of a future that may try a node, for each GPU with anything left. From 6 on results hardly change.
TRIES_PER_GPU: Final = 16

_WORD_BITS: Final = 64
_ONE: Final = np.uint64(1)
_ALL: Final = ~np.uint64(0)

# Columns of what a request needs.
_CPU, _MEMORY, _SHARE, _COUNT = range(4)

Words = NDArray[np.uint64]


class Futures:
    """Random requests, drawn once and then the same for every node."""

    def __init__(
        self,
        requests: Sequence[GpuRequest],
        counts: FloatColumn,
        accepted: BoolColumn,
        slots: int,
        random: np.random.Generator,
    ) -> None:
        """Draws `requests` in proportion to `counts`; `slots` is the number of GPUs of the largest host.

        `accepted` says which model is good for which request: [model, request].
        """
        self._words = -(-TRIES_PER_GPU * slots // _WORD_BITS)
        shape = (FUTURES, self._words, _WORD_BITS)
        drawn = np.searchsorted(np.cumsum(counts), random.random(shape) * counts.sum(), side="right")
        needs = _needs_of(requests)[drawn]
        self._by_cpu = _Threshold(needs[..., _CPU])
        self._by_memory = _Threshold(needs[..., _MEMORY])
        self._by_share = _Threshold(needs[..., _SHARE])
        gangs = np.where(needs[..., _COUNT] > 1, needs[..., _COUNT], 0)
        self._by_whole = _Threshold(gangs) if gangs.any() else None
        self._by_model = _pack(accepted[:, drawn])
        # One more row, which is what a future without an acceptable request places: nothing.
        self._needs = np.pad(needs, ((0, 0), (0, 0), (0, 1), (0, 0)))

    def fill(self, states: Sequence[NodeState]) -> list[float]:
        """GPU milli filled into a node in each state, the mean over the futures."""
        lanes = _Lanes(states)
        for word in range(self._words):
            left = lanes.first_tries(word) & self._by_model[lanes.future, word, lanes.model]
            while (left := self._fitting(left, lanes, word)).any():
                lowest = left & (~left + _ONE)
                lanes.place(self._needs[lanes.future, word, np.bitwise_count(lowest - _ONE)])
                left ^= lowest
        return lanes.filled_milli()

    def _fitting(self, left: Words, lanes: "_Lanes", word: int) -> Words:
        left &= self._by_cpu.words(lanes.future, word, lanes.vcpus)
        left &= self._by_memory.words(lanes.future, word, lanes.memory_mib)
        left &= self._by_share.words(lanes.future, word, lanes.gpu_milli.max(axis=1))
        if self._by_whole:
            left &= self._by_whole.words(lanes.future, word, (lanes.gpu_milli == WHOLE_MILLI).sum(axis=1))
        return left


class _Threshold:
    """Which requests of the futures want no more of one resource than there is."""

    def __init__(self, wanted: IntColumn) -> None:
        self._levels = np.unique(wanted)
        bounds = np.concatenate(([-1], self._levels))
        self._words = _pack(wanted <= bounds[:, np.newaxis, np.newaxis, np.newaxis])

    def words(self, future: IntColumn, word: int, available: IntColumn) -> Words:
        """One word a lane."""
        found: Words = self._words[future, word, np.searchsorted(self._levels, available, side="right")]
        return found


class _Lanes:
    """Nodes while they are being filled: each state once for every future."""

    def __init__(self, states: Sequence[NodeState]) -> None:
        vcpus, memory_mib, model, gpus = zip(*states, strict=True)
        self.future: Final[IntColumn] = np.tile(np.arange(FUTURES), len(states))
        self.vcpus: IntColumn = np.repeat(np.array(vcpus, np.int64), FUTURES)
        self.memory_mib: IntColumn = np.repeat(np.array(memory_mib, np.int64), FUTURES)
        self.model: Final[IntColumn] = np.repeat(np.array(model, np.int64), FUTURES)
        self.gpu_milli: Final[IntColumn] = np.repeat(np.array(gpus, np.int64), FUTURES, axis=0)
        self._start_milli = self.gpu_milli.sum(axis=1)
        self._tries = (self.gpu_milli > 0).sum(axis=1) * TRIES_PER_GPU
        self._index = np.arange(len(self.future))

    def first_tries(self, word: int) -> Words:
        """The requests of this word of the future that may try at all."""
        tries = np.clip(self._tries - word * _WORD_BITS, 0, _WORD_BITS).astype(np.uint64)
        return np.where(tries == _WORD_BITS, _ALL, (_ONE << (tries % np.uint64(_WORD_BITS))) - _ONE)

    def place(self, needs: IntColumn) -> None:
        """Places one request in each lane, which has room for it."""
        self.vcpus -= needs[:, _CPU]
        self.memory_mib -= needs[:, _MEMORY]
        share = needs[:, _SHARE]
        best = np.where(self.gpu_milli >= share[:, np.newaxis], self.gpu_milli, WHOLE_MILLI + 1).argmin(axis=1)
        self.gpu_milli[self._index, best] -= share
        for taken in range(1, int(needs[:, _COUNT].max())):  # the other GPUs of gangs
            lanes = np.flatnonzero(needs[:, _COUNT] > taken)
            self.gpu_milli[lanes, (self.gpu_milli[lanes] == WHOLE_MILLI).argmax(axis=1)] = 0

    def filled_milli(self) -> list[float]:
        """What was placed in each state, the mean over its lanes."""
        filled = (self._start_milli - self.gpu_milli.sum(axis=1)).reshape(-1, FUTURES)
        means: list[float] = filled.mean(axis=1).tolist()
        return means


def _needs_of(requests: Sequence[GpuRequest]) -> IntColumn:
    return np.array([(it.vcpus, it.memory_mib, it.gpu_milli, it.gpu_count) for it in requests], np.int64)


def _pack(bits: BoolColumn) -> Words:
    """Words of bits, the first bit the lowest: [level, future, word, bit] to [future, word, level]."""
    packed = np.packbits(bits, axis=-1, bitorder="little").view("<u8")[..., 0]
    return np.ascontiguousarray(np.moveaxis(packed, 0, -1), np.uint64)
