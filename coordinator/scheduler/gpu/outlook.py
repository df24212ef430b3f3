"""What placing a request does to the GPUs of a cluster: whether they can still serve what is likely to be asked for.

A request goes where it destroys least of what hosts are worth (`lookahead`), rooms for gangs at their price (`price`)
included. Equal histories and seeds give equal answers.
"""

from collections import OrderedDict
from typing import Final

import numpy as np
from numpy.typing import NDArray

from coordinator.domain.device import WHOLE_MILLI, DeviceType
from coordinator.domain.placement import HostView, ResourceClass
from coordinator.scheduler.column import FIRST_ROOM, BoolColumn, FloatColumn, IntColumn, widened
from coordinator.scheduler.gpu.lookahead import Futures
from coordinator.scheduler.gpu.mix import RequestMix
from coordinator.scheduler.gpu.price import price_gang_room
from coordinator.scheduler.gpu.request import GpuRequest
from coordinator.scheduler.gpu.state import Move, NodeState, StateTable, model_of, state_of

# Differences of worth below this many milli are errors of sampling. They count as equal, and some fixed host wins,
# which keeps the others whole: without it room for gangs is spread away.
QUANTUM_MILLI: Final = 160.0
# Host states that one decision values at most, the most promising first. Bounds its time in a changed cluster.
STATES_PER_DECISION: Final = 32
# States, and ways to place requests in them, that are remembered: some 50 MB. Filling a cluster of 1200 hosts
# once reached 67,000 of them; what is forgotten is computed again.
STATE_LIMIT: Final = 100_000
# Scores of every host by request: of some 4000 different requests to 1000 hosts, 400 to 10,000.
SCORE_CACHE_BYTES: Final = 2**26

_NO_STATE: Final = -1


