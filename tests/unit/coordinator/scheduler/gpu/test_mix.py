"""What the packing learns from arrivals."""

from coordinator.scheduler.gpu.mix import RequestMix
from tests.builders import a_gpu_request

SHARE, GANG, CPU_ONLY = a_gpu_request(1, 250), a_gpu_request(4), a_gpu_request(0)


def test_requests_are_counted_in_the_order_of_their_first() -> None:
    mix = RequestMix()
    for request in (GANG, SHARE, CPU_ONLY, SHARE):
        mix.observe(request)
    requests, counts = mix.weigh(with_cpu_only=True)
    assert (list(requests), counts.tolist()) == ([GANG, SHARE, CPU_ONLY], [1, 2, 1])
    assert mix.weigh(with_cpu_only=False)[0] == [GANG, SHARE]
    assert (mix.vcpus, mix.gpu_milli) == (16, 4500)
    assert mix.by_gpu_count == {0: 1, 1: 2, 4: 1}


def test_it_says_when_it_knows_twice_as_much() -> None:
    mix = RequestMix()
    assert [number for number in range(1, 40) if mix.observe(SHARE)] == [1, 2, 4, 8, 16, 32]


def test_what_was_not_seen_for_longest_is_forgotten() -> None:
    mix = RequestMix(request_limit=2)
    for request in (GANG, SHARE, GANG, CPU_ONLY):
        mix.observe(request)
    assert mix.weigh(with_cpu_only=True)[0] == [GANG, CPU_ONLY]
    assert len(mix) == 2


def test_old_arrivals_count_less() -> None:
    mix = RequestMix(horizon=64)
    for _ in range(1000):
        mix.observe(GANG)
    for _ in range(128):
        mix.observe(SHARE)
    requests, counts = mix.weigh(with_cpu_only=False)
    by_request = dict(zip(requests, counts.tolist(), strict=True))
    assert by_request[SHARE] > 5 * by_request[GANG]
    assert sum(mix.by_gpu_count.values()) < 64
