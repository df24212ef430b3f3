"""Chooses nodes and GPUs on line, so that the cluster can still take what is likely to be asked for.

A request goes where it destroys least of what nodes are worth (`lookahead`), rooms for gangs at their price (`price`)
included. A request that fits anywhere is never refused. Equal histories and seeds give equal placements.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from coordinator.scheduler.gpu.inventory import GpuInventory
from coordinator.scheduler.gpu.lookahead import Futures
from coordinator.scheduler.gpu.mix import RequestMix
from coordinator.scheduler.gpu.price import price_gang_room
from coordinator.scheduler.gpu.request import GPU_MILLI, GpuNode, GpuPlacement, GpuRequest
from coordinator.scheduler.gpu.state import Move, StateTable
from coordinator.scheduler.snapshot import FloatColumn, IntColumn

# Differences of worth below this many milli are errors of sampling. They count as equal and the first node wins, which
# keeps the others whole: without it room for gangs is spread away.
QUANTUM_MILLI: Final = 160.0
# Node states that one decision values at most, the most promising first. Bounds its time in a changed cluster.
STATES_PER_DECISION: Final = 32
# States, and ways to place requests in them, that are remembered: some 50 MB. Filling a cluster of 1200 nodes
# once reached 67,000 of them; what is forgotten is computed again.
STATE_LIMIT: Final = 100_000
# Scores of every node by request: of some 4000 different requests to 1000 nodes, 400 to 10,000.
SCORE_CACHE_BYTES: Final = 2**26


class GpuPacking:
    """The GPUs of a cluster, and the policy that gives them out. Not safe for several threads at once."""

    def __init__(self, nodes: Sequence[GpuNode], *, seed: int = 0, score_cache_bytes: int = SCORE_CACHE_BYTES) -> None:
        """`seed` decides which futures are drawn. Raises ValueError without a node."""
        self.inventory: Final = GpuInventory(nodes)
        self._mix = RequestMix(self.inventory.slots)
        self._random = np.random.default_rng(seed)
        self._futures: Futures | None = None
        self._table = StateTable()
        self._table_limit = max(STATE_LIMIT, STATES_PER_DECISION * len(nodes))
        self._values: dict[int, float] = {}
        self._state_of: IntColumn = np.zeros(len(nodes), np.int64)
        self._scores = _ScoreCache(len(nodes), score_cache_bytes)
        self._forget_states()

    def place(self, request: GpuRequest) -> GpuPlacement | None:
        """Where the request is now; None, when no node has room for it."""
        placement = self.choose(request)
        if placement is not None:
            self.take(placement)
        return placement

    def choose(self, request: GpuRequest) -> GpuPlacement | None:
        """Where the request had best go. Counts it as an arrival, and takes nothing."""
        self._learn(request)
        rows = np.flatnonzero(self.inventory.admit(request))
        scores = self._scores.get(request)
        if len(rows) == 0:
            return None
        rows = self._refresh(scores, request, rows)
        merits = scores.merit[rows] - self._gang_prices(scores, request, rows)
        row = int(rows[merits.argmax()])
        return self.inventory.pick(request, row, int(scores.free_milli[row]))

    def take(self, placement: GpuPlacement) -> None:
        """Allocates, also what was chosen elsewhere or earlier. Raises ValueError where there is no room for it."""
        self.inventory.take(placement)
        self._state_of[placement.row] = self._table.number(self.inventory.state(placement.row))

    def release(self, placement: GpuPlacement) -> None:
        """Gives back what was taken. Raises ValueError for what cannot have been."""
        self.inventory.release(placement)
        self._state_of[placement.row] = self._table.number(self.inventory.state(placement.row))

    def _learn(self, request: GpuRequest) -> None:
        if self._mix.observe(request):
            self._draw_futures()
            self._forget_states()
        elif len(self._table) > self._table_limit:
            self._forget_states()

    def _draw_futures(self) -> None:
        # Requests without GPUs compete for a node only where CPUs run out before GPUs do.
        cpu_bound = self._mix.cpu_milli > self.inventory.cpu_milli_per_gpu_milli * self._mix.gpu_milli
        requests, counts = self._mix.weigh(with_cpu_only=cpu_bound)
        self._futures = None
        if requests:
            inventory = self.inventory
            self._futures = Futures(requests, counts, inventory.models, inventory.slots, self._random)

    def _forget_states(self) -> None:
        self._table.clear()
        self._values.clear()
        self._state_of[:] = [self._table.number(state) for state in self.inventory.states()]

    def _gang_prices(self, scores: "_Scores", request: GpuRequest, rows: IntColumn) -> FloatColumn | float:
        prices = price_gang_room(self.inventory, self._mix) if request.gpu_count else None
        if prices is None:
            return 0.0
        taken = (scores.free_milli[rows] == GPU_MILLI) * 1 if request.is_share else request.gpu_count
        priced: FloatColumn = prices[self.inventory.whole_gpus[rows], taken]
        return priced

    def _refresh(self, scores: "_Scores", request: GpuRequest, rows: IntColumn) -> IntColumn:
        """Scores nodes that changed since, as many as a decision may, and answers those whose scores are current."""
        stale = rows[scores.state[rows] != self._state_of[rows]]
        if len(stale) == 0:
            return rows
        # An old score is a good guess at the new one.
        stale = stale[np.argsort(-scores.merit[stale], kind="stable")]
        states = list(dict.fromkeys(self._state_of[stale].tolist()))[:STATES_PER_DECISION]
        best = np.array(self._find_best_moves(request, states))
        order = np.argsort(states)
        ordered = np.array(states)[order]
        found = np.minimum(np.searchsorted(ordered, self._state_of[stale]), len(ordered) - 1)
        known = ordered[found] == self._state_of[stale]
        nodes, moves = stale[known], best[order[found[known]]]
        scores.merit[nodes] = np.floor(moves[:, 0] / QUANTUM_MILLI + 0.5) * QUANTUM_MILLI
        scores.free_milli[nodes] = moves[:, 1]
        scores.state[nodes] = self._state_of[nodes]
        current: IntColumn = rows[scores.state[rows] == self._state_of[rows]]
        return current

    def _find_best_moves(self, request: GpuRequest, states: list[int]) -> list[tuple[float, int]]:
        """For each state the gain in worth, mostly negative, and the free milli of the GPU that is taken."""
        moves = self._table.moves(request, states)
        self._value_states(states, moves)
        value = self._values
        best = []
        for state, ways in zip(states, moves, strict=True):
            gain, free_milli = max((value[after] - value[state], -free_milli) for free_milli, after in ways)
            best.append((gain, -free_milli))
        return best

    def _value_states(self, states: list[int], moves: list[tuple[Move, ...]]) -> None:
        wanted = dict.fromkeys(states)
        for ways in moves:
            wanted.update(dict.fromkeys(after for _, after in ways))
        unknown = [state for state in wanted if state not in self._values]
        if unknown and self._futures:
            values = self._futures.fill([self._table.states[state] for state in unknown])
            self._values.update(zip(unknown, values, strict=True))
        elif unknown:
            self._values.update(dict.fromkeys(unknown, 0.0))


class _Scores:
    """What placing one kind of request on each node is worth, as of the state that the node had then."""

    BYTES_PER_NODE: Final = 14

    def __init__(self, nodes: int) -> None:
        self.merit: Final[NDArray[np.float32]] = np.zeros(nodes, np.float32)
        self.free_milli: Final[NDArray[np.int16]] = np.zeros(nodes, np.int16)
        self.state: Final[IntColumn] = np.full(nodes, -1, np.int64)


class _ScoreCache:
    """Scores of the kinds of requests that came last."""

    def __init__(self, nodes: int, limit_bytes: int) -> None:
        self._nodes = nodes
        self._limit = max(1, limit_bytes // (nodes * _Scores.BYTES_PER_NODE))
        self._scores: OrderedDict[GpuRequest, _Scores] = OrderedDict()

    def __len__(self) -> int:
        return len(self._scores)

    def get(self, request: GpuRequest) -> _Scores:
        """The scores of the request, none current the first time."""
        scores = self._scores.get(request)
        if scores is None:
            scores = self._scores[request] = _Scores(self._nodes)
            if len(self._scores) > self._limit:
                self._scores.popitem(last=False)
        self._scores.move_to_end(request)
        return scores