class GpuOutlook:
    """The GPUs of all hosts, and what is known of those who ask for them. Not safe for several threads at once."""

    def __init__(self, *, seed: int = 0, score_cache_bytes: int = SCORE_CACHE_BYTES) -> None:
        """`seed` decides which futures are drawn."""
        self._mix = RequestMix()
        self._random = np.random.default_rng(abs(seed))
        self._futures: Futures | None = None
        # Hosts came that the futures do not know: with GPUs of other models, or more of them.
        self._outdated = False
        self._models: dict[frozenset[DeviceType], int] = {}
        self._slots = 0
        self._states: list[NodeState | None] = []
        self._table = StateTable()
        self._values: dict[int, float] = {}
        # Number of each host's state; -1 for hosts without GPUs.
        self._state_of: IntColumn = np.full(FIRST_ROOM, _NO_STATE, np.int64)
        # GPUs of which nothing is taken, GPU milli that are free and there are, vCPUs that there are.
        self._whole: IntColumn = np.zeros(FIRST_ROOM, np.int64)
        self._free_milli: IntColumn = np.zeros(FIRST_ROOM, np.int64)
        self._limit_milli: IntColumn = np.zeros(FIRST_ROOM, np.int64)
        self._limit_vcpus: IntColumn = np.zeros(FIRST_ROOM, np.int64)
        self._scores = _ScoreCache(FIRST_ROOM, score_cache_bytes)

    def put(self, row: int, host: HostView) -> None:
        """The host is what it is now; rows come one after the other."""
        gpus = model_of(host)
        if gpus and gpus not in self._models:
            self._models[gpus] = len(self._models)
            self._outdated = True
        state = state_of(host, self._models[gpus]) if gpus else None
        if row == len(self._states):
            self._states.append(state)
        else:
            self._states[row] = state
        self._state_of[row] = self._table.number(state) if state else _NO_STATE
        free_milli = state[3] if state else ()
        self._whole[row] = free_milli.count(WHOLE_MILLI)
        self._free_milli[row], self._limit_milli[row] = sum(free_milli), len(free_milli) * WHOLE_MILLI
        vcpus = host.capacities.get(ResourceClass.VCPU)
        self._limit_vcpus[row] = vcpus.limit if state and vcpus else 0
        if len(free_milli) > self._slots:
            self._slots = len(free_milli)
            self._outdated = True

    def move(self, row: int, to: int) -> None:
        """The host of the last row has another one."""
        self._states[to] = self._states[row]
        for column in (self._state_of, self._whole, self._free_milli, self._limit_milli, self._limit_vcpus):
            column[to] = column[row]

    def shrink(self) -> None:
        """The last row is no host's any more."""
        self._states.pop()
        row = len(self._states)
        for column in (self._whole, self._free_milli, self._limit_milli, self._limit_vcpus):
            column[row] = 0
        self._state_of[row] = _NO_STATE

    def widen(self) -> None:
        """Makes room for twice as many hosts."""
        self._state_of, self._whole = widened(self._state_of), widened(self._whole)
        self._state_of[len(self._state_of) // 2 :] = _NO_STATE
        self._free_milli, self._limit_milli = widened(self._free_milli), widened(self._limit_milli)
        self._limit_vcpus = widened(self._limit_vcpus)
        self._scores = _ScoreCache(len(self._state_of), self._scores.limit_bytes)

    def present(self, rows: IntColumn) -> BoolColumn:
        """Which of these hosts have GPUs."""
        found: BoolColumn = self._state_of[rows] != _NO_STATE
        return found

    def observe(self, request: GpuRequest) -> None:
        """Counts an arrival: those to come are taken to be like those that came."""
        if self._mix.observe(request):
            self._draw_futures()
        elif len(self._table) > max(STATE_LIMIT, STATES_PER_DECISION * len(self._states)):
            self._forget_states()

    def weigh(self, request: GpuRequest, rows: IntColumn) -> FloatColumn:
        """The GPU milli that a host gains, mostly loses, by taking the request.

        NaN where that was not looked at, because other hosts promise more.
        """
        gains: FloatColumn = np.zeros(len(rows))
        with_gpus = self.present(rows)
        hosts = rows[with_gpus]
        if len(hosts) == 0:
            return gains
        if self._outdated:
            self._draw_futures()
        scores = self._scores.get(request)
        current = self._refresh(scores, request, hosts)
        merits = scores.merit[hosts] - self._gang_prices(scores, request, hosts)
        gains[with_gpus] = np.where(current, merits, np.nan)
        return gains

    def choose_share(self, request: GpuRequest, row: int) -> int:
        """Free milli of the GPU of this host that a share had best come from."""
        if not request.is_share:
            return WHOLE_MILLI
        if self._outdated:
            self._draw_futures()
        return self._find_best_moves(request, [int(self._state_of[row])])[0][1]

    def _draw_futures(self) -> None:
        # Requests without GPUs compete for a host only where CPUs run out before GPUs do.
        vcpus_per_milli = float(self._limit_vcpus.sum()) / max(1, int(self._limit_milli.sum()))
        cpu_bound = self._mix.vcpus > vcpus_per_milli * self._mix.gpu_milli
        requests, counts = self._mix.weigh(with_cpu_only=cpu_bound)
        self._futures = None
        self._outdated = False
        if requests and self._slots:
            accepted = np.array([[_accepts(it, gpus) for it in requests] for gpus in self._models], np.bool_)
            self._futures = Futures(requests, counts, accepted, self._slots, self._random)
        self._forget_states()

    def _forget_states(self) -> None:
        self._table.clear()
        self._values.clear()
        numbers = [self._table.number(state) if state else _NO_STATE for state in self._states]
        self._state_of[: len(numbers)] = numbers

    def _gang_prices(self, scores: "_Scores", request: GpuRequest, rows: IntColumn) -> FloatColumn | float:
        if request.wish is None:
            return 0.0
        hosts_by_whole = np.bincount(self._whole, minlength=self._slots + 1)
        prices = price_gang_room(int(self._free_milli.sum()), hosts_by_whole, self._mix)
        if prices is None:
            return 0.0
        taken = (scores.free_milli[rows] == WHOLE_MILLI) * 1 if request.is_share else request.gpu_count
        priced: FloatColumn = prices[self._whole[rows], taken]
        return priced

    def _refresh(self, scores: "_Scores", request: GpuRequest, rows: IntColumn) -> BoolColumn:
        """Scores hosts that changed since, as many as a decision may; says which scores are current."""
        stale = rows[scores.state[rows] != self._state_of[rows]]
        if len(stale) == 0:
            return np.ones(len(rows), np.bool_)
        # An old score is a good guess at the new one.
        stale = stale[np.argsort(-scores.merit[stale], kind="stable")]
        states = list(dict.fromkeys(self._state_of[stale].tolist()))[:STATES_PER_DECISION]
        best = np.array(self._find_best_moves(request, states))
        order = np.argsort(states)
        ordered = np.array(states)[order]
        found = np.minimum(np.searchsorted(ordered, self._state_of[stale]), len(ordered) - 1)
        known = ordered[found] == self._state_of[stale]
        hosts, moves = stale[known], best[order[found[known]]]
        scores.merit[hosts] = np.floor(moves[:, 0] / QUANTUM_MILLI + 0.5) * QUANTUM_MILLI
        scores.free_milli[hosts] = moves[:, 1]
        scores.state[hosts] = self._state_of[hosts]
        current: BoolColumn = scores.state[rows] == self._state_of[rows]
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
            values = self._futures.fill([self._padded(self._table.states[state]) for state in unknown])
            self._values.update(zip(unknown, values, strict=True))
        elif unknown:
            self._values.update(dict.fromkeys(unknown, 0.0))

    def _padded(self, state: NodeState) -> NodeState:
        """With as many GPUs as the largest host has, the others full."""
        vcpus, memory_mib, model, gpus = state
        return vcpus, memory_mib, model, (*gpus, *[0] * (self._slots - len(gpus)))


def _accepts(request: GpuRequest, gpus: frozenset[DeviceType]) -> bool:
    return request.wish is None or any(map(request.wish.accepts, gpus))


class _Scores:
    """What placing one kind of request on each host is worth, as of the state that the host had then."""

    BYTES_PER_HOST: Final = 14

    def __init__(self, hosts: int) -> None:
        self.merit: Final[NDArray[np.float32]] = np.zeros(hosts, np.float32)
        self.free_milli: Final[NDArray[np.int16]] = np.zeros(hosts, np.int16)
        self.state: Final[IntColumn] = np.full(hosts, _NO_STATE, np.int64)


class _ScoreCache:
    """Scores of the kinds of requests that came last."""

    def __init__(self, hosts: int, limit_bytes: int) -> None:
        self.limit_bytes: Final = limit_bytes
        self._hosts = hosts
        self._limit = max(1, limit_bytes // (hosts * _Scores.BYTES_PER_HOST))
        self._scores: OrderedDict[GpuRequest, _Scores] = OrderedDict()

    def __len__(self) -> int:
        return len(self._scores)

    def get(self, request: GpuRequest) -> _Scores:
        """The scores of the request, none current the first time."""
        scores = self._scores.get(request)
        if scores is None:
            scores = self._scores[request] = _Scores(self._hosts)
            if len(self._scores) > self._limit:
                self._scores.popitem(last=False)
        self._scores.move_to_end(request)
        return scores
