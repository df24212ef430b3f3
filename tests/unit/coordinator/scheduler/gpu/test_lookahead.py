"""What nodes are worth, beside a plain simulation of the same futures."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.scheduler.gpu.lookahead import FUTURES, TRIES_PER_GPU, Futures
from coordinator.scheduler.gpu.request import GpuRequest
from coordinator.scheduler.gpu.state import NodeState
from tests.builders import a_gpu_request, a_gpu_wish

MODELS = ("A", "B")
SLOTS = 5
WORD = 64


def futures_of(requests: Sequence[GpuRequest], counts: Sequence[float], seed: int = 0) -> Futures:
    accepted = np.array([[accepts(request, model) for request in requests] for model in MODELS])
    return Futures(requests, np.array(counts, float), accepted, SLOTS, np.random.default_rng(seed))


def accepts(request: GpuRequest, model: str) -> bool:
    wanted = request.wish.attributes.get("model") if request.wish else None
    return wanted is None or model in wanted


def fill_plainly(requests: Sequence[GpuRequest], counts: Sequence[float], seed: int, state: NodeState) -> float:
    """The same futures, one request after the other."""
    words = -(-TRIES_PER_GPU * SLOTS // WORD)
    random = np.random.default_rng(seed).random((FUTURES, words * WORD)) * sum(counts)
    drawn = np.searchsorted(np.cumsum(counts), random, side="right")
    return float(np.mean([fill_one(state, [requests[kind] for kind in row]) for row in drawn]))


def fill_one(state: NodeState, future: Sequence[GpuRequest]) -> int:
    vcpus, memory_mib, model, gpus = state
    left = list(gpus)
    for request in future[: TRIES_PER_GPU * sum(gpu > 0 for gpu in gpus)]:
        fitting = sorted(gpu for gpu in left if gpu >= request.gpu_milli)
        accepted = accepts(request, MODELS[model])
        enough = request.vcpus <= vcpus and request.memory_mib <= memory_mib
        if not accepted or not enough or len(fitting) < request.gpu_count:
            continue
        vcpus, memory_mib = vcpus - request.vcpus, memory_mib - request.memory_mib
        for gpu in fitting[: request.gpu_count]:
            left.remove(gpu)
            left.append(gpu - request.gpu_milli)
    return sum(gpus) - sum(left)


models = st.lists(st.sampled_from([*MODELS, "C"]), max_size=2)
wishes_ = st.one_of(
    st.builds(lambda milli, names: a_gpu_wish(1, milli, *names), st.integers(1, 1000), models),
    st.builds(lambda count, names: a_gpu_wish(count, 1000, *names), st.integers(2, 6), models),
    st.none(),
)
requests_ = st.builds(GpuRequest, st.integers(0, 9), st.integers(0, 9), wishes_)
gpus_ = st.lists(st.sampled_from([0, 150, 400, 700, 1000]), min_size=SLOTS, max_size=SLOTS)
states_ = st.tuples(
    st.integers(0, 64), st.integers(0, 64), st.integers(0, 1), gpus_.map(lambda it: tuple(sorted(it, reverse=True)))
)


@settings(max_examples=60, deadline=None)
@given(st.lists(requests_, min_size=1, max_size=8), st.lists(states_, min_size=1, max_size=3), st.integers(0, 99))
def test_all_lanes_at_once_are_one_after_the_other(
    requests: list[GpuRequest], states: list[NodeState], seed: int
) -> None:
    counts = [1.0 + number for number in range(len(requests))]
    assert futures_of(requests, counts, seed).fill(states) == [
        pytest.approx(fill_plainly(requests, counts, seed, state)) for state in states
    ]


@pytest.mark.parametrize(
    ("state", "worth"),
    [
        ((64, 64, 0, (1000, 1000, 0, 0, 0)), 1800),
        ((64, 64, 0, (1000, 500, 200, 0, 0)), 1200),
        ((4, 64, 0, (1000, 1000, 0, 0, 0)), 600),
        ((64, 1, 0, (1000, 1000, 0, 0, 0)), 300),
        ((64, 64, 1, (1000, 1000, 0, 0, 0)), 0),
    ],
)
def test_a_node_is_worth_what_can_be_filled_in(state: NodeState, worth: float) -> None:
    assert futures_of([a_gpu_request(1, 300, 2, 1, "A")], [1]).fill([state]) == [worth]
