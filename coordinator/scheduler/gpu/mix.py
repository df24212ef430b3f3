"""What has been asked for so far: the best guess at what will be asked for."""

from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from coordinator.scheduler.column import FloatColumn
from coordinator.scheduler.gpu.request import GpuRequest

# Distinct requests that are counted. Clouds sell flavors: hundreds, not thousands. What was not seen for longest is
# forgotten first.
REQUEST_LIMIT: Final = 4096
# Arrivals after which all counts are halved. The last tens of thousands decide, and a mix that changed years after the
# start is learnt as fast as one that changed soon.
HORIZON_ARRIVALS: Final = 2**16


@dataclass(slots=True)
class _Tally:
    first: int
    count: float


class RequestMix:
    """Counts of equal requests, and what they want together."""

    def __init__(self, *, request_limit: int = REQUEST_LIMIT, horizon: int = HORIZON_ARRIVALS) -> None:
        """`horizon` is a power of two."""
        self._tallies: OrderedDict[GpuRequest, _Tally] = OrderedDict()
        self._request_limit = request_limit
        self._horizon = horizon
        self._first = 0
        self._arrivals = 0
        self.vcpus = 0.0
        self.gpu_milli = 0.0
        # Arrivals by the number of GPUs that they want.
        self.by_gpu_count: Final[dict[int, float]] = defaultdict(float)

    def __len__(self) -> int:
        return len(self._tallies)

    def observe(self, request: GpuRequest) -> bool:
        """Counts an arrival; says whether the mix is now about twice as well known as when it last said so."""
        tally = self._tallies.get(request)
        if tally is None:
            tally = self._tallies[request] = _Tally(self._first, 0.0)
            self._first += 1
        tally.count += 1.0
        self._tallies.move_to_end(request)
        if len(self._tallies) > self._request_limit:
            self._tallies.popitem(last=False)
        self._arrivals += 1
        self.vcpus += request.vcpus
        self.gpu_milli += request.demand_milli
        self.by_gpu_count[request.gpu_count] += 1.0
        doubled = not self._arrivals & (self._arrivals - 1)
        if self._arrivals >= self._horizon:
            self._halve()
        return doubled

    def weigh(self, *, with_cpu_only: bool) -> tuple[Sequence[GpuRequest], FloatColumn]:
        """The different requests in the order in which they first came, and how often each came."""
        tallies = sorted(self._tallies.items(), key=lambda item: item[1].first)
        chosen = [(request, tally.count) for request, tally in tallies if request.gpu_count or with_cpu_only]
        return [request for request, _ in chosen], np.array([count for _, count in chosen])

    def _halve(self) -> None:
        self._arrivals //= 2
        self.vcpus /= 2
        self.gpu_milli /= 2
        for gpu_count in self.by_gpu_count:
            self.by_gpu_count[gpu_count] /= 2
        for tally in self._tallies.values():
            tally.count /= 2
